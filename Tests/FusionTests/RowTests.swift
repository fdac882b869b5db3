import Core
import Foundation
import Testing

@testable import Fusion

@Suite("Partial rows")
struct RowTests {
  static let row = LogitsRow([0.5, 3, -1, 3, 2, -.infinity, 0])

  static func reduced(_ topK: Int, named: [Token] = [], logSumExp: Bool = false) throws -> PartialRow {
    try RowReducer.reduce(row, vocabulary: 7, topK: topK, named: named, logSumExp: logSumExp)
  }

  @Test("reduce: the k largest, the largest of the rest as floor, the named")
  func reduce() throws {
    #expect(
      try Self.reduced(3, named: [0, 3, 5])
        == PartialRow(
          topIDs: [1, 3, 4], topLogits: [3, 3, 2], floor: 0.5, namedIDs: [0, 3, 5], namedLogits: [0.5, 3, -.infinity]))
    #expect(try Self.reduced(1) == PartialRow(topIDs: [1], topLogits: [3], floor: 3))
    #expect(try Self.reduced(7).floor == -.infinity)
    #expect(try Self.reduced(99).topIDs == [1, 3, 4, 0, 6, 2, 5])
    #expect(try Self.reduced(0) == PartialRow(topIDs: [], topLogits: [], floor: 3))
    // Logits beyond the common vocabulary are cut, whatever they are.
    let longer = LogitsRow([1, 2, .nan, 9])
    #expect(
      try RowReducer.reduce(longer, vocabulary: 2, topK: 1, named: [], logSumExp: false)
        == PartialRow(topIDs: [1], topLogits: [2], floor: 1))
    let sum = Foundation.log([0.5, 3, -1, 3, 2, 0].reduce(0) { $0 + Foundation.exp($1) })
    #expect(abs(Double((try Self.reduced(1, logSumExp: true)).logSumExp ?? 0) - sum) < 1e-6)
    #expect(try Self.reduced(3, named: [0, 3, 5], logSumExp: true).payloadBytes == 8 * 3 + 8 * 3 + 8)
  }

  @Test("reduce: bad rows and names are refused with a sentence")
  func reduceRefuses() {
    func message(_ logits: [Float], named: [Token] = [], vocabulary: Int) -> String {
      do {
        _ = try RowReducer.reduce(
          LogitsRow(logits), vocabulary: vocabulary, topK: 2, named: named, logSumExp: true)
        return ""
      } catch { return "\(error)" }
    }
    #expect(message([1, .nan, 2], vocabulary: 3).contains("NaN as the logit of token 1"))
    #expect(message([1, 2, .infinity], vocabulary: 3).contains("+infinity as the logit of token 2"))
    #expect(message([1, 2], vocabulary: 3).contains("has 2 logits for a vocabulary of 3"))
    #expect(message([1, 2, 3], named: [2, 1], vocabulary: 3).contains("id 1 after 2"))
    #expect(message([1, 2, 3], named: [1, 1], vocabulary: 3).contains("id 1 after 1"))
    #expect(message([1, 2, 3], named: [3], vocabulary: 3).contains("id 3"))
    #expect(message([1, 2, 3], named: [-1], vocabulary: 3).contains("id -1"))
  }

  @Test("a partial row that contradicts itself is refused, not used")
  func contradictions() throws {
    var position = Position(vocabulary: 7)
    position.router = [Float](repeating: 0, count: 7)
    let scorer = try position.scorer()
    let good = try Self.reduced(3, named: [0, 3])
    if case .chosen(let choice) = try scorer.decide(good) {
      #expect(choice.token == 1)
    } else {
      Issue.record("undecided")
    }
    let changes: [(String, (inout PartialRow) -> Void)] = [
      ("more ids than logits", { $0.topLogits.removeLast() }),
      ("more names than logits", { $0.namedLogits.append(0) }),
      ("token out of range", { $0.topIDs[2] = 7 }),
      ("negative token", { $0.topIDs[0] = -1 }),
      ("token twice", { $0.topIDs[2] = 1 }),
      ("order", { $0.topLogits[0] = 1 }),
      ("tie order", { $0.topIDs.swapAt(0, 1) }),
      ("NaN", { $0.topLogits[1] = .nan }),
      ("infinity", { $0.topLogits[0] = .infinity }),
      ("NaN floor", { $0.floor = .nan }),
      ("floor above the top", { $0.floor = 2.5 }),
      ("named above the floor", { $0.namedLogits[0] = 0.6 }),
      ("two logits for one token", { $0.namedLogits[1] = 2.9 }),
      ("NaN among the named", { $0.namedLogits[0] = .nan }),
      ("unsorted names", { $0.namedIDs.reverse() }),
    ]
    for (name, change) in changes {
      var row = good
      change(&row)
      let error = #expect(throws: FusionRouteError.self, "\(name)") { try scorer.decide(row) }
      #expect(error?.code == .contradictoryRow, "\(name)")
    }
  }

  @Test("the audit passes true rows, and floors above the truth")
  func auditPasses() throws {
    var random = seededGenerator("audit", default: 51)
    for _ in 0..<200 {
      let v = 1 + random.below(300)
      let row = LogitsRow((0..<v).map { _ in random.chance(0.1) ? -.infinity : Float(random.below(40)) / 4 })
      let named = (0..<v).filter { _ in random.chance(0.1) }.map { Token($0) }
      var partial = try RowReducer.reduce(
        row, vocabulary: v, topK: random.pick([0, 1, 32, v]), named: named, logSumExp: true)
      #expect(try RowAudit.check(partial: partial, full: row, vocabulary: v) == nil)
      if let least = partial.topLogits.last, least > partial.floor {
        partial.floor = partial.floor.nextUp
        #expect(try RowAudit.check(partial: partial, full: row, vocabulary: v) == nil)
      }
    }
  }

  @Test("the audit catches a floor understated by one ulp of a true logit, in every row")
  func auditCatchesFloor() throws {
    var random = seededGenerator("understated floor", default: 52)
    for _ in 0..<500 {
      let v = 40 + random.below(300)
      let row = LogitsRow((0..<v).map { _ in Float(random.normal() * 4) })
      var partial = try RowReducer.reduce(row, vocabulary: v, topK: 32, named: [], logSumExp: false)
      let truth = partial.floor
      partial.floor = truth.nextDown
      guard
        case .understatedFloor(let floor, let token, let logit) = try RowAudit.check(
          partial: partial, full: row, vocabulary: v)
      else {
        Issue.record("not caught")
        continue
      }
      #expect(floor == truth.nextDown && logit == truth && row[token] == truth && !partial.topIDs.contains(token))
    }
  }

  @Test("the audit catches wrong logits, a withheld top token and a wrong log-sum-exp")
  func auditCatchesRest() throws {
    let good = try Self.reduced(3, named: [0, 3], logSumExp: true)
    func finding(_ change: (inout PartialRow) -> Void) throws -> AuditFinding? {
      var row = good
      change(&row)
      return try RowAudit.check(partial: row, full: Self.row, vocabulary: 7)
    }
    #expect(try finding { _ in } == nil)
    #expect(try finding { $0.topLogits[2] = 2.5 } == .wrongLogit(token: 4, returned: 2.5, actual: 2))
    #expect(
      try finding { $0.namedLogits[0] = Float(0.5).nextDown }
        == .wrongLogit(token: 0, returned: Float(0.5).nextDown, actual: 0.5))
    let withheld = try finding {
      $0.topIDs = [1, 4]
      $0.topLogits = [3, 2]
      $0.namedIDs = []
      $0.namedLogits = []
    }
    #expect(withheld == .understatedFloor(floor: 0.5, token: 3, logit: 3))
    let sum = try finding { $0.logSumExp = 4 }
    guard case .wrongLogSumExp(returned: 4, _) = sum else {
      Issue.record("\(String(describing: sum))")
      return
    }
    guard case .malformedTop(let why) = try finding({ $0.topIDs[1] = 1 }) else {
      Issue.record("not caught")
      return
    }
    #expect(why.contains("token 1"))
    #expect(throws: FusionRouteError.self) { try RowAudit.check(partial: good, full: LogitsRow([1]), vocabulary: 7) }
  }
}

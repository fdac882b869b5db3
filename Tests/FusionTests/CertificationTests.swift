import Core
import Foundation
import Testing

@testable import Fusion

@Suite("Certification")
struct CertificationTests {
  /// Rows of many kinds, most of them hostile to a shortcut.
  static func rows(_ v: Int, _ random: inout SplitMix64) -> (router: [Float], expert: [Float]) {
    var router = [Float](repeating: 0, count: v)
    var expert = router
    let kind = random.below(11)
    for i in 0..<v {
      switch kind {
      case 0:  // heavy tails, both alike
        let base = -2 * Foundation.log(-Foundation.log(random.uniform() + 1e-12))
        (router[i], expert[i]) = (Float(base + 0.3 * random.normal()), Float(base + 0.3 * random.normal()))
      case 1: (router[i], expert[i]) = (Float(random.normal() * 3), Float(random.normal() * 3))
      case 2: (router[i], expert[i]) = (Float(random.below(3)), Float(random.below(3)))
      case 3: (router[i], expert[i]) = (2, -1)
      case 4:  // each loves what the other loathes
        let x = Float(random.normal() * 4)
        (router[i], expert[i]) = (x, -x)
      case 5:
        (router[i], expert[i]) = (Float(random.below(4)) * Float(1).ulp + 1, Float(random.below(4)) * Float(1).ulp + 1)
      case 6:
        (router[i], expert[i]) = (Float(random.normal() * 1e30), Float(random.normal() * 1e30))
      case 7: (router[i], expert[i]) = (random.pick([0, -0.0]), Float.leastNonzeroMagnitude * Float(random.below(3)))
      case 9:  // so large that the noise is rounded away: ties at T > 0
        (router[i], expert[i]) = (0x1p30 + Float(random.below(3) * 64), Float(random.below(3) * 64))
      case 8: (router[i], expert[i]) = (Float(i), Float(v - i))
      default: (router[i], expert[i]) = (Float(random.normal()), Float(random.normal()))
      }
    }
    if random.chance(0.3) {
      let share = random.pick([0.02, 0.5, 0.98])
      for i in 0..<v {
        if random.chance(share) { router[i] = -.infinity }
        if random.chance(share) { expert[i] = -.infinity }
      }
    }
    if random.chance(0.15) {
      // A winner in the middle of both lists: decoys of the one are hopeless in the other.
      for _ in 0..<(v / 3) {
        let (a, b) = (random.below(v), random.below(v))
        (router[a], expert[a]) = (9, -30)
        (router[b], expert[b]) = (-30, 9)
      }
      let winner = random.below(v)
      (router[winner], expert[winner]) = (8.5, 8.5)
    }
    return (router, expert)
  }

  static func parameters(_ v: Int, _ random: inout SplitMix64) -> SamplingParameters {
    var parameters = SamplingParameters(seed: random.next())
    parameters.temperature = random.pick([0, 0, 0.7, 1, 1, 2, 1e-3, 60])
    if random.chance(0.3) { parameters.topK = random.pick([1, 2, 5, 40, v, v + 3, 1 + random.below(v)]) }
    if random.chance(0.3) { parameters.topP = random.pick([0, 0.1, 0.5, 0.9, 0.95, 0.999, Float(random.uniform())]) }
    if random.chance(0.3) { parameters.minP = random.pick([0.01, 0.05, 0.5, 1, Float(random.uniform())]) }
    if random.chance(0.3) { parameters.repetitionPenalty = random.pick([0.5, 0.9, 1.1, 1.3, 2]) }
    if random.chance(0.3) { parameters.presencePenalty = random.pick([-1.5, 0.5, 2]) }
    if random.chance(0.3) { parameters.frequencyPenalty = random.pick([-0.5, 0.25, 1]) }
    if random.chance(0.3) {
      for _ in 0..<(1 + random.below(4)) {
        parameters.logitBias[Token(random.below(v))] = random.pick([-.infinity, -100, -1, 0.5, 7, 100])
      }
    }
    return parameters
  }

  static func position(_ random: inout SplitMix64) -> Position {
    let v = random.pick([1, 2, 2, 3, 5, 17, 40, 100, 150, 300, 300])
    var position = Position(vocabulary: v)
    let (router, expert) = rows(v, &random)
    position.router = router
    position.expert = expert
    switch random.below(10) {
    case 0: position.router = nil
    case 1: position.expert = nil
    default: position.scale = random.pick([1, 1, 1, 0, 0.5, 1.7])
    }
    position.parameters = parameters(v, &random)
    position.prompt = (0..<random.pick([1, 10, 100])).map { _ in Token(random.below(v)) }
    position.generated = (0..<random.pick([0, 3, 30, 80])).map { _ in Token(random.below(v)) }
    if random.chance(0.1) { position.banned = (0..<random.below(4)).map { _ in Token(random.below(v)) } }
    position.outputIndex = position.generated.count
    position.choice = random.below(3)
    return position
  }

  @Test("10,000 random and adversarial rows: partial rows decide what the full row and the oracle decide")
  func property() throws {
    var random = seededGenerator("certification", default: 31)
    var (partial, full, failed, edges) = (0, 0, 0, 0)
    for round in 0..<10_000 {
      let start = random
      let position = Self.position(&random)
      let (topK, candidates) = (random.pick([1, 1, 2, 8, 32]), random.pick([0, 1, 8, 32]))
      var oracle = Oracle(position)
      let expected = oracle.token()
      let ladder = Ladder(position, topK: topK, candidates: candidates)
      let whole = Result {
        let scorer = try position.scorer()
        guard let expert = position.expert else { return try scorer.decideWithoutExpert() }
        return try scorer.decide(full: LogitsRow(expert))
      }
      let choice = try? whole.get()
      #expect(ladder.choice == choice, "round \(round), state \(start): \(position)")
      if oracle.nearEdge && choice?.token != expected {
        edges += 1
      } else {
        #expect(choice?.token == expected, "round \(round), state \(start): \(position)")
      }
      if let choice {
        let v = Int(choice.token)
        let x = position.router.map { $0[v] == -.infinity ? $0[v] : position.scale * $0[v] }
        let score = position.expert.map { e in x.map { $0 + e[v] } ?? e[v] } ?? x
        #expect(choice.score == score)
        #expect(choice.routerLogit == position.router?[v] && choice.expertLogit == position.expert?[v])
      } else {
        guard case .failure(let error) = whole else { continue }
        #expect("\(error)".contains("no token can be chosen"))
        #expect(ladder.error == "\(error)")
        failed += 1
      }
      if ladder.fullRow { full += 1 } else { partial += 1 }
    }
    print(
      "certification: \(partial) rows decided in part, \(full) in full, \(failed) without a token, \(edges) at an edge")
    // Else the test would only compare the full row with itself.
    #expect(partial > 3_000 && full > 1_000 && failed > 10)
    #expect(edges < 10)
  }

  @Test("every rung of the ladder at larger vocabularies decides what the full row decides")
  func rungs() throws {
    var random = seededGenerator("ladder", default: 32)
    var statistics = CertificationStatistics()
    for _ in 0..<300 {
      let v = random.pick([1_500, 9_000, 20_000, 20_000])
      var position = Position(vocabulary: v)
      let key = NoiseKey(seed: random.next(), choice: 0, outputIndex: 0)
      let base = RowKernels.best.noise(count: v, temperature: random.pick([0.1, 0.5, 1, 2]), key: key)
      let noise = { (seed: UInt64, strength: Double) in
        RowKernels.best.noise(
          count: v, temperature: strength, key: NoiseKey(seed: seed, choice: 0, outputIndex: 0), on: base)
      }
      let strength = random.pick([0.01, 0.3, 1, 3])
      position.router = noise(random.next(), strength)
      position.expert = noise(random.next(), strength)
      position.parameters = Self.parameters(v, &random)
      position.parameters.temperature = random.pick([0, 0.8, 1, 1.5])
      position.prompt = (0..<20).map { _ in Token(random.below(v)) }
      let ladder = Ladder(position, topK: random.pick([1, 32]), candidates: random.pick([0, 32]))
      let expert = LogitsRow(position.expert ?? [])
      #expect(ladder.choice == (try position.scorer().decide(full: expert)))
      statistics.record(partialRows: ladder.rows, fullRow: ladder.fullRow ? v : nil)
    }
    print("ladder:", statistics)
    for rung in CertificationLadder.topK { #expect((statistics.decidedByTopK[rung] ?? 0) > 0) }
    #expect(statistics.fullRows > 0)
  }

  @Test("a bound that only equals the best score escalates: the unknown token may have the lower id")
  func equalityEscalates() throws {
    // Token 0 scores 1 + 1, and so does token 2; only token 2 is returned.
    var position = Position(vocabulary: 200)
    position.router = [1, 0, 1] + [Float](repeating: -5, count: 197)
    position.expert = [1, 1, 1] + [Float](repeating: -5, count: 197)
    let scorer = try position.scorer()
    let known = PartialRow(topIDs: [1], topLogits: [1], floor: 1, namedIDs: [2], namedLogits: [1])
    #expect(try scorer.decide(known) == .needs(topK: 32))
    // The floor is one ulp lower, but 1 + that still rounds to 2.
    let lower = PartialRow(topIDs: [0, 1], topLogits: [1, 1], floor: Float(1).nextDown)
    #expect(try scorer.decide(lower) == .needs(topK: 32))
    let certain = PartialRow(topIDs: [0, 1], topLogits: [1, 1], floor: 0.5)
    guard case .chosen(let choice) = try scorer.decide(certain) else {
      Issue.record("undecided")
      return
    }
    #expect(choice == Choice(token: 0, score: 2, routerLogit: 1, expertLogit: 1))
  }

  @Test("rounding can make a lesser sum equal: the bound is rounded as the scores are")
  func roundedEquality() throws {
    // 2^24 + 1 rounds to 2^24: token 0, not returned, ties with token 1 and has the lower id.
    let large = Float(0x1p24)
    var position = Position(vocabulary: 150)
    position.router = [large, large] + [Float](repeating: 0, count: 148)
    position.expert = [0, 1] + [Float](repeating: -9, count: 148)
    let row = LogitsRow(position.expert ?? [])
    let scorer = try position.scorer()
    #expect(try scorer.decide(full: row).token == 0)
    let partial = try RowReducer.reduce(row, vocabulary: 150, topK: 1, named: [], logSumExp: false)
    #expect(partial.topIDs == [1] && partial.floor == 0)
    #expect(try scorer.decide(partial) == .needs(topK: 32))
  }

  @Test("candidates: the best by score, the repetition window, none that ties with what is left out")
  func candidates() throws {
    var position = Position(vocabulary: 100)
    position.router = (0..<100).map { Float($0 / 2) }
    #expect(try position.scorer().candidates(limit: 2) == [98, 99])
    #expect(try position.scorer().candidates(limit: 3) == [98, 99])
    #expect(try position.scorer().candidates(limit: 0) == [])
    #expect(try position.scorer().candidates(limit: 50).count == 50)
    #expect(try position.scorer().candidates(limit: 200).count == 100)
    position.parameters.logitBias = [3: 200, 99: -.infinity]
    #expect(try position.scorer().candidates(limit: 2) == [3, 98])
    position.parameters.repetitionPenalty = 1.2
    position.prompt = [7, 98, 7]
    #expect(try position.scorer().candidates(limit: 2) == [3, 7, 98])
    // With the expert alone and nothing added, naming cannot help.
    position = Position(vocabulary: 100)
    #expect(try position.scorer().candidates(limit: 32) == [])
    position.parameters.logitBias = [5: 1, 6: -1]
    #expect(try position.scorer().candidates(limit: 32) == [5])
  }

  @Test("a repetition penalty counts the last 64 tokens and names them")
  func repetitionWindow() throws {
    var position = Position(vocabulary: 300)
    position.router = [Float](repeating: 0, count: 300)
    position.expert = [5, 4] + [Float](repeating: 0, count: 298)
    position.parameters.repetitionPenalty = 2
    position.prompt = [0] + (0..<63).map { Token(100 + $0) }
    let row = LogitsRow(position.expert ?? [])
    // Token 0 is the 64th from the end: 5 / 2 < 4. One token more, and it is out of the window.
    #expect(try position.scorer().decide(full: row).token == 1)
    position.generated = [299]
    #expect(try position.scorer().decide(full: row).token == 0)
    position.generated = []
    let unnamed = try RowReducer.reduce(row, vocabulary: 300, topK: 4, named: [], logSumExp: false)
    let scorer = try position.scorer()
    let error = #expect(throws: FusionRouteError.self) { try scorer.decide(unnamed) }
    #expect(error?.message.contains("lacks token 100") == true)
  }
}

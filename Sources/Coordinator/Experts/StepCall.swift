internal import Core
internal import Fusion
internal import Wire

/// How a request to a replica ended.
enum CallOutcome: Sendable {
  case reply(StepResult)
  case missing(HeldPrefix)
  /// The worker refused or failed: code of the wire protocol, sentence.
  case failure(Failure.Code, message: String)
  /// The replica died, hangs, or the deadline passed.
  case lost(reason: String)
  case cancelled
}

/// A step's answer: one row per wanted position, ascending.
struct StepResult: Sendable {
  enum Row: Sendable {
    case partial(PartialRow)
    case full(LogitsRow)
  }

  /// Who computed it.
  var replica: ReplicaID
  var rows: [Row]
  var evaluatedTokens: Int
  var queueNanoseconds: UInt64
  var computeNanoseconds: UInt64
  /// From sending the request to having decoded the reply.
  var roundTripNanoseconds: UInt64
}

/// Puts a step's answer together: the header, and the full rows that follow it in chunks.
struct StepAssembly: Sendable {
  let epoch: UInt32
  let sequence: UInt64
  let length: Int
  let wants: [Step.Want]
  let vocabulary: Int
  private var reply: StepReply?
  private var building: [Int: [Float]] = [:]

  init(epoch: UInt32, sequence: UInt64, length: Int, wants: [Step.Want], vocabulary: Int) {
    self.epoch = epoch
    self.sequence = sequence
    self.length = length
    self.wants = wants
    self.vocabulary = vocabulary
  }

  /// Takes the header in; throws when it does not answer what was asked.
  mutating func accept(_ reply: StepReply) throws(FusionRouteError) {
    let answered = wants.filter(\.isAnswered)
    guard self.reply == nil, reply.sequence == sequence, reply.epoch == epoch, reply.length == length,
      reply.rows.map(\.position) == answered.map(\.position)
    else { throw .internal("a worker's reply does not fit the step it answers") }
    for (row, want) in zip(reply.rows, answered) {
      let fits =
        want.fullRow
        ? row.fullCount == vocabulary
        : row.topIDs.count == min(want.topK, vocabulary) && row.namedLogits.count == want.named.count
          && row.topIDs.allSatisfy { Int($0) < vocabulary }
      guard fits else { throw .internal("a worker's row does not fit what was asked for position \(want.position)") }
    }
    self.reply = reply
  }

  /// Takes one chunk of a full row in; chunks arrive in order.
  mutating func accept(_ chunk: RowChunk) throws(FusionRouteError) {
    let position = chunk.position
    guard wants.contains(where: { $0.position == position && $0.fullRow }), chunk.total == vocabulary,
      chunk.offset == building[position, default: []].count, chunk.offset + chunk.values.count <= vocabulary
    else { throw .internal("a worker sent a part of a row that nobody asked for") }
    building[position, default: []].append(contentsOf: chunk.values)
  }

  /// The rows, once header and every chunk are here.
  var result: (rows: [StepResult.Row], reply: StepReply)? {
    guard let reply else { return nil }
    var rows: [StepResult.Row] = []
    for row in reply.rows {
      if row.fullCount > 0 {
        guard let values = building[row.position], values.count == vocabulary else { return nil }
        rows.append(.full(LogitsRow(values)))
      } else {
        let named = wants.first { $0.position == row.position }?.named ?? []
        rows.append(
          .partial(
            PartialRow(
              topIDs: row.topIDs, topLogits: row.topLogits, floor: row.floor ?? -.infinity, namedIDs: named,
              namedLogits: row.namedLogits, logSumExp: row.logSumExp)))
      }
    }
    return (rows, reply)
  }
}

internal import Core
internal import Fusion
internal import Inference
internal import Synchronization
internal import Wire

/// One scoring request on its way through the decoder, `blockSize` positions at a time.
final class ScoreRun: Sendable {
  typealias Deliver = @Sendable (DecodedRow) -> Void
  typealias Completion = @Sendable (Result<DecodeSummary, FusionRouteError>) -> Void
  /// Starts the decoding of the rows of a block of positions.
  typealias Decode = @Sendable (ClosedRange<Int>, @escaping Deliver, @escaping Completion) -> Void

  static let blockSize = 32

  private struct Block {
    var logProbabilities: [Float] = []
    var argmaxes: [Token] = []
    var topIDs: [Token] = []
    var topLogits: [Float] = []
    var logSumExps: [Float] = []
    var failure: String?
  }

  private let score: Score
  private let vocabulary: Int
  private let outlet: any Outlet
  private let decode: Decode
  private let ended: @Sendable () -> Void
  private let block = Mutex(Block())

  init(
    score: Score, vocabulary: Int, outlet: any Outlet, decode: @escaping Decode, ended: @escaping @Sendable () -> Void
  ) {
    self.score = score
    self.vocabulary = vocabulary
    self.outlet = outlet
    self.decode = decode
    self.ended = ended
  }

  /// Position p predicts tokens[p + 1].
  func next(from position: Int) {
    let end = min(position + Self.blockSize, score.tokens.count - 1)
    decode(position...(end - 1), { self.put($0) }) { result in
      switch result {
      case .failure(let error): self.fail(Failure.Code(error), error.message)
      case .success: self.finishBlock(from: position, to: end)
      }
    }
  }

  private func put(_ row: DecodedRow) {
    do {
      let given = score.tokens[row.position + 1]
      let partial = try RowReducer.reduce(
        row.logits, vocabulary: vocabulary, topK: max(1, score.topK), named: [given], logSumExp: true)
      guard let sum = partial.logSumExp, let logit = partial.namedLogits.first, let best = partial.topIDs.first else {
        throw FusionRouteError.internal("a row could not be reduced")
      }
      if score.fullRows {
        for chunk in RowChunk.chunks(
          of: row.logits, request: score.request, coordinator: score.coordinator,
          position: row.position, vocabulary: vocabulary)
        { outlet.send(.rowChunk(chunk)) }
      }
      block.withLock { block in
        block.logProbabilities.append(logit - sum)
        block.argmaxes.append(best)
        guard score.topK > 0 else { return }
        block.topIDs += partial.topIDs
        block.topLogits += partial.topLogits
        block.logSumExps.append(sum)
      }
    } catch {
      block.withLock { if $0.failure == nil { $0.failure = "\(error)" } }
    }
  }

  private func finishBlock(from position: Int, to end: Int) {
    let done = block.withLock { block in
      defer { block = Block() }
      return block
    }
    if let failure = done.failure { return fail(.internal, failure) }
    let last = end == score.tokens.count - 1
    outlet.send(
      .scoreReply(
        ScoreReply(
          request: score.request, coordinator: score.coordinator, first: position + 1, topK: score.topK, last: last,
          logProbabilities: done.logProbabilities, argmaxes: done.argmaxes, topIDs: done.topIDs,
          topLogits: done.topLogits, logSumExps: done.logSumExps)))
    if last { return ended() }
    outlet.whenDrained(for: score.coordinator) { goesOn in
      if goesOn { self.next(from: end) } else { self.ended() }
    }
  }

  private func fail(_ code: Failure.Code, _ message: String) {
    outlet.send(
      .failure(Failure(request: score.request, coordinator: score.coordinator, code: code, message: message)))
    ended()
  }
}

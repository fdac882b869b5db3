internal import Core
internal import Fusion
internal import Inference
internal import Logging
internal import Synchronization
internal import Wire

/// A sequence of one coordinator.
struct SequenceKey: Hashable, Sendable {
  var coordinator: UInt64
  var sequence: UInt64

  /// The decoder's key: one number per sequence; a clash would cost speed only.
  var decoderKey: UInt64 { SplitMix64.mix(coordinator) ^ sequence }
}

/// Answers steps: judges them against the tokens held, has the decoder compute what is missing, reduces rows.
///
/// Called on messaging threads; nothing here waits for a forward pass.
final class ExpertService: Sendable {
  /// Where an answer goes.
  typealias Respond = @Sendable (WireMessage) -> Void

  private struct State {
    var cache: PrefixCache<SequenceKey>
    var rows: RowStore
    /// Decoder requests under way and when they lose their point.
    var deadlines: [UInt64: ContinuousClock.Instant] = [:]
    /// Those of them that were cancelled: a scoring request may be between two turns in the decoder, which then knows
    /// nothing of it.
    var cancelled: Set<UInt64> = []
  }

  let engine: any StepEngine
  /// The engine, where there is a model.
  var decoder: BatchingDecoder? { engine as? BatchingDecoder }
  let context: Int
  let vocabularySize: Int
  let maximumPositions: Int
  private let logger: Logger
  private let state: Mutex<State>

  init(engine: any StepEngine, slots: Int, context: Int, vocabularySize: Int, maximumPositions: Int, logger: Logger) {
    self.engine = engine
    self.context = context
    self.vocabularySize = vocabularySize
    self.maximumPositions = maximumPositions
    self.logger = logger
    state = Mutex(
      State(
        // Tokens are cheap next to the KV cache: a sequence that lost its slot is recomputed here, not sent again.
        cache: PrefixCache(capacity: slots * 8, context: context),
        rows: RowStore(capacity: 2 * slots + maximumPositions)))
  }

  /// Requests that have not been answered yet.
  var pending: Int { state.withLock { $0.deadlines.count } }

  /// Sequences whose coordinator may still ask for more.
  var openSequences: Int { state.withLock { $0.cache.count } }

  /// Stops work whose deadline has passed: its coordinator has given it up.
  func expire(now: ContinuousClock.Instant = .now) {
    let expired = state.withLock { state in
      let expired = state.deadlines.filter { $0.value < now }.map(\.key)
      state.cancelled.formUnion(expired)
      return expired
    }
    for request in expired { engine.cancel(request: request) }
  }

  private func began(_ request: UInt64, deadlineMilliseconds: Int) {
    state.withLock { $0.deadlines[request] = .now + .milliseconds(deadlineMilliseconds) }
  }

  private func ended(_ request: UInt64) {
    state.withLock { state in
      state.deadlines[request] = nil
      state.cancelled.remove(request)
    }
  }

  // MARK: Steps

  func step(_ step: Step, vocabulary common: Int, respond: @escaping Respond) {
    let key = SequenceKey(coordinator: step.coordinator, sequence: step.sequence)
    if let complaint = complaint(about: step, vocabulary: common) {
      respond(.failure(Failure(step, complaint.code, complaint.message)))
      return
    }
    let prefix = PrefixStep(
      epoch: step.epoch, baseLength: step.baseLength, baseHash: step.baseHash, append: step.append)
    let answer = state.withLock { $0.cache.receive(prefix, for: key) }
    switch answer {
    case .missing(let held):
      respond(
        .prefixMissing(
          PrefixMissing(
            request: step.request, coordinator: step.coordinator, sequence: step.sequence, epoch: step.epoch,
            haveLength: held.length, haveHash: held.hash)))
    case .stale:
      respond(.failure(Failure(step, .cancelled, "the step belongs to an epoch that was given up")))
    case .tooLong(let length):
      let message = "the sequence would have \(length) tokens and this expert's context holds \(context)"
      respond(.failure(Failure(step, .context, message)))
    case .evaluate(let tokens, _): evaluate(step, key: key, tokens: tokens, vocabulary: common, respond: respond)
    }
  }

  private func complaint(about step: Step, vocabulary: Int) -> (code: Failure.Code, message: String)? {
    if let bad = step.append.first(where: { Int($0) >= vocabularySize || $0 < 0 }) {
      return (.invalid, "token \(bad) is outside the vocabulary of \(vocabularySize) tokens")
    }
    let length = step.baseLength + step.append.count
    guard step.wants.count <= maximumPositions else {
      return (.invalid, "a step may ask for \(maximumPositions) positions, this one asks for \(step.wants.count)")
    }
    for want in step.wants {
      guard want.position < length else {
        return (.invalid, "position \(want.position) lies beyond the prefix of \(length) tokens")
      }
      if let bad = want.named.first(where: { Int($0) >= vocabulary }) {
        return (.invalid, "named token \(bad) is outside the common vocabulary of \(vocabulary) tokens")
      }
    }
    return nil
  }

  private func evaluate(
    _ step: Step, key: SequenceKey, tokens: [Token], vocabulary: Int, respond: @escaping Respond
  ) {
    let (prefixes, kept) = state.withLock { state in
      let prefixes = step.wants.map { state.cache.hash(of: key, at: $0.position + 1) ?? .empty }
      return (prefixes, prefixes.map { state.rows.row(after: $0) })
    }
    let answer = StepAnswer(step: step, vocabulary: vocabulary, kept: kept)
    let missing = zip(step.wants, kept).filter { $0.1 == nil }.map(\.0.position)
    // Rows at hand and nothing to compute: the answer can leave from here.
    if missing.isEmpty, !step.wants.isEmpty {
      log(step, evaluated: 0, queue: 0, compute: 0)
      answer.finish(evaluated: 0, queue: 0, compute: 0, respond: respond)
      return
    }
    let request = requestID(coordinator: step.coordinator, request: step.request)
    began(request, deadlineMilliseconds: step.deadlineMilliseconds)
    let positions = Dictionary(zip(step.wants.map(\.position), prefixes), uniquingKeysWith: { a, _ in a })
    engine.submit(
      DecodeRequest(
        id: request, sequence: key.decoderKey, tokens: tokens, wanted: missing, wantsHidden: false,
        deliver: { [self] row in
          answer.put(row.logits, at: row.position)
          if let prefix = positions[row.position] {
            state.withLock { $0.rows.keep(row.logits, after: prefix) }
          }
        },
        completion: { [self] result in
          switch result {
          case .success(let summary):
            log(
              step, evaluated: summary.evaluatedTokens, queue: summary.queueNanoseconds,
              compute: summary.computeNanoseconds)
            answer.finish(
              evaluated: summary.evaluatedTokens, queue: summary.queueNanoseconds, compute: summary.computeNanoseconds,
              respond: respond)
          case .failure(let error):
            logger.debug(
              "step not done", metadata: step.trace.metadata(["sequence": "\(step.sequence)", "reason": "\(error)"]))
            respond(.failure(Failure(step, Failure.Code(error), error.message)))
          }
          ended(request)
        }))
  }

  private func log(_ step: Step, evaluated: Int, queue: UInt64, compute: UInt64) {
    logger.debug(
      "step",
      metadata: step.trace.metadata([
        "sequence": "\(step.sequence)", "length": "\(step.baseLength + step.append.count)",
        "evaluated": "\(evaluated)", "queue_us": "\(queue / 1_000)", "compute_us": "\(compute / 1_000)",
      ]))
  }

  // MARK: Scoring

  /// Answers a scoring request, block by block; where whole rows are sent, the next block waits until those of the
  /// last have left.
  func score(_ score: Score, vocabulary common: Int, outlet: any Outlet) {
    func refuse(_ code: Failure.Code, _ message: String) {
      outlet.send(
        .failure(Failure(request: score.request, coordinator: score.coordinator, code: code, message: message)))
    }
    if let bad = score.tokens.first(where: { Int($0) >= common || $0 < 0 }) {
      return refuse(.invalid, "token \(bad) is outside the common vocabulary of \(common) tokens")
    }
    guard score.tokens.count <= context + 1, score.first >= 1, score.first < score.tokens.count else {
      return refuse(
        .context,
        "\(score.tokens.count) tokens from \(score.first) on cannot be scored with a context of \(context) tokens")
    }
    logger.debug(
      "score", metadata: score.trace.metadata(["tokens": "\(score.tokens.count)", "first": "\(score.first)"]))
    let request = requestID(coordinator: score.coordinator, request: score.request)
    began(request, deadlineMilliseconds: score.deadlineMilliseconds)
    let sequence = SplitMix64.mix(score.coordinator &+ 0x5C0E) ^ score.request
    let run = ScoreRun(score: score, vocabulary: common, outlet: outlet) { [self] block, deliver, completion in
      if state.withLock({ $0.cancelled.contains(request) }) {
        return completion(.failure(.interrupted("the request was cancelled")))
      }
      began(request, deadlineMilliseconds: score.deadlineMilliseconds)
      // The last token is only predicted, never read.
      engine.submit(
        DecodeRequest(
          id: request, sequence: sequence, tokens: Array(score.tokens[...block.upperBound]), wanted: Array(block),
          wantsHidden: false, deliver: deliver, completion: completion))
    } ended: { [self] in
      engine.release(sequence: sequence)
      ended(request)
    }
    run.next(from: score.first - 1)
  }

  // MARK: Control

  func cancel(coordinator: UInt64, request: UInt64) {
    let request = requestID(coordinator: coordinator, request: request)
    state.withLock { if $0.deadlines[request] != nil { $0.cancelled.insert(request) } }
    engine.cancel(request: request)
  }

  func release(coordinator: UInt64, sequence: UInt64) {
    let key = SequenceKey(coordinator: coordinator, sequence: sequence)
    state.withLock { $0.cache.release(key) }
    engine.release(sequence: key.decoderKey)
  }

  /// A coordinator has gone: its sequences will never be asked for again.
  func forget(coordinator: UInt64) {
    let keys = state.withLock { state in
      let keys = state.cache.keys.filter { $0.coordinator == coordinator }
      state.cache.removeAll { $0.coordinator == coordinator }
      return keys
    }
    for key in keys { engine.release(sequence: key.decoderKey) }
  }

  private func requestID(coordinator: UInt64, request: UInt64) -> UInt64 {
    SplitMix64.mix(coordinator &+ 0x9E37) ^ request
  }
}

extension TraceContext? {
  /// `metadata` with the names of the user's request, where it came with any.
  func metadata(_ metadata: Logger.Metadata) -> Logger.Metadata {
    guard let self else { return metadata }
    return metadata.merging(
      ["request_id": "\(self.requestID)", "trace_id": "\(self.traceID)", "span_id": "\(self.parentID)"]) { $1 }
  }
}

extension Failure {
  init(_ step: Step, _ code: Code, _ message: String) {
    self.init(request: step.request, coordinator: step.coordinator, code: code, message: message)
  }
}

extension Failure.Code {
  init(_ error: FusionRouteError) {
    switch error.code {
    case .badInput: self = .invalid
    case .unavailable: self = .memory
    case .interrupted: self = .cancelled
    default: self = .internal
    }
  }
}

public import Core
internal import Foundation
internal import Fusion
internal import Inference
internal import Synchronization

/// A model that is not there: its vocabulary's size, and how long it seems to compute. What `bench scale` measures with.
public struct StubModel: Sendable, Equatable {
  /// A batch of k sequences takes `base` + k · `perSequence`, asleep.
  public var base: Duration
  public var perSequence: Duration
  public var vocabularySize: Int

  public init(base: Duration, perSequence: Duration, vocabularySize: Int = 1024) {
    self.base = base
    self.perSequence = perSequence
    self.vocabularySize = vocabularySize
  }

  /// Of every stub's vocabulary of that size.
  public var vocabularyFingerprint: SHA256Digest {
    SHA256Digest(hashing: Array("fusionroute/stub-vocabulary/1/\(vocabularySize)".utf8))
  }

  public var modelFingerprint: SHA256Digest {
    SHA256Digest(hashing: Array("fusionroute/stub/1/\(vocabularySize)".utf8))
  }

  func duration(of sequences: Int) -> Duration { base + perSequence * sequences }

  /// The token that follows a prefix: a function of its length and last token.
  public func next(after tokens: some BidirectionalCollection<Token>) -> Token {
    let mixed = SplitMix64.mix(UInt64(tokens.count) << 32 | UInt64(UInt32(bitPattern: tokens.last ?? 0)))
    return Token(mixed % UInt64(vocabularySize))
  }

  /// That token stands out, the others are level.
  func row(after tokens: some BidirectionalCollection<Token>) -> LogitsRow {
    let best = Int(next(after: tokens))
    return LogitsRow(count: vocabularySize) { $0[best] = 50 }
  }
}

/// Answers like a decoder that batches whatever waits, and computes nothing.
final class StubEngine: StepEngine {
  private struct State {
    var waiting: [(request: DecodeRequest, since: ContinuousClock.Instant)] = []
    /// Tokens known of each sequence.
    var held: [UInt64: Int] = [:]
    var running = 0
    var batches: UInt64 = 0
    var evaluated: UInt64 = 0
    var isClosed = false
  }

  private let model: StubModel
  private let slots: Int
  private let state = Mutex(State())
  private let work = DispatchSemaphore(value: 0)

  init(_ model: StubModel, slots: Int) {
    self.model = model
    self.slots = slots
    let thread = Thread { [weak self] in
      while let engine = self, engine.runBatch() {}
    }
    thread.name = "fusionroute.stub"
    thread.start()
  }

  func submit(_ request: DecodeRequest) {
    let isClosed = state.withLock { state in
      if !state.isClosed { state.waiting.append((request, .now)) }
      return state.isClosed
    }
    if isClosed { request.completion(.failure(.interrupted("the engine was shut down"))) } else { work.signal() }
  }

  func cancel(request id: UInt64) {
    let cancelled = state.withLock { state in
      let found = state.waiting.first { $0.request.id == id }?.request
      state.waiting.removeAll { $0.request.id == id }
      return found
    }
    cancelled?.completion(.failure(.interrupted("the request was cancelled")))
  }

  func release(sequence: UInt64) { state.withLock { _ = $0.held.removeValue(forKey: sequence) } }

  var load: EngineLoad {
    state.withLock { state in
      EngineLoad(
        progress: state.batches, batchBudgetMilliseconds: state.running == 0 ? 0 : 1_000,
        queued: state.waiting.count + state.running, residentSequences: state.held.count,
        kvTokens: state.held.values.reduce(0, +), evaluatedTokens: state.evaluated)
    }
  }

  func shutdown() {
    let rest = state.withLock { state in
      state.isClosed = true
      defer { state.waiting.removeAll() }
      return state.waiting
    }
    work.signal()
    for (request, _) in rest { request.completion(.failure(.interrupted("the engine was shut down"))) }
  }

  /// Takes what waits, as many sequences as fit, sleeps and answers. False at the end.
  private func runBatch() -> Bool {
    // Waits for a bounded time, so that an engine which nobody holds any more ends.
    _ = work.wait(timeout: .now() + .seconds(1))
    let batch: [(request: DecodeRequest, since: ContinuousClock.Instant)]? = state.withLock { state in
      guard !state.isClosed else { return nil }
      let batch = Array(state.waiting.prefix(slots))
      state.waiting.removeFirst(batch.count)
      state.running = batch.count
      return batch
    }
    guard let batch else { return false }
    guard !batch.isEmpty else { return true }
    let start = ContinuousClock.now
    Thread.sleep(forTimeInterval: model.duration(of: batch.count) / .seconds(1))
    let compute = UInt64(max(0, (ContinuousClock.now - start) / .nanoseconds(1)))
    for (request, since) in batch {
      for position in request.wanted {
        request.deliver(DecodedRow(position: position, logits: model.row(after: request.tokens[...position])))
      }
      let known = state.withLock { state in
        let known = min(state.held[request.sequence] ?? 0, request.tokens.count)
        state.held[request.sequence] = request.tokens.count
        state.evaluated += UInt64(request.tokens.count - known)
        return known
      }
      request.completion(
        .success(
          DecodeSummary(
            evaluatedTokens: request.tokens.count - known, reusedTokens: known,
            queueNanoseconds: UInt64(max(0, (start - since) / .nanoseconds(1))), computeNanoseconds: compute)))
    }
    let waits = state.withLock { state in
      state.running = 0
      state.batches += 1
      return !state.waiting.isEmpty
    }
    if waits { work.signal() }
    return true
  }
}

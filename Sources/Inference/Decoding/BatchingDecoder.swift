internal import Core
internal import Foundation
internal import Synchronization

/// Decodes many sequences of one model together, on a thread of its own.
///
/// Requests may come from any thread; `submit` never waits for a computation. KV is kept per sequence in a bounded
/// number of slots: sequences with queued work are pinned, otherwise the least recently used one gives way.
public final class BatchingDecoder: Sendable {
  /// Hands the core to its thread. Unchecked: the core is put in before the thread starts and taken out by the thread, which is
  /// then the only one that has it; nobody else touches it.
  private final class CoreTransfer: @unchecked Sendable {
    private var core: DecoderCore?

    init(_ core: DecoderCore) { self.core = core }

    func take() -> DecoderCore? {
      defer { core = nil }
      return core
    }
  }

  public let model: Model
  public let configuration: DecoderConfiguration
  /// Tokens a sequence may have: the configured context, rounded up to a multiple of 256.
  public let contextPerSequence: Int
  let monitor = DecoderMonitor()
  private let mailbox: DecoderMailbox
  private let ended = DispatchSemaphore(value: 0)
  private let joined = Atomic<Bool>(false)

  /// Makes a context for `model` and starts its thread.
  ///
  /// - Throws: `badInput` for a configuration out of range, `unavailable` if the memory does not suffice.
  public init(model: Model, configuration: DecoderConfiguration) throws {
    let configuration = try configuration.validated()
    self.model = model
    self.configuration = configuration
    mailbox = DecoderMailbox(limit: configuration.queueLimit, monitor: monitor)
    if model.options.gpuLayers == 0, !model.options.vocabularyOnly {
      _ = try MemoryForecast.forecast(
        path: model.path, adapters: model.options.adapters, configuration: configuration)
    }
    let context = try LlamaContext(model: model, configuration: configuration, monitor: monitor)
    contextPerSequence = context.contextPerSequence
    let transfer = CoreTransfer(
      DecoderCore(model: model, configuration: configuration, context: context, monitor: monitor, mailbox: mailbox))
    let ended = self.ended
    let thread = Thread {
      // Freed before the signal: at a process's exit llama.cpp's own globals may be gone already.
      do { transfer.take()?.run() }
      ended.signal()
    }
    thread.name = "fusionroute.decoder"
    thread.stackSize = 8 << 20
    thread.start()
  }

  // Without waiting: the last reference may go away on the decoder's own thread.
  deinit { stop() }

  /// Queues `request`. A request that cannot be served is refused at once through its completion.
  public func submit(_ request: DecodeRequest) {
    if let error = refusal(of: request) {
      request.completion(.failure(error))
      return
    }
    switch mailbox.post(request) {
    case nil: break
    case .full:
      request.completion(
        .failure(
          .unavailable("\(configuration.queueLimit) requests are waiting for this model already; try again later")))
    case .closed:
      request.completion(.failure(.interrupted("the decoder was shut down")))
    }
  }

  private func refusal(of request: DecodeRequest) -> FusionRouteError? {
    let count = request.tokens.count
    guard count > 0 else { return .badInput("a decode request needs at least one token") }
    guard count <= contextPerSequence else {
      return .badInput(
        "a prefix of \(count) tokens is longer than the context of \(contextPerSequence) tokens per sequence; "
          + "shorten the prompt or raise `context`")
    }
    var previous = -1
    for position in request.wanted {
      guard position > previous, position < count else {
        return .internal("the wanted positions must be ascending and below \(count)")
      }
      previous = position
    }
    if request.wantsHidden, !configuration.hiddenStates {
      return .internal("hidden states were wanted from a decoder that was set up without them")
    }
    return nil
  }

  /// Ends a request early: its completion gets `interrupted`. Ids that are unknown or done are ignored.
  public func cancel(request id: UInt64) {
    monitor.cancelled.store(id, ordering: .relaxed)
    mailbox.post(.cancel(id))
  }

  /// The caller is done with `sequence`; its tokens may still serve others as a prefix until the room is needed.
  public func release(sequence: UInt64) { mailbox.post(.release(sequence)) }

  /// A snapshot; never waits.
  public var statistics: DecoderStatistics {
    DecoderStatistics(
      evaluatedTokens: monitor.evaluatedTokens.load(ordering: .relaxed),
      progress: monitor.progress.load(ordering: .relaxed),
      currentBatchBudgetMilliseconds: monitor.budgetMilliseconds.load(ordering: .relaxed),
      queued: monitor.queued.load(ordering: .relaxed),
      residentSequences: monitor.residentSequences.load(ordering: .relaxed),
      kvTokens: monitor.kvTokens.load(ordering: .relaxed),
      evictions: monitor.evictions.load(ordering: .relaxed),
      batches: monitor.batches.load(ordering: .relaxed),
      prefillChunks: monitor.prefillChunks.load(ordering: .relaxed),
      longestStepWait: monitor.longestStepWait.load(ordering: .relaxed),
      refilledTokens: monitor.refilledTokens.load(ordering: .relaxed))
  }

  /// Stops the thread; requests under way complete with `interrupted`. Waits until the computation has stopped, which
  /// takes one graph node. May be called repeatedly, but not from a request's own callbacks.
  public func shutdown() {
    stop()
    if joined.exchange(true, ordering: .acquiringAndReleasing) { return }
    ended.wait()
  }

  private func stop() {
    monitor.abort.store(true, ordering: .relaxed)
    mailbox.close()
  }
}

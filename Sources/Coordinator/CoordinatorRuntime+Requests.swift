internal import Core
public import Fusion

extension CoordinatorRuntime {
  // MARK: Checks

  /// Checks what can be checked before a slot is taken.
  public func validate(_ request: GenerationRequest) throws {
    let vocabulary = host.model.vocabulary.size
    guard !request.prompt.isEmpty else {
      throw FusionRouteError.badInput("the prompt is empty: give at least one token")
    }
    if let bad = request.prompt.first(where: { $0 < 0 || Int($0) >= vocabulary }) {
      throw FusionRouteError.badInput("prompt token \(bad) is outside the vocabulary of \(vocabulary) tokens")
    }
    if case .expert(let name) = request.mode, !allExperts.contains(name) {
      throw FusionRouteError.badInput(
        "there is no expert \"\(name)\"; the experts are \(allExperts.sorted().joined(separator: ", "))")
    }
    guard request.maximumTokens >= 0 else {
      throw FusionRouteError.badInput("max-tokens is \(request.maximumTokens): it must not be negative")
    }
    try request.sampling.validated(vocabularySize: vocabulary)
    _ = try StopMatcher(request.stop)
    if let alternatives = request.alternatives { try Self.validate(alternatives: alternatives) }
    let limit = contextLimit(for: request.mode)
    guard request.prompt.count <= limit else {
      throw FusionRouteError.badInput(
        "the prompt has \(request.prompt.count) tokens and the context holds \(limit): shorten it, or raise `context` in "
          + "the cluster file")
    }
  }

  static func validate(alternatives: Int) throws {
    let limit = GenerationRequest.maximumAlternatives
    guard (0...limit).contains(alternatives) else {
      throw FusionRouteError.badInput("\(alternatives) alternatives are asked for: at most \(limit) are told")
    }
  }

  /// Tokens a sequence may have in a mode: the least context of the models it may meet.
  public func contextLimit(for mode: DecodingMode) -> Int {
    let experts = Set(SequenceDecoder.involved(mode, of: host.head.experts))
    let least = pool.state.withLock { state in
      state.registry.replicas.values.filter { experts.contains($0.offer.expert) }.map(\.offer.context).min()
    }
    return min(mode.usesRouter ? host.context : Int.max, least ?? Int.max)
  }

  // MARK: Generation

  /// Decodes one request; cancelling the consumer's iteration stops the work.
  ///
  /// The stream holds what its consumer has not taken yet, at most one event for each token of the context and no more
  /// than ``GenerationRequest/maximumTokens`` of them: decoding does not wait for a slow consumer, since it holds cache
  /// slots that others wait for.
  ///
  /// - Throws: ``FusionRouteError``: `.badInput` as ``validate(_:)`` does, `.overloaded` when the queue is full,
  ///   `.deadlineExceeded`, `.unavailable` when an expert is lost or the coordinator stops.
  public func generate(_ request: GenerationRequest) -> AsyncThrowingStream<GenerationEvent, any Error> {
    let arrival = ContinuousClock.now
    return AsyncThrowingStream { continuation in
      let id = nextSequence()
      let task = tasks.start(id) { [self] in
        do {
          try await observed {
            try validate(request)
            try await withDeadline(request.deadline, since: arrival) {
              try await self.decode(request, id: id, arrival: arrival) { continuation.yield($0) }
            }
          }
          continuation.finish()
        } catch {
          continuation.finish(throwing: error)
        }
      }
      continuation.onTermination = { reason in if case .cancelled = reason { task.cancel() } }
    }
  }

  private func decode(
    _ request: GenerationRequest, id: UInt64, arrival: ContinuousClock.Instant, emit: @escaping SequenceDecoder.Emit
  ) async throws {
    try await withSlot(id, client: request.client, cost: request.prompt.count) { used in
      let decoder = try SequenceDecoder(
        id: id, request: request, router: host, pool: pool, settings: settings, logger: logger
      ) { [meter] event in
        if case .token = event { meter.generated(now: MonotonicClock.now) }
        emit(event)
      }
      defer {
        meter.add(decoder.summary)
        used = decoder.summary.generatedTokens
      }
      try await decoder.run(contextLimit: contextLimit(for: request.mode), queued: ContinuousClock.now - arrival)
    }
  }

  // MARK: Slots

  /// Waits for a slot, runs `body`, gives the slot back.
  ///
  /// - Parameters:
  ///   - cost: the request's tokens as far as they are known.
  ///   - body: is told whereto it writes the tokens that came on top.
  func withSlot<R>(
    _ id: UInt64, client: String, cost: Int, _ body: (_ used: inout Int) async throws -> R
  ) async throws -> R {
    capacityChanged()
    try await admission.admit(id, client: client, cost: cost)
    let began = MonotonicClock.now
    var used = 0
    defer {
      meter.ran(MonotonicClock.now - began)
      admission.leave(id, used: used)
    }
    return try await body(&used)
  }

  /// Counts how `work` ends; what a shutdown cancels ends with an error that says so.
  func observed<R>(_ work: () async throws -> R) async throws -> R {
    do {
      let result = try await work()
      meter.ended(.finished)
      return result
    } catch {
      let isCancelled = error is CancellationError || (error as? FusionRouteError)?.code == .interrupted
      if isCancelled {
        meter.ended(.cancelled)
      } else if let error = error as? FusionRouteError, error.code == .overloaded {
        meter.ended(.refused)
      } else {
        meter.ended(.failed)
      }
      guard isCancelled, tasks.isClosed else { throw error }
      throw FusionRouteError.unavailable("the coordinator is shutting down")
    }
  }

  /// How long a request that was refused with `.overloaded` should wait before it comes again, from the requests that
  /// wait and how long recent ones held their slots: 1 to 60 whole seconds.
  public var retryAfter: Duration {
    let counts = admission.counts
    return meter.retryAfter(waiting: counts.waiting, slots: counts.limit)
  }
}

internal import Core
public import Fusion
internal import Logging

/// Why a request is refused whose prompt alone does not fit into the context; the cause of a `.badInput`.
public struct PromptTooLong: Error, Equatable {
  public var tokens: Int
  public var limit: Int
}

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
    if let trace = request.trace { try Self.validate(trace) }
    if let alternatives = request.alternatives { try Self.validate(alternatives: alternatives) }
    let limit = contextLimit(for: request.mode)
    guard request.prompt.count <= limit else { throw Self.promptTooLong(request.prompt.count, limit: limit) }
  }

  static func promptTooLong(_ count: Int, limit: Int) -> FusionRouteError {
    .badInput(
      "the prompt has \(count) tokens and the context holds \(limit): shorten it, or raise `context` in the cluster "
        + "file", cause: PromptTooLong(tokens: count, limit: limit))
  }

  static func validate(_ trace: TraceContext) throws {
    guard trace.isValid else {
      throw FusionRouteError.badInput(
        "the request's id or trace context breaks its rules: an id has at most \(TraceContext.requestIDLimit) letters, "
          + "digits, - and _")
    }
  }

  static func validate(alternatives: Int) throws {
    let limit = GenerationRequest.maximumAlternatives
    guard (0...limit).contains(alternatives) else {
      throw FusionRouteError.badInput("\(alternatives) alternatives are asked for: at most \(limit) are told")
    }
  }

  /// Tokens a sequence may have in a mode: the least context of the models it may meet, as far as they are there.
  public func contextLimit(for mode: DecodingMode) -> Int {
    let least = pool.contexts(of: Set(SequenceDecoder.involved(mode, of: host.head.experts))).values.min()
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
    let spans = RequestTrace(request.trace, sink: configuration.traceSink)
    return AsyncThrowingStream { continuation in
      let id = nextSequence()
      let task = tasks.start(id) { [self] in
        do {
          try await observed(spans, request.attributes) { attributes in
            try validate(request)
            let summary = try await withDeadline(request.deadline, since: request.deadlineStart ?? arrival) {
              try await self.decode(request, id: id, arrival: arrival, spans: spans) { continuation.yield($0) }
            }
            attributes.merge(summary.attributes) { $1 }
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
    _ request: GenerationRequest, id: UInt64, arrival: ContinuousClock.Instant, spans: RequestTrace?,
    emit: @escaping @Sendable (GenerationEvent) -> Void
  ) async throws -> GenerationSummary {
    let weight = request.priority.weight
    return try await withSlot(id, client: request.client, cost: request.prompt.count * weight, spans: spans) { used in
      let decoder = try SequenceDecoder(
        id: id, request: request, router: host, pool: pool, settings: settings, logger: logger.naming(request.trace),
        spans: spans
      ) { [meter] event, summary in
        if case .token = event { meter.generated(by: id, summary, now: MonotonicClock.now) }
        emit(event)
      }
      defer {
        meter.generated(by: id, final: decoder.summary)
        used = decoder.summary.generatedTokens * weight
      }
      try await decoder.run(queued: ContinuousClock.now - arrival)
      return decoder.summary
    }
  }

  // MARK: Slots

  /// Waits for a slot, runs `body`, gives the slot back.
  ///
  /// - Parameters:
  ///   - cost: the request's tokens as far as they are known.
  ///   - body: is told whereto it writes the tokens that came on top.
  func withSlot<R>(
    _ id: UInt64, client: String, cost: Int, spans: RequestTrace?, _ body: (_ used: inout Int) async throws -> R
  ) async throws -> R {
    capacityChanged()
    let waits = spans?.begin()
    do {
      defer { if let waits { spans?.end(waits, "queue") } }
      try await admission.admit(id, client: client, cost: cost)
    }
    let began = MonotonicClock.now
    var used = 0
    defer {
      meter.ran(MonotonicClock.now - began)
      admission.leave(id, used: used)
    }
    return try await body(&used)
  }

  /// Counts and traces how `work` ends; what a shutdown cancels ends with an error that says so.
  func observed<R>(
    _ spans: RequestTrace?, _ attributes: [String: TraceValue],
    _ work: (_ attributes: inout [String: TraceValue]) async throws -> R
  ) async throws -> R {
    var attributes = attributes
    do {
      let result = try await work(&attributes)
      meter.ended(.finished)
      spans?.end(attributes)
      return result
    } catch {
      let isCancelled = error is CancellationError || (error as? FusionRouteError)?.code == .interrupted
      let isRefused = (error as? FusionRouteError)?.code == .overloaded
      meter.ended(isCancelled ? .cancelled : isRefused ? .refused : .failed)
      let told =
        isCancelled && tasks.isClosed ? FusionRouteError.unavailable("the coordinator is shutting down") : error
      spans?.end(attributes.merging(["error": .string("\(told)")]) { $1 })
      throw told
    }
  }

  /// How long a request that was refused with `.overloaded` should wait before it comes again, from the requests that
  /// wait and how long recent ones held their slots: 1 to 60 whole seconds.
  public var retryAfter: Duration {
    let counts = admission.counts
    return meter.retryAfter(waiting: counts.waiting, slots: counts.limit)
  }
}

extension GenerationRequest {
  /// What its span says of it.
  fileprivate var attributes: [String: TraceValue] {
    [
      "mode": .string(mode.description), "prompt_tokens": .integer(prompt.count),
      "max_tokens": .integer(maximumTokens),
    ]
  }
}

extension GenerationSummary {
  fileprivate var attributes: [String: TraceValue] {
    [
      "generated_tokens": .integer(generatedTokens), "cached_tokens": .integer(cachedTokens),
      "finish_reason": .string(finishReason.rawValue), "failovers": .integer(failovers),
    ]
  }
}

extension Logger {
  /// With the request's id on every line.
  func naming(_ trace: TraceContext?) -> Logger {
    guard let trace else { return self }
    var logger = self
    logger[metadataKey: "request_id"] = "\(trace.requestID)"
    return logger
  }
}

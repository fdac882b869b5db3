internal import Coordinator
internal import Core
internal import Hummingbird

/// One request under way, from its first token to what is written down of it at its end.
///
/// Letting go of it, at whatever point, frees all it holds: generations, memory, its place among those that a shutdown
/// waits for.
struct AnswerRun: Sendable {
  private let stream: AnswerStream
  private let pass: Result<DrainGate.Pass, any Error>
  private let watch: ConnectionMonitor.Watch?
  private let share: BodyBudget.Share
  private let environment: GatewayEnvironment
  private let plan: AnswerPlan
  private let renderer: AnswerRenderer
  private var assembly: AnswerAssembly
  private var record: AnswerRecord
  private var lastWrite = ContinuousClock.now

  /// - Parameters:
  ///   - body: for the request log.
  ///   - share: of memory, held until the answer ends.
  ///   - monitor: of the connection that waits for it; nil: none does.
  init(
    _ plan: AnswerPlan, environment: GatewayEnvironment, requestID: String, arrival: ContinuousClock.Instant,
    route: String, body: [UInt8], share: BodyBudget.Share, monitor: ConnectionMonitor?
  ) {
    self.plan = plan
    self.environment = environment
    self.share = share
    stream = AnswerStream(
      plan, coordinator: environment.coordinator,
      headDelay: min(GatewayLimits.headDelay, environment.configuration.keepAlive),
      keepAlive: environment.configuration.keepAlive)
    renderer = AnswerRenderer(
      plan: plan, requestID: requestID, created: UnixTime.now.seconds, texts: environment.texts)
    assembly = AnswerAssembly(plan: plan, texts: environment.texts)
    record = AnswerRecord(route: route, requestID: requestID, arrival: arrival, plan: plan, body: body)
    // Weak: what ends the stream must not keep it.
    let end: @Sendable () -> Void = { [weak stream] in stream?.end(.shuttingDown) }
    pass = Result { try environment.gate.enter(end: end) }
    watch = monitor?.onGone { [weak stream] in stream?.end(.clientGone) }
  }

  // MARK: Events

  /// The first event. What fails before it has a status of its own.
  mutating func firstEvent() async throws -> AnswerStream.Event {
    do {
      _ = try pass.get()
      guard let event = await nextEvent() else { throw CancellationError() }
      if case .failed(let error) = event { throw error }
      return event
    } catch {
      throw failed(error)
    }
  }

  private func nextEvent() async -> AnswerStream.Event? {
    var iterator = stream.events.makeAsyncIterator()
    return await iterator.next()
  }

  private mutating func take(_ event: AnswerStream.Event) -> [AnswerAssembly.Part] {
    record.take(event)
    return assembly.parts(event)
  }

  private var summaries: [GenerationSummary] { assembly.summaries.compactMap(\.self) }

  // MARK: Whole answers

  /// The answer's JSON.
  mutating func whole() async throws -> [UInt8] {
    var parts = plan.requests.indices.map { AnswerAssembly.Part(index: $0) }
    for part in assembly.opening() { parts[part.index].append(part) }
    do {
      _ = try pass.get()
      while !assembly.isComplete {
        guard let event = await nextEvent() else { throw CancellationError() }
        if case .failed(let error) = event { throw error }
        for part in take(event) { parts[part.index].append(part) }
      }
    } catch {
      throw failed(error)
    }
    end(error: nil)
    return renderer.whole(parts, summaries: summaries)
  }

  // MARK: Streams

  /// Writes server-sent events until the answer ends: well, with an event that says why it could not, or, when the
  /// client has gone, with an error.
  mutating func stream(first: AnswerStream.Event, to writer: inout any ResponseBodyWriter) async throws {
    do {
      try await write(assembly.opening().map { renderer.chunk($0) }, to: &writer)
      try await write(first, to: &writer)
      while !assembly.isComplete {
        guard let event = await nextEvent() else { throw CancellationError() }
        if case .failed(let error) = event { throw error }
        try await write(event, to: &writer)
      }
      if plan.options.includesUsage { try await write([renderer.usageChunk(summaries)], to: &writer) }
      try await send([EventStreamWriter.done], to: &writer)
      end(error: nil)
    } catch {
      let told = failed(error)
      guard told != .clientGone else { throw told }
      try await write([told.body], to: &writer)
    }
  }

  private mutating func write(_ event: AnswerStream.Event, to writer: inout any ResponseBodyWriter) async throws {
    if case .idle = event {
      guard ContinuousClock.now - lastWrite >= environment.configuration.keepAlive / 2 else { return }
      return try await send([EventStreamWriter.comment], to: &writer)
    }
    let parts = take(event)
    let isLast = assembly.isComplete && !plan.options.includesUsage
    let chunks = parts.enumerated().map { index, part in
      renderer.chunk(part, summaries: isLast && index == parts.count - 1 ? summaries : nil)
    }
    try await write(chunks, to: &writer)
  }

  private mutating func write(_ chunks: [[UInt8]], to writer: inout any ResponseBodyWriter) async throws {
    guard !chunks.isEmpty else { return }
    try await send(chunks.map(EventStreamWriter.event), to: &writer)
  }

  private mutating func send(_ buffers: [ByteBuffer], to writer: inout any ResponseBodyWriter) async throws {
    lastWrite = .now
    do {
      try await writer.write(contentsOf: buffers)
    } catch {
      // A connection that takes no bytes has nobody at its other end.
      throw GatewayError.clientGone
    }
  }

  // MARK: The end

  private func failed(_ error: any Error) -> GatewayError {
    // A stream that ended without a word was cancelled by the coordinator's end.
    let told = error is CancellationError ? GatewayError.shuttingDown : environment.told(error)
    end(error: told)
    if told.status.code >= 500 {
      environment.logger.warning(
        "answer failed", metadata: ["request": "\(renderer.requestID)", "error": "\(error)"])
    }
    return told
  }

  private func end(error: GatewayError?) {
    record.end(summaries: assembly.summaries, error: error, environment: environment)
  }
}

internal import Core
internal import Fusion
public import Inference
public import Logging
internal import Messaging
internal import ModelFiles
internal import Synchronization
internal import Wire

/// The coordinator: hosts the router, keeps the book of workers and decodes requests, each as a task of its own.
public final class CoordinatorRuntime: Sendable {
  private struct Admission {
    var gate: AdmissionGate
    var waiting: [UInt64: CheckedContinuation<Bool, Never>] = [:]
    var nextSequence: UInt64 = 1
    var tasks: [UInt64: Task<Void, Never>] = [:]
    var closed = false
  }

  let host: RouterHost
  let pool: ExpertPool
  let configuration: CoordinatorConfiguration
  let logger: Logger
  private let server: MessageServer
  private let admission: Mutex<Admission>

  /// Loads the router and its head and binds the endpoints.
  ///
  /// - Throws: ``FusionRouteError``: `.badInput` for unusable files, `.unavailable` for a port in use or too little
  ///   memory.
  public static func start(_ configuration: CoordinatorConfiguration, logger: Logger) throws -> CoordinatorRuntime {
    let model = try Model.load(
      path: configuration.routerModel,
      options: ModelLoadOptions(gpuLayers: configuration.gpuLayers, adapters: configuration.routerAdapters))
    let head = try RoutingHead.read(configuration.routerHead)
    try head.validate(
      embeddingWidth: model.information.embeddingWidth,
      experts: Set(configuration.experts.isEmpty ? head.experts : configuration.experts))
    var decoding = DecoderConfiguration(
      slots: configuration.slots, contextPerSequence: configuration.context, threads: configuration.threads)
    decoding.kvType = configuration.kvType
    decoding.reproducible = configuration.reproducible
    decoding.hiddenStates = true
    let decoder = try BatchingDecoder(model: model, configuration: decoding)
    let host = RouterHost(model: model, head: head, decoder: decoder, context: configuration.context)
    return try CoordinatorRuntime(host: host, configuration: configuration, logger: logger)
  }

  private init(host: RouterHost, configuration: CoordinatorConfiguration, logger: Logger) throws {
    self.host = host
    self.configuration = configuration
    self.logger = logger
    let vocabulary = host.model.vocabulary
    var limits = ReplicaRegistry<PeerID>.Limits()
    limits.silence = configuration.silence.nanoseconds
    limits.hang = configuration.hang.nanoseconds
    pool = ExpertPool(
      requirements: .init(
        experts: Set(host.head.experts + configuration.experts), vocabularyFingerprint: vocabulary.fingerprint,
        vocabularySize: vocabulary.size, protocolRange: WireCodec.oldestProtocol...WireCodec.currentProtocol,
        reproducible: configuration.reproducible),
      limits: limits, vocabulary: VocabularyTexts(size: vocabulary.size) { vocabulary.text($0) },
      heartbeatInterval: configuration.heartbeat, logger: logger)
    admission = Mutex(
      Admission(gate: AdmissionGate(limit: configuration.slots, queueLimit: configuration.queueLimit)))
    server = try MessageServer(
      endpoints: configuration.endpoints, security: configuration.security, options: MessagingOptions(logger: logger),
      handler: pool)
    pool.onCapacityChange { [weak self] in self?.capacityChanged() }
  }

  /// Where workers reach this coordinator; wildcard ports are resolved.
  public var boundEndpoints: [String] { server.boundEndpoints }

  /// The router's model: tokenizer and chat template of every request.
  public var router: Model { host.model }

  /// Experts in the order of the head's rows.
  public var experts: [String] { host.head.experts }

  /// The head's experts and the cluster's further ones.
  var allExperts: Set<String> { Set(host.head.experts + configuration.experts) }

  /// Waits until every expert of the head has a replica.
  ///
  /// - Throws: ``FusionRouteError``: `.badInput` with a worker's refusal, `.unavailable` naming the experts without one.
  public func waitUntilReady(timeout: Duration) async throws {
    let deadline = MonotonicClock.now + timeout.nanoseconds
    while true {
      let (missing, refusals) = pool.readiness()
      if missing.isEmpty { return }
      for expert in missing {
        if let refusal = refusals[expert] {
          throw FusionRouteError.badInput("a worker for expert \"\(expert)\" was refused: \(refusal)")
        }
      }
      // A name that the cluster does not know leaves its own experts unserved: say what was wrong, not only who is
      // missing. A refused worker of an expert that is served harms nobody.
      if let (_, refusal) = refusals.filter({ !allExperts.contains($0.key) }).min(by: { $0.key < $1.key }) {
        throw FusionRouteError.badInput("a worker was refused: \(refusal)")
      }
      try Task.checkCancellation()
      guard MonotonicClock.now < deadline else {
        throw FusionRouteError.unavailable(
          "no worker came for \(missing.map { "\"\($0)\"" }.joined(separator: ", ")) within \(timeout); start "
            + "`fusionroute worker --expert NAME --model FILE --coordinator \(boundEndpoints.first ?? "ENDPOINT")`")
      }
      await pool.waitForChange(until: min(deadline, MonotonicClock.now + 1_000_000_000))
    }
  }

  // MARK: Generation

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
    let limit = contextLimit(for: request.mode)
    guard request.prompt.count <= limit else {
      throw FusionRouteError.badInput(
        "the prompt has \(request.prompt.count) tokens and the context holds \(limit): shorten it, or raise `context` in "
          + "the cluster file")
    }
  }

  /// Tokens a sequence may have in a mode: the least context of the models it may meet.
  private func contextLimit(for mode: DecodingMode) -> Int {
    let experts = Set(SequenceDecoder.involved(mode, of: host.head.experts))
    let least = pool.state.withLock { state in
      state.registry.replicas.values.filter { experts.contains($0.offer.expert) }.map(\.offer.context).min()
    }
    return min(mode.usesRouter ? host.context : Int.max, least ?? Int.max)
  }

  /// Decodes one request; cancelling the consumer's iteration stops the work.
  public func generate(_ request: GenerationRequest) -> AsyncThrowingStream<GenerationEvent, any Error> {
    AsyncThrowingStream { continuation in
      let id = nextSequence()
      let work: @Sendable () async -> Void = { [self] in
        do {
          try validate(request)
          try await admit(id)
          defer { leave(id) }
          let decoder = try SequenceDecoder(
            id: id, request: request, router: host, pool: pool, settings: settings, logger: logger,
            emit: { continuation.yield($0) })
          try await decoder.run(contextLimit: contextLimit(for: request.mode))
          continuation.finish()
        } catch {
          continuation.finish(throwing: error)
        }
        admission.withLock { _ = $0.tasks.removeValue(forKey: id) }
      }
      // Made under the lock: the task takes itself off the list at its end, which must not come first.
      let task = admission.withLock { state in
        let task = Task { await work() }
        if state.closed { task.cancel() }
        state.tasks[id] = task
        return task
      }
      continuation.onTermination = { reason in if case .cancelled = reason { task.cancel() } }
    }
  }

  func nextSequence() -> UInt64 {
    admission.withLock { state in
      defer { state.nextSequence += 1 }
      return state.nextSequence
    }
  }

  var settings: SequenceDecoder.Settings {
    SequenceDecoder.Settings(
      topK: configuration.topK, auditRate: configuration.auditRate,
      link: ExpertLink.Settings(stepTimeout: configuration.stepTimeout, expertWait: configuration.expertWait),
      warmsAtArrival: configuration.warmsAtArrival)
  }

  // MARK: Admission

  private func admit(_ id: UInt64) async throws {
    capacityChanged()
    let admitted = await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let decision: Bool? = admission.withLock { state in
          if state.closed || Task.isCancelled { return false }
          switch state.gate.arrive(id) {
          case .start: return true
          case .refuse: return false
          case .wait:
            state.waiting[id] = continuation
            return nil
          }
        }
        if let decision { continuation.resume(returning: decision) }
      }
    } onCancel: {
      admission.withLock { $0.waiting.removeValue(forKey: id) }?.resume(returning: false)
      leave(id)
    }
    guard admitted else {
      try Task.checkCancellation()
      throw FusionRouteError.unavailable("too many requests are waiting (\(configuration.queueLimit)); try again later")
    }
  }

  private func leave(_ id: UInt64) { wake { $0.leave(id) } }

  private func capacityChanged() {
    let experts = pool.capacity(of: allExperts) ?? 0
    wake { [slots = configuration.slots] in $0.setLimit(experts > 0 ? min(slots, experts) : slots) }
  }

  private func wake(_ change: (inout AdmissionGate) -> [UInt64]) {
    let started = admission.withLock { state in
      change(&state.gate).compactMap { state.waiting.removeValue(forKey: $0) }
    }
    for continuation in started { continuation.resume(returning: true) }
  }

  // MARK: Life

  /// A supervisor saw a worker's process end: its sequences move on without waiting for its silence.
  public func replicaProcessEnded(pid: Int32, host: String) {
    if let replica = pool.state.withLock({ $0.registry.replica(pid: pid, host: host) }) {
      pool.lose(replica, reason: "its process (pid \(pid)) ended")
    }
  }

  /// Ends every request, says goodbye to the workers and closes the socket.
  public func shutdown() async {
    let (tasks, waiting) = admission.withLock { state in
      state.closed = true
      defer { state.waiting.removeAll() }
      return (Array(state.tasks.values), Array(state.waiting.values))
    }
    for continuation in waiting { continuation.resume(returning: false) }
    for task in tasks { task.cancel() }
    for task in tasks { await task.value }
    pool.close()
    // Long enough for the goodbyes to leave.
    server.shutdown(flushing: .milliseconds(200))
    host.decoder.shutdown()
  }
}

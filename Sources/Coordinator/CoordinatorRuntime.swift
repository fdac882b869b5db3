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
  let host: RouterHost
  let pool: ExpertPool
  let configuration: CoordinatorConfiguration
  let logger: Logger
  let admission: AdmissionQueue
  let tasks = RequestTasks()
  let meter: RequestMeter
  let started = MonotonicClock.now
  private let server: MessageServer
  private let sequences = Atomic<UInt64>(1)

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
    var settings = decoding.fingerprintSettings
    settings["head"] = try ModelFingerprint.digest(ofFile: configuration.routerHead, what: "routing head").hex
    let fingerprint = try ModelFingerprint.compute(
      model: configuration.routerModel, adapters: configuration.routerAdapters, settings: settings)
    let host = RouterHost(
      model: model, head: head, decoder: decoder, context: configuration.context, fingerprint: fingerprint)
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
      heartbeatInterval: configuration.heartbeat, hedging: configuration.hedging.limits, logger: logger)
    admission = AdmissionQueue(
      limit: configuration.slots,
      limits: AdmissionGate.Limits(
        waiting: configuration.queueLimit,
        waitingPerClient: configuration.clientQueueLimit ?? (configuration.queueLimit + 1) / 2))
    meter = RequestMeter(now: started)
    var messaging = MessagingOptions(logger: logger)
    // Deadlines, silence and hedges are looked at in each tick.
    messaging.tickInterval = .milliseconds(50)
    server = try MessageServer(
      endpoints: configuration.endpoints, security: configuration.security, options: messaging, handler: pool)
    pool.onCapacityChange { [weak self] in self?.capacityChanged() }
  }

  /// Where workers reach this coordinator; wildcard ports are resolved.
  public var boundEndpoints: [String] { server.boundEndpoints }

  /// The router's model: tokenizer and chat template of every request.
  public var router: Model { host.model }

  /// Counters of the router's decoder; a snapshot.
  public var routerStatistics: DecoderStatistics { host.decoder.statistics }

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
      let seen = pool.changes
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
      await pool.waitForChange(since: seen, until: min(deadline, MonotonicClock.now + 1_000_000_000))
    }
  }

  func nextSequence() -> UInt64 { sequences.add(1, ordering: .relaxed).oldValue }

  var settings: SequenceDecoder.Settings {
    SequenceDecoder.Settings(
      topK: configuration.topK, auditRate: configuration.auditRate,
      link: ExpertLink.Settings(stepTimeout: configuration.stepTimeout, expertWait: configuration.expertWait),
      warmsAtArrival: configuration.warmsAtArrival)
  }

  /// As many run as the scarcest expert has room for; one without replicas is waited for by those who need it.
  func capacityChanged() {
    let experts = pool.capacity(of: allExperts) ?? 0
    admission.setLimit(experts > 0 ? min(configuration.slots, experts) : configuration.slots)
  }

  // MARK: Life

  /// A supervisor saw a worker's process end: its sequences move on without waiting for its silence.
  public func replicaProcessEnded(pid: Int32, host: String) {
    if let replica = pool.state.withLock({ $0.registry.replica(pid: pid, host: host) }) {
      pool.lose(replica, reason: "its process (pid \(pid)) ended")
    }
  }

  /// Has replicas finish what they have and leave; their sequences go on elsewhere, and no request fails.
  ///
  /// - Parameter force: also if an expert is left without a replica; its requests then wait `expertWait`.
  /// - Returns: the replicas that drain now.
  /// - Throws: ``FusionRouteError``: `.badInput` if no replica fits, `.unavailable` naming an expert that would be left
  ///   without one.
  public func drain(_ selection: DrainSelection, force: Bool = false) throws -> [DrainingReplica] {
    try pool.drain(selection, force: force).map {
      DrainingReplica(
        id: $0.id.description, expert: $0.offer.expert, host: $0.offer.host, pid: $0.offer.pid,
        sequences: $0.assigned.count)
    }
  }

  /// Ends every request, says goodbye to the workers and closes the socket.
  public func shutdown() async {
    admission.close()
    await tasks.close()
    pool.close()
    // Long enough for the goodbyes to leave.
    server.shutdown(flushing: .milliseconds(200))
    host.decoder.shutdown()
  }
}

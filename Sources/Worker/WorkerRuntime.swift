internal import Core
internal import Fusion
internal import Inference
public import Logging
internal import Messaging
internal import Synchronization
internal import Wire

#if canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#else
  internal import Darwin
#endif

/// One expert's worker process: loads the model, dials its coordinators and answers until it is drained, refused or
/// orphaned.
public final class WorkerRuntime: Sendable {
  /// Name and version of this software as workers give it to coordinators.
  public static let software = "fusionroute/\(Software.version)"
  /// Positions whose logits one step may ask for.
  static let maximumPositions = 16

  private let configuration: WorkerConfiguration
  private let logger: Logger
  private let engine: any StepEngine
  let service: ExpertService
  private let links: [CoordinatorLink]
  private let clients: [MessageClient]
  private let flag: DrainFlag
  private let events: AsyncStream<News>
  private let finish: AsyncStream<News>.Continuation

  /// What ``run()`` acts on.
  private enum News: Sendable {
    case drain
    case refused(endpoint: String, FusionRouteError)
    /// Also after it was refused: the coordinator has changed its mind.
    case registered(endpoint: String)
  }

  /// Loads the model and starts to dial.
  ///
  /// - Throws: ``FusionRouteError``: `.badInput` for an unusable model, `.unavailable` for too little memory.
  public static func start(_ configuration: WorkerConfiguration, logger: Logger) throws -> WorkerRuntime {
    let model = try Model.load(
      path: configuration.model,
      options: ModelLoadOptions(gpuLayers: configuration.gpuLayers, adapters: configuration.adapters))
    var decoding = DecoderConfiguration(
      slots: configuration.slots, contextPerSequence: configuration.context, threads: configuration.threads)
    decoding.kvType = configuration.kvType
    decoding.reproducible = configuration.reproducible
    let decoder = try BatchingDecoder(model: model, configuration: decoding)
    let numerics = try decoder.numericsClass()
    let fingerprint = try ModelFingerprint.compute(
      model: configuration.model, adapters: configuration.adapters,
      settings: decoding.fingerprintSettings)
    let offer = Register(
      expert: configuration.expert, incarnation: UInt64.random(in: 1...UInt64.max), modelFingerprint: fingerprint,
      vocabularyFingerprint: model.vocabulary.fingerprint, vocabularySize: model.vocabulary.size,
      numerics: Numerics(
        label: numerics.label, probeHash: numerics.probeHash, batchInvariant: numerics.batchInvariant),
      slots: configuration.slots, context: configuration.context, maximumPositions: maximumPositions,
      host: configuration.host, pid: getpid(), software: software)
    let vocabulary = model.vocabulary
    return try WorkerRuntime(
      configuration: configuration, engine: decoder, offer: offer, page: { vocabulary.page($0) }, logger: logger)
  }

  /// The same without a model, for benchmarks: everything but the computation is real. `configuration.model` is ignored.
  public static func start(
    _ configuration: WorkerConfiguration, stub: StubModel, logger: Logger
  ) throws -> WorkerRuntime {
    let offer = Register(
      expert: configuration.expert, incarnation: UInt64.random(in: 1...UInt64.max),
      modelFingerprint: stub.modelFingerprint, vocabularyFingerprint: stub.vocabularyFingerprint,
      vocabularySize: stub.vocabularySize,
      numerics: Numerics(label: "stub", probeHash: stub.modelFingerprint, batchInvariant: true),
      slots: configuration.slots, context: configuration.context, maximumPositions: maximumPositions,
      host: configuration.host, pid: getpid(), software: software)
    return try WorkerRuntime(
      configuration: configuration, engine: StubEngine(stub, slots: configuration.slots), offer: offer,
      page: { VocabularyPage(first: $0.first, total: stub.vocabularySize, texts: [], attributes: []) }, logger: logger)
  }

  private init(
    configuration: WorkerConfiguration, engine: any StepEngine, offer: Register,
    page: @escaping @Sendable (VocabularyQuery) -> VocabularyPage, logger: Logger
  ) throws {
    self.configuration = configuration
    self.logger = logger
    self.engine = engine
    let service = ExpertService(
      engine: engine, slots: configuration.slots, context: configuration.context,
      vocabularySize: offer.vocabularySize, maximumPositions: Self.maximumPositions, logger: logger)
    self.service = service
    let (events, finish) = AsyncStream<News>.makeStream()
    self.events = events
    self.finish = finish
    let leases = SlotLeases(slots: configuration.slots, endpoints: configuration.coordinators)
    let flag = DrainFlag()
    self.flag = flag
    links = configuration.coordinators.map { endpoint in
      CoordinatorLink(
        endpoint: endpoint, offer: offer, service: service, leases: leases, page: page,
        isDraining: { flag.isSet }, logger: logger,
        notify: { event in
          switch event {
          case .refused(let refused): finish.yield(.refused(endpoint: endpoint, Self.error(refused, by: endpoint)))
          case .notLetIn(let error): finish.yield(.refused(endpoint: endpoint, error))
          case .registered: finish.yield(.registered(endpoint: endpoint))
          case .drain: finish.yield(.drain)
          }
        })
    }
    clients = try links.map { link in
      try MessageClient(
        endpoint: link.endpoint, security: configuration.security, options: MessagingOptions(logger: logger),
        handler: link)
    }
  }

  /// Begins to drain: finishes what it has, takes nothing new, then ``run()`` returns. Called on SIGTERM.
  public func drain() { finish.yield(.drain) }

  /// Serves until the end.
  ///
  /// - Throws: ``FusionRouteError``: `.badInput` with the coordinator's sentence when refused, `.unavailable` when every
  ///   coordinator has been silent for the orphan timeout.
  public func run() async throws {
    let watch = Task { [self] in
      while !Task.isCancelled {
        try await Task.sleep(for: .milliseconds(500))
        if links.allSatisfy({ $0.silence > configuration.orphanTimeout }) { finish.finish() }
      }
    }
    defer {
      watch.cancel()
      engine.shutdown()
    }
    var refusals: Set<String> = []
    for await event in events {
      switch event {
      case .drain:
        await finishWork()
        close(reason: "drained")
        return
      case .refused(let endpoint, let refused):
        refusals.insert(endpoint)
        guard refusals.count == links.count else { continue }
        close(reason: "refused")
        throw refused
      case .registered(let endpoint): refusals.remove(endpoint)
      }
    }
    close(reason: "orphaned")
    throw FusionRouteError.unavailable(
      "no coordinator has been heard from for \(configuration.orphanTimeout); this worker ends")
  }

  private static func error(_ refused: Refused, by endpoint: String) -> FusionRouteError {
    let sentence = "the coordinator at \(endpoint) refused this worker: \(refused.message)"
    return refused.code == .authorisation ? .unavailable(sentence) : .badInput(sentence)
  }

  private func finishWork() async {
    flag.set()
    for link in links { link.beat() }
    logger.info("draining", metadata: ["sequences": "\(service.openSequences)"])
    let deadline = ContinuousClock.now + configuration.drainTimeout
    // A coordinator that has gone will not ask for the rest of its sequences.
    while ContinuousClock.now < deadline, links.contains(where: \.isRegistered),
      service.pending > 0 || service.openSequences > 0
    {
      try? await Task.sleep(for: .milliseconds(20))
    }
  }

  private func close(reason: String) {
    for link in links { link.close(reason: reason) }
  }
}

/// Set once, when the worker begins to drain.
private final class DrainFlag: Sendable {
  private let flag = Atomic(false)

  var isSet: Bool { flag.load(ordering: .acquiring) }

  func set() { flag.store(true, ordering: .releasing) }
}

extension Vocabulary {
  /// The tokens that a coordinator asks for, to compare them with its own.
  func page(_ query: VocabularyQuery) -> VocabularyPage {
    let end = min(query.first + min(query.count, 1024), size)
    let tokens = (min(query.first, end)..<end).map { Token($0) }
    return VocabularyPage(
      first: query.first, total: size, texts: tokens.map { text($0) }, attributes: tokens.map { attributes($0) })
  }
}

internal import Coordinator
internal import Core
internal import Foundation
internal import Inference
internal import Launch
internal import Logging
internal import Messaging
internal import ModelFiles
internal import Synchronization

/// A coordinator in this process and, unless workers come from elsewhere, its workers as child processes.
final class ClusterSession: Sendable {
  let cluster: ClusterFile
  let coordinator: CoordinatorRuntime
  private let workers: LocalWorkers?
  private let directory: RuntimeDirectory?

  private init(
    cluster: ClusterFile, coordinator: CoordinatorRuntime, workers: LocalWorkers?, directory: RuntimeDirectory?
  ) {
    self.cluster = cluster
    self.coordinator = coordinator
    self.workers = workers
    self.directory = directory
  }

  /// Runs `body` with a cluster that is ready, and stops it whatever happens.
  ///
  /// - Parameters:
  ///   - attach: wait for workers started elsewhere instead of starting any.
  ///   - logLevel: what the workers log.
  static func with(
    _ cluster: ClusterFile, attach: Bool, logger: Logger, logLevel: Logger.Level, progress: Progress,
    _ body: (ClusterSession) async throws -> Void
  ) async throws {
    let session = try await start(cluster, attach: attach, logger: logger, logLevel: logLevel, progress: progress)
    do {
      try await body(session)
    } catch {
      await session.stop()
      throw error
    }
    await session.stop()
  }

  private static func start(
    _ cluster: ClusterFile, attach: Bool, logger: Logger, logLevel: Logger.Level, progress: Progress
  ) async throws -> ClusterSession {
    if !attach { try checkStartsHere(cluster) }
    try cluster.checkFiles(for: attach ? [.coordinator] : [.coordinator, .workers(of: cluster.experts.map(\.name))])
    try cluster.checkExperts(ofHead: try RoutingHead.read(cluster.router.head).experts)
    let replicas = attach ? [] : Placement(cluster).replicas
    try MemoryPlan.check(
      [("the router", cluster.router.engine)] + MemoryPlan.members(replicas, of: cluster), place: "this machine")
    for warning in cluster.warnings(cores: ProcessInfo.processInfo.activeProcessorCount) {
      logger.warning("\(warning)")
    }
    let directory = cluster.listen.workers == nil ? try RuntimeDirectory() : nil
    let bind = cluster.listen.workers ?? directory?.endpoint("workers")
    guard let bind else { throw FusionRouteError.internal("no endpoint for workers") }
    if attach, cluster.listen.workers == nil {
      throw FusionRouteError.badInput(
        "\(cluster.source): --attach waits for workers that know where to dial: set \"listen.workers\"")
    }
    let executable = try Executable.path()
    let configuration = try configuration(for: cluster, bind: bind)
    let workers = attach ? nil : LocalWorkers(cluster: cluster, executable: executable, logger: logger)
    do {
      // Workers load their models while the router is loaded; where the port is not known yet, they start afterwards.
      if let workers, !bind.isWildcard { try workers.start(dialling: bind.description, logLevel: logLevel) }
      let coordinator = try await progress.step("loading the router") {
        try ModelProbe.check(
          path: configuration.routerModel, adapters: configuration.routerAdapters, executable: executable)
        return try CoordinatorRuntime.start(configuration, logger: logger)
      }
      workers?.follow(coordinator)
      let session = ClusterSession(
        cluster: cluster, coordinator: coordinator, workers: workers, directory: directory)
      do {
        if let workers, bind.isWildcard {
          guard let bound = coordinator.boundEndpoints.first else {
            throw FusionRouteError.internal("the coordinator does not say where it listens")
          }
          try workers.start(dialling: Self.reachable(bound), logLevel: logLevel)
        }
        try await waitUntilReady(coordinator, workers: workers, cluster: cluster, progress: progress)
        workers?.ready()
      } catch {
        await session.stop()
        throw error
      }
      return session
    } catch {
      await workers?.stop()
      directory?.remove()
      throw error
    }
  }

  /// Refuses what `run` cannot start on this machine.
  private static func checkStartsHere(_ cluster: ClusterFile) throws {
    let remote = Placement(cluster).replicas.compactMap { $0.host }.first { cluster.host(named: $0)?.isRemote == true }
    guard let remote else { return }
    throw FusionRouteError.badInput(
      "\(cluster.source) places replicas on the host \"\(remote)\": start them there with `fusionroute workers -c "
        + "\(cluster.source) --host \(remote)`, and use `run --attach` here")
  }

  private static func configuration(for cluster: ClusterFile, bind: Launch.Endpoint) throws -> CoordinatorConfiguration
  {
    let engine = cluster.router.engine
    var configuration = CoordinatorConfiguration(
      routerModel: engine.model, routerHead: cluster.router.head, endpoints: [bind.description])
    configuration.routerAdapters = engine.adapters
    configuration.experts = cluster.experts.map(\.name)
    configuration.gpuLayers = engine.gpuLayers
    configuration.threads = engine.threads
    configuration.context = engine.context
    configuration.slots = engine.slots
    configuration.kvType = engine.kvType
    configuration.security = try cluster.keys.map { try ServerSecurity.load(keysDirectory: $0) }
    configuration.topK = cluster.decoding.topK
    configuration.reproducible = cluster.decoding.reproducible
    configuration.auditRate = cluster.decoding.auditRate
    configuration.expertWait = cluster.expertWait
    configuration.warmsAtArrival = cluster.expertsHaveOwnCores(cores: ProcessInfo.processInfo.activeProcessorCount)
    return configuration
  }

  /// A bound wildcard address, as processes of this machine dial it.
  private static func reachable(_ bound: String) -> String {
    guard case .tcp(let host, let port)? = Launch.Endpoint(bound) else { return bound }
    let local = ["*", "0.0.0.0", "::"].contains(host) ? "127.0.0.1" : host
    return Launch.Endpoint.tcp(host: local, port: port).description
  }

  /// Waits for a replica of every expert, or for a worker that has given up.
  private static func waitUntilReady(
    _ coordinator: CoordinatorRuntime, workers: LocalWorkers?, cluster: ClusterFile, progress: Progress
  ) async throws {
    let count = cluster.experts.reduce(0) { $0 + $1.replicas }
    let what = workers == nil ? "waiting for workers" : "starting \(count) worker\(count == 1 ? "" : "s")"
    try await progress.showing(what) {
      try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask { try await coordinator.waitUntilReady(timeout: cluster.startWait) }
        if let workers {
          group.addTask { if let failure = await workers.firstFailure() { throw failure } }
        }
        defer { group.cancelAll() }
        _ = try await group.next()
      }
    }
  }

  /// Ends requests, then the workers, and removes the socket.
  func stop() async {
    workers?.expectEnds()
    await coordinator.shutdown()
    await workers?.stop()
    directory?.remove()
  }
}

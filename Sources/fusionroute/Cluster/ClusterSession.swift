internal import Coordinator
internal import Core
internal import Foundation
internal import Inference
internal import Launch
internal import Messaging
internal import ModelFiles
internal import Synchronization

/// The composition root of `run`, `up` and `coordinator`: a coordinator in this process and, unless workers come from
/// elsewhere, its workers as child processes.
final class ClusterSession: Sendable {
  /// Which of the cluster's workers this process starts.
  enum Workers: Sendable {
    /// Every one; a cluster file that places some on other machines is refused.
    case all
    /// Those that the cluster file places on this machine.
    case ofThisMachine
    case elsewhere
  }

  let cluster: ClusterFile
  let coordinator: CoordinatorRuntime
  /// nil: they are started elsewhere. One without replicas may get some by `scale`.
  let workers: LocalWorkers?
  private let directory: RuntimeDirectory?
  private let isStopped = Mutex(false)

  private init(
    cluster: ClusterFile, coordinator: CoordinatorRuntime, workers: LocalWorkers?, directory: RuntimeDirectory?
  ) {
    self.cluster = cluster
    self.coordinator = coordinator
    self.workers = workers
    self.directory = directory
  }

  /// Whether this process started with workers of its own.
  var hasOwnReplicas: Bool { workers?.hasReplicas ?? false }

  /// Runs `body` with a cluster that is ready, and stops it whatever happens.
  static func with(
    _ cluster: ClusterFile, workers: Workers, log: LogSettings, progress: Progress,
    _ body: (ClusterSession) async throws -> Void
  ) async throws {
    try await withStarted(cluster, workers: workers, log: log, progress: progress) { session in
      try await session.waitUntilReady(progress: progress)
      try await body(session)
    }
  }

  /// Runs `body` with a router that is loaded and workers that are starting, and stops them whatever happens.
  ///
  /// - Parameter trace: takes the spans of requests.
  static func withStarted(
    _ cluster: ClusterFile, workers: Workers, log: LogSettings, progress: Progress, trace: (any TraceSink)? = nil,
    _ body: (ClusterSession) async throws -> Void
  ) async throws {
    let session = try await start(cluster, workers: workers, log: log, progress: progress, trace: trace)
    do {
      try await body(session)
    } catch {
      await session.stop()
      throw error
    }
    await session.stop()
  }

  private static func start(
    _ cluster: ClusterFile, workers choice: Workers, log: LogSettings, progress: Progress, trace: (any TraceSink)?
  ) async throws -> ClusterSession {
    let placement = try ClusterPlan.placement(cluster)
    let replicas = try replicas(choice, of: cluster, placement)
    let experts = Set(replicas.map(\.expert))
    try cluster.checkFiles(for: [.coordinator, .workers(of: experts.sorted())])
    try cluster.checkExperts(ofHead: try RoutingHead.read(cluster.router.head).experts)
    try MemoryPlan.check(
      [("the router", cluster.router.engine)] + MemoryPlan.members(replicas, of: cluster), place: "this machine")
    for warning in cluster.warnings(
      cores: ProcessorCount.usable, placement: placement)
    {
      log.logger.warning("\(warning)")
    }
    let directory = cluster.listen.workers == nil ? try RuntimeDirectory() : nil
    guard let bind = cluster.listen.workers ?? directory?.endpoint("workers") else {
      throw FusionRouteError.internal("no endpoint for workers")
    }
    let executable = try Executable.path()
    var settings = try cluster.coordinatorConfiguration(binding: bind, placement: placement)
    settings.traceSink = trace
    let configuration = settings
    let workers: LocalWorkers? =
      switch choice {
      case .all, .ofThisMachine: LocalWorkers(replicas, of: cluster, executable: executable, log: log)
      case .elsewhere: nil
      }
    do {
      // Workers load their models while the router is loaded; where the port is not known yet, they start afterwards.
      if let workers, !bind.isWildcard { try workers.start(dialling: bind.description) }
      let coordinator = try await progress.step("loading the router") {
        try ModelProbe.check(
          path: configuration.routerModel, adapters: configuration.routerAdapters, executable: executable)
        return try CoordinatorRuntime.start(configuration, logger: log.logger)
      }
      workers?.follow(coordinator)
      let session = ClusterSession(
        cluster: cluster, coordinator: coordinator, workers: workers, directory: directory)
      do {
        if let workers, bind.isWildcard { try workers.start(dialling: session.localEndpoint()) }
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

  /// The replicas that this process starts.
  static func replicas(
    _ choice: Workers, of cluster: ClusterFile, _ placement: Placement? = nil
  ) throws -> [Placement.Replica] {
    let replicas = try (placement ?? ClusterPlan.placement(cluster)).replicas
    func isElsewhere(_ replica: Placement.Replica) -> Bool {
      replica.host.flatMap { cluster.host(named: $0) }?.isHere == false
    }
    switch choice {
    case .all:
      guard let host = replicas.first(where: isElsewhere)?.host else { return replicas }
      throw FusionRouteError.badInput(
        "\(cluster.source) places replicas on the host \"\(host)\": start them there with `fusionroute workers -c "
          + "\(cluster.source) --host \(host)`, and use `run --attach` here")
    case .ofThisMachine:
      return replicas.filter { !isElsewhere($0) }
    case .elsewhere:
      guard cluster.listen.workers != nil else {
        throw FusionRouteError.badInput(
          "\(cluster.source): workers that are started elsewhere must know where to dial: set \"listen.workers\"")
      }
      return []
    }
  }

  /// The bound endpoint, as processes of this machine dial it.
  private func localEndpoint() throws -> String {
    guard let bound = coordinator.boundEndpoints.first else {
      throw FusionRouteError.internal("the coordinator does not say where it listens")
    }
    guard case .tcp(let host, let port)? = Launch.Endpoint(bound) else { return bound }
    let local = ["*", "0.0.0.0", "::"].contains(host) ? "127.0.0.1" : host
    return Launch.Endpoint.tcp(host: local, port: port).description
  }

  /// Waits for a replica of every expert. Throws when one does not come in time and when a worker has given up.
  func waitUntilReady(progress: Progress) async throws {
    let count = cluster.experts.reduce(0) { $0 + $1.replicas }
    let what = !hasOwnReplicas ? "waiting for workers" : "starting \(count) worker\(count == 1 ? "" : "s")"
    try await progress.showing(what) {
      try await orWorkerFailure { [self] in try await coordinator.waitUntilReady(timeout: cluster.startWait) }
    }
  }

  /// Runs `body`, during which a worker that gives up is an error: until all are ready.
  func orWorkerFailure(_ body: @escaping @Sendable () async throws -> Void) async throws {
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await body() }
      if let workers {
        group.addTask { if let failure = await workers.firstFailure() { throw failure } }
      }
      defer { group.cancelAll() }
      _ = try await group.next()
    }
    workers?.ready()
  }

  /// Ends requests, then the workers, and removes the socket. Doing so again does nothing.
  func stop() async {
    let wasStopped = isStopped.withLock { isStopped in
      defer { isStopped = true }
      return isStopped
    }
    if wasStopped { return }
    workers?.expectEnds()
    await coordinator.shutdown()
    await workers?.stop()
    directory?.remove()
  }
}

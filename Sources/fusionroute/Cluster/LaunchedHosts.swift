internal import Core
internal import Foundation
internal import Launch
internal import Logging

/// The part of `up` that is on other hosts, and what `down` needs to find it.
struct LaunchedHosts: Sendable {
  let fleet: Fleet
  private let orders: [HostOrder]
  /// What is needed to start something on a host that has nothing yet.
  private let template: @Sendable (ClusterFile.Host) -> HostOrder
  /// Held while `up` runs, so that another one is refused and `down` knows whom to ask.
  private let lock: ServiceLock
  private let logger: Logger

  /// Nil where nothing is on other hosts and there is no place for notes, or another process has it: then there is
  /// nothing to find again.
  ///
  /// Throws `unavailable` if another `up` of this cluster file, which has started other hosts, runs.
  static func make(_ cluster: ClusterFile, path: String, plan: PlacementPlan, log: LogSettings) throws -> LaunchedHosts?
  {
    do { return try LaunchedHosts(cluster, path: path, plan: plan, log: log) } catch let error as FusionRouteError {
      guard orders(cluster, path, plan, log, program: "").isEmpty else { throw error }
      log.logger.debug("down will not find this process", metadata: ["reason": "\(error)"])
      return nil
    }
  }

  private static func orders(
    _ cluster: ClusterFile, _ path: String, _ plan: PlacementPlan, _ log: LogSettings, program: String
  ) -> [HostOrder] {
    HostOrder.orders(of: plan, cluster: cluster, path: path, program: program, logLevel: log.level.rawValue)
      .filter { $0.host.launcher.startsElsewhere }
  }

  private init(_ cluster: ClusterFile, path: String, plan: PlacementPlan, log: LogSettings) throws {
    let absolute = URL(fileURLWithPath: path).standardizedFileURL.path
    let files = try UpFiles(cluster: absolute)
    if let holder = try ServiceLock.holder(path: files.lock) {
      throw FusionRouteError.unavailable(
        "\(path) is up already, by process \(holder.pid): `fusionroute down -c \(path)` stops it")
    }
    lock = try ServiceLock(path: files.lock)
    try lock.announce("up")
    logger = log.logger
    let events = FleetLog(logger: log.logger)
    fleet = try Fleet(path: files.state, cluster: absolute, report: { events.record($0) })
    let program = try Executable.path()
    orders = Self.orders(cluster, absolute, plan, log, program: program)
    let (level, grace) = (log.level.rawValue, cluster.supervision.grace)
    template = { host in
      HostOrder(
        host: host, replicas: [], bytes: 0, program: program, cluster: absolute, logLevel: level,
        graceSeconds: Double(grace.components.seconds) + Double(grace.components.attoseconds) / 1e18)
    }
  }

  /// A number of replicas for ``Fleet/apply(_:)``.
  func change(_ host: ClusterFile.Host, _ replicas: HostOrder.Replicas) -> Fleet.Change {
    var order = template(host)
    order.bytes = replicas.bytes * UInt64(replicas.count)
    return Fleet.Change(order: order, replicas: replicas)
  }

  /// Starts them. A host that fails is reported and left out.
  ///
  /// Throws its failure if not one host could be started and none of the replicas is on this machine.
  func start(hasOwnReplicas: Bool) async throws {
    let failures = try await fleet.start(orders)
    if let failure = failures.first, !hasOwnReplicas, await !fleet.isRunning { throw failure }
  }

  func stop() async { _ = await fleet.stop() }

  /// Starts them while `body` runs and stops them when it has ended.
  ///
  /// - Parameters:
  ///   - leaves: whether they run on.
  ///   - failed: ends `body` when there is nothing to serve with.
  func around(
    _ session: ClusterSession, leaves: Bool, _ body: @escaping @Sendable () async throws -> Void,
    failed: @escaping @Sendable () async -> Void
  ) async throws {
    let starting = Task {
      do { try await start(hasOwnReplicas: session.hasOwnReplicas) } catch {
        await failed()
        throw error
      }
    }
    let result: Result<Void, any Error>
    do {
      try await body()
      result = .success(())
    } catch { result = .failure(error) }
    starting.cancel()
    let started = await starting.result
    if !leaves { await stop() }
    try result.get()
    if case .failure(let error as FusionRouteError) = started, error.code != .interrupted { throw error }
  }
}

extension ClusterFile.Launcher {
  /// Whether it starts workers that are not this process's own.
  var startsElsewhere: Bool {
    switch self {
    case .ssh, .slurm, .kubernetes: true
    case .manual, .local: false
    }
  }
}

/// Where `up` and `down` of one cluster file meet.
struct UpFiles {
  let lock: String
  let state: String

  /// - Parameter cluster: absolute path.
  init(cluster: String) throws {
    let directory = try StateDirectory()
    lock = directory.file("up", cluster: cluster, suffix: "lock")
    state = directory.file("up", cluster: cluster, suffix: "json")
  }
}

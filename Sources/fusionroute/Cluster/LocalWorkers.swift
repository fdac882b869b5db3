internal import Coordinator
internal import Core
internal import Foundation
internal import Launch
internal import Synchronization

/// The worker processes of `run` and `up`, and what becomes of them.
final class LocalWorkers: Sendable {
  let supervisor: ProcessSupervisor
  let cluster: ClusterFile
  private let replicas: [Placement.Replica]
  private let settings: LogSettings
  private let log: WorkerLog
  private let failures: AsyncStream<FusionRouteError>
  /// Where the workers dial, once that is known.
  let endpoint = Mutex<String?>(nil)
  let scaling = Mutex(())
  /// For which of the cluster file's hosts each replica is; several may be this machine.
  let homes = Mutex<[String: String?]>([:])

  init(_ replicas: [Placement.Replica], of cluster: ClusterFile, executable: String, log settings: LogSettings) {
    self.cluster = cluster
    self.replicas = replicas
    self.settings = settings
    let (failures, continuation) = AsyncStream<FusionRouteError>.makeStream()
    self.failures = failures
    let log = WorkerLog(settings, phase: .starting)
    self.log = log
    let supervision = cluster.supervision
    supervisor = ProcessSupervisor(
      executable: executable,
      limits: .init(restarts: supervision.restarts, window: supervision.window, backOff: supervision.backOff),
      grace: supervision.grace
    ) { event in
      log.record(event)
      if case .gaveUp(let name, let exit, let reason, let error) = event {
        continuation.yield(Self.failure(name: name, exit: exit, reason: reason, error: error))
      }
    }
  }

  /// Whether the cluster started with replicas on this machine.
  var hasReplicas: Bool { !replicas.isEmpty }

  /// Tells `coordinator` of every worker that ends, so that its requests move on at once.
  func follow(_ coordinator: CoordinatorRuntime) {
    let host = ProcessInfo.processInfo.hostName
    log.onEnd { coordinator.replicaProcessEnded(pid: $0, host: host) }
  }

  /// Called before anything that makes workers end.
  func expectEnds() { log.enter(.stopping) }

  /// Called when every expert has a replica.
  func ready() { log.enter(.running) }

  /// Stops them all.
  func stop() async {
    expectEnds()
    await supervisor.stop()
  }

  /// Starts every replica.
  func start(dialling endpoint: String) throws {
    self.endpoint.withLock { $0 = endpoint }
    for replica in replicas {
      guard let expert = cluster.expert(named: replica.expert) else { continue }
      try start(
        ReplicaAdjustment.name(replica.expert, replica.index), of: expert, host: replica.host, dialling: endpoint)
    }
  }

  func start(_ name: String, of expert: ClusterFile.Expert, host: String?, dialling endpoint: String) throws {
    homes.withLock { _ = $0.updateValue(host, forKey: name) }
    let command = WorkerInvocation(
      expert: expert, coordinators: [endpoint], hostName: ProcessInfo.processInfo.hostName, cluster: cluster,
      keyName: WorkerKeys.name(in: cluster.keys, preferring: host),
      logLevel: settings.level.rawValue, logFormat: settings.format.rawValue)
    try supervisor.start(.init(name: name, arguments: command.arguments))
  }

  /// The first worker that was given up; nil when the wait is cancelled.
  func firstFailure() async -> FusionRouteError? {
    for await failure in failures { return failure }
    return nil
  }

  static func failure(name: String, exit: ProcessExit, reason: String, error: String?) -> FusionRouteError {
    let code: FusionRouteError.Code =
      switch exit {
      case .code(64), .code(70): .internal
      case .code(65): .badInput
      default: .unavailable
      }
    let expert = name.split(separator: ".").dropLast().joined(separator: ".")
    let why = error ?? "it ended with \(exit); \(reason)"
    return FusionRouteError(code, "the worker of the expert \"\(expert)\" could not start: \(why)")
  }
}

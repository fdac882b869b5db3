internal import Coordinator
internal import Core
internal import Foundation
internal import Launch
internal import Logging
internal import Synchronization

/// The worker processes of `run`, and what becomes of them.
final class LocalWorkers: Sendable {
  let supervisor: ProcessSupervisor
  private let cluster: ClusterFile
  private let log: WorkerLog
  private let failures: AsyncStream<FusionRouteError>

  init(cluster: ClusterFile, executable: String, logger: Logger) {
    self.cluster = cluster
    let (failures, continuation) = AsyncStream<FusionRouteError>.makeStream()
    self.failures = failures
    let log = WorkerLog(logger: logger, style: Style(.standardError), phase: .starting)
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
  func start(dialling endpoint: String, logLevel: Logger.Level) throws {
    let placement = Placement(cluster)
    for replica in placement.replicas {
      guard let expert = cluster.expert(named: replica.expert) else { continue }
      let command = WorkerInvocation(
        expert: expert, coordinators: [endpoint], hostName: ProcessInfo.processInfo.hostName, cluster: cluster,
        keyName: WorkerKeys.name(in: cluster.keys, preferring: replica.host), logLevel: logLevel.rawValue)
      try supervisor.start(.init(name: "\(replica.expert).\(replica.index)", arguments: command.arguments))
    }
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

/// What supervised workers say and how they fare, as log lines of this process.
final class WorkerLog: Sendable {
  private let logger: Logger
  private let style: Style
  private let ended = Mutex<(@Sendable (Int32) -> Void)?>(nil)
  private let phase: Mutex<Phase>

  /// What the end of a worker means: a failed start, which is reported as the outcome of the start; an accident; or what
  /// was asked for.
  enum Phase { case starting, running, stopping }

  init(logger: Logger, style: Style, phase: Phase) {
    self.logger = logger
    self.style = style
    self.phase = Mutex(phase)
  }

  func onEnd(_ call: @escaping @Sendable (Int32) -> Void) { ended.withLock { $0 = call } }

  /// When stopping, nobody is told of ends, and workers' goodbyes are not shown.
  func enter(_ phase: Phase) {
    if phase == .stopping { ended.withLock { $0 = nil } }
    self.phase.withLock { $0 = phase }
  }

  func record(_ event: ProcessSupervisor.Event) {
    let phase = phase.withLock { $0 }
    switch event {
    case .started(let name, let pid):
      logger.info("worker started", metadata: ["worker": "\(name)", "pid": "\(pid)"])
    case .line(let name, let text):
      // Why a worker ended is said once, by what supervises it.
      guard !text.hasPrefix(ProcessSupervisor.errorPrefix), phase != .stopping || logger.logLevel <= .debug else {
        return
      }
      let line = "\(style.paint("[\(name)]", .faint)) \(text)\n"
      try? FileHandle.standardError.write(contentsOf: Data(line.utf8))
    case .ended(let name, let pid, let exit, let error):
      ended.withLock { $0 }?(pid)
      let level: Logger.Level = phase != .running || exit == .code(0) ? .info : .warning
      logger.log(
        level: level, "worker ended",
        metadata: ["worker": "\(name)", "pid": "\(pid)", "exit": "\(exit)", "reason": "\(error ?? "")"])
    case .restarting(let name, let wait):
      logger.info("worker will be started again", metadata: ["worker": "\(name)", "after": "\(wait)"])
    case .gaveUp(let name, _, let reason, let error):
      // While the cluster starts, this is the error that the command ends with.
      logger.log(
        level: phase == .running ? .error : .debug, "worker was given up",
        metadata: ["worker": "\(name)", "reason": "\(reason)", "error": "\(error ?? "")"])
    }
  }
}

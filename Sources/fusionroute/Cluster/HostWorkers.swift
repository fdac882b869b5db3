internal import Core
internal import Foundation
internal import Launch
internal import Synchronization

/// The supervised worker processes of one host, whose number may change while they run.
final class HostWorkers: Sendable {
  /// Which of them are kept running. The handler of events needs it before there is a supervisor.
  private final class Roll: Sendable {
    private let state = Mutex<(kept: Set<String>, givenUp: Set<String>)>(([], []))

    func add(_ name: String) { state.withLock { _ = $0.kept.insert(name) } }

    func remove(_ name: String) {
      state.withLock {
        $0.kept.remove(name)
        $0.givenUp.remove(name)
      }
    }

    /// Whether none is left that runs or will.
    func giveUp(_ name: String) -> Bool {
      state.withLock {
        $0.givenUp.insert(name)
        return $0.kept.isSubset(of: $0.givenUp)
      }
    }

    var kept: Set<String> { state.withLock { $0.kept } }
    var givenUp: Set<String> { state.withLock { $0.givenUp } }
  }

  private let file: ClusterFile
  private let host: String?
  private let endpoint: String
  private let keyName: String?
  private let settings: LogSettings
  private let supervisor: ProcessSupervisor
  private let roll: Roll
  private let changing = Mutex(())
  /// Why the last worker was given up, when none is left.
  let failures: AsyncStream<FusionRouteError>

  /// - Parameters:
  ///   - endpoint: where they dial.
  ///   - keyName: nil: the key named like the host, else the first.
  init(
    of file: ClusterFile, host: String?, dialling endpoint: String, keyName: String?, log settings: LogSettings
  ) throws {
    self.file = file
    self.host = host
    self.endpoint = endpoint
    self.keyName = keyName ?? WorkerKeys.name(in: file.keys, preferring: host)
    self.settings = settings
    let (failures, continuation) = AsyncStream<FusionRouteError>.makeStream()
    self.failures = failures
    let log = WorkerLog(settings, phase: .running)
    let roll = Roll()
    self.roll = roll
    let supervision = file.supervision
    supervisor = ProcessSupervisor(
      executable: try Executable.path(),
      limits: .init(restarts: supervision.restarts, window: supervision.window, backOff: supervision.backOff),
      grace: supervision.grace
    ) { event in
      log.record(event)
      guard case .gaveUp(let name, let exit, let reason, let error) = event, roll.giveUp(name) else { return }
      continuation.yield(LocalWorkers.failure(name: name, exit: exit, reason: reason, error: error))
    }
  }

  func start(_ replicas: [Placement.Replica]) throws {
    try changing.withLock { _ in
      // All are on the roll before the first can be given up.
      for replica in replicas { roll.add(ReplicaAdjustment.name(replica.expert, replica.index)) }
      for replica in replicas {
        try start(ReplicaAdjustment.name(replica.expert, replica.index), of: replica.expert)
      }
    }
  }

  /// Brings every expert to its number of replicas; one that is not named, to none. Those that leave drain by themselves.
  ///
  /// Throws `badInput` for an unknown expert, `unavailable` if memory does not suffice; then nothing has changed.
  func adjust(to counts: [ReplicaCount]) throws {
    if let unknown = counts.first(where: { file.expert(named: $0.expert) == nil }) {
      throw FusionRouteError.badInput("\(file.source) names no expert \"\(unknown.expert)\"")
    }
    try changing.withLock { _ in
      let (kept, givenUp, taken) = (roll.kept, roll.givenUp, supervisor.taken)
      let adjustments = file.experts.map { expert in
        ReplicaAdjustment(
          of: expert.name, to: counts.first { $0.expert == expert.name }?.count ?? 0, kept: kept, givenUp: givenUp,
          taken: taken)
      }
      let missing = zip(file.experts, adjustments).flatMap { expert, adjustment in
        adjustment.starting.map { (name: $0, expert: expert) }
      }
      try MemoryPlan.check(
        missing.map { ("expert \"\($0.expert.name)\"", $0.expert.engine) },
        place: host.map { "the host \"\($0)\"" } ?? "this machine")
      for name in adjustments.flatMap(\.forgotten) { leave(name) }
      for (name, expert) in missing {
        roll.add(name)
        try start(name, of: expert.name)
      }
      for name in adjustments.flatMap(\.stopping) { leave(name) }
    }
  }

  func stop() async { await supervisor.stop() }

  private func leave(_ name: String) {
    roll.remove(name)
    supervisor.stop(name)
  }

  private func start(_ name: String, of expert: String) throws {
    guard let expert = file.expert(named: expert) else { return }
    let command = WorkerInvocation(
      expert: expert, coordinators: [endpoint], hostName: host ?? ProcessInfo.processInfo.hostName, cluster: file,
      keyName: keyName, logLevel: settings.level.rawValue, logFormat: settings.format.rawValue)
    do { try supervisor.start(.init(name: name, arguments: command.arguments)) } catch {
      // Not there, so that the next adjustment tries it again.
      roll.remove(name)
      throw error
    }
  }
}

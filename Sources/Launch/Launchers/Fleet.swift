public import Core

/// The hosts of one cluster that launchers start: what `up` starts, `down` stops.
///
/// Every step is noted in a file before and after it is done, so that a crash in between loses nothing.
public actor Fleet {
  public enum Event: Sendable {
    case starting(hosts: [String], launcher: ClusterFile.Launcher)
    case started(hosts: [String], LaunchOutcome)
    case stopping(hosts: [String], launcher: ClusterFile.Launcher)
    case stopped(hosts: [String])
    case failed(hosts: [String], FusionRouteError)
    case scaled(host: String, launcher: ClusterFile.Launcher, expert: String, from: Int, to: Int)
  }

  /// A number of replicas that is wanted on one host.
  public struct Change: Sendable {
    /// How the host is reached; its replicas are not looked at.
    public var order: HostOrder
    /// The expert, the number wanted, and what one replica takes.
    public var replicas: HostOrder.Replicas

    public init(order: HostOrder, replicas: HostOrder.Replicas) {
      self.order = order
      self.replicas = replicas
    }
  }

  private let path: String
  private var state: LaunchState
  /// Starts and changes under way, and whether no more may begin.
  private var starts = 0
  private var changes = 0
  private var isStopping = false
  private var waiters: [CheckedContinuation<Void, Never>] = []
  private let launchers: @Sendable (ClusterFile.Launcher) -> (any HostLauncher)?
  private let report: @Sendable (Event) -> Void

  /// - Parameters:
  ///   - path: of the file that notes what runs.
  ///   - cluster: absolute path of the cluster file.
  ///   - report: told of every host; called from any thread.
  public init(
    path: String, cluster: String, run: @escaping CommandRunner = { try await SystemCommands.run($0) },
    report: @escaping @Sendable (Event) -> Void
  ) throws {
    self.path = path
    self.report = report
    state = try LaunchState.load(path: path, cluster: cluster)
    launchers = { kind in
      switch kind {
      case .ssh: SSHLauncher(run: run)
      case .slurm: SlurmLauncher(run: run)
      case .kubernetes: KubernetesLauncher(run: run)
      case .manual, .local: nil
      }
    }
  }

  /// What was started and not stopped.
  public var records: [LaunchRecord] { state.records }

  /// Whether anything was started and not stopped.
  public var isRunning: Bool { state.records.contains { $0.phase == .running } }

  /// Starts the orders whose hosts have a launcher; what runs already is left alone. One host's failure does not keep
  /// the others from being started.
  ///
  /// - Returns: the failures.
  public func start(_ orders: [HostOrder]) async throws -> [FusionRouteError] {
    starts += 1
    defer { starts -= 1 }
    let id = StateDirectory.id(ofCluster: state.cluster)
    var planned = Self.records(orders, id: id)
    // What an earlier `up` left running and this one does not want, or not in this way.
    var failures = await stop(
      state.records.filter { old in
        planned.first { $0.name == old.name }.map { !Self.isSamePlace(old, $0) } ?? true
      })
    for (number, record) in planned.enumerated() {
      if let index = state.records.firstIndex(where: { $0.name == record.name }) {
        state.records[index].orders = record.orders
        // What `scale` has changed since: the launcher must know, to undo it.
        planned[number].job = state.records[index].job
        planned[number].slurm = state.records[index].slurm
      } else {
        state.records.append(record)
      }
    }
    try state.save(path: path)
    await withTaskGroup(of: FusionRouteError?.self) { group in
      for record in planned { group.addTask { await self.start(record) } }
      for await failure in group { if let failure { failures.append(failure) } }
    }
    return failures
  }

  /// Stops everything that is noted, once changes under way have ended.
  ///
  /// - Returns: the failures; what could not be stopped stays noted.
  public func stop() async -> [FusionRouteError] {
    isStopping = true
    while changes > 0 { await withCheckedContinuation { waiters.append($0) } }
    return await stop(state.records)
  }

  // MARK: Numbers of replicas

  /// Whether hosts are being started: then what runs is not known yet.
  public var isStarting: Bool { starts > 0 }

  /// Replicas of an expert that were started on a host; none where the start failed.
  public func count(of expert: String, on host: String) -> Int {
    guard let record = state.records.first(where: { $0.hosts.contains(host) }), record.phase == .running else {
      return 0
    }
    return record.count(of: expert, on: host)
  }

  /// Brings experts to their numbers of replicas, hosts beside each other. A host on which nothing runs yet, or whose
  /// start failed, is started.
  ///
  /// - Returns: the failures by host; the other changes are made.
  public func apply(_ wanted: [Change]) async throws -> [String: FusionRouteError] {
    guard !isStopping else { throw FusionRouteError.unavailable("the cluster is being stopped") }
    changes += 1
    defer {
      changes -= 1
      if changes == 0 {
        for waiter in waiters { waiter.resume() }
        waiters = []
      }
    }
    // Those of one record one after the other: they change the same notes.
    var groups: [String: [Change]] = [:]
    for change in wanted { groups[try noted(change), default: []].append(change) }
    try state.save(path: path)
    var failures: [String: FusionRouteError] = [:]
    await withTaskGroup(of: [(String, FusionRouteError)].self) { tasks in
      for (name, changes) in groups { tasks.addTask { await self.apply(changes, to: name) } }
      for await failed in tasks { failures.merge(failed) { first, _ in first } }
    }
    return failures
  }

  /// The name of the record that a change belongs to, which is there before anything is done.
  private func noted(_ change: Change) throws -> String {
    let host = change.order.host
    if let record = state.records.first(where: { $0.hosts.contains(host.name) }) { return record.name }
    guard launchers(host.launcher) != nil else {
      throw FusionRouteError.badInput("nothing starts replicas on the host \"\(host.name)\"")
    }
    var order = change.order
    order.replicas = []
    guard let record = Self.records([order], id: StateDirectory.id(ofCluster: state.cluster)).first else {
      throw FusionRouteError.internal("no record for the host \"\(host.name)\"")
    }
    state.records.append(record)
    return record.name
  }

  private func apply(_ changes: [Change], to name: String) async -> [(String, FusionRouteError)] {
    var failures: [(String, FusionRouteError)] = []
    for change in changes {
      guard var record = state.records.first(where: { $0.name == name }), let launcher = launchers(record.launcher)
      else { continue }
      let (host, expert) = (change.order.host.name, change.replicas.expert)
      let before = count(of: expert, on: host)
      var failure: FusionRouteError?
      do {
        if record.phase == .running {
          try await launcher.setReplicas(change.replicas, on: host, in: &record)
        } else {
          for index in record.orders.indices where record.orders[index].host.name == host {
            record.orders[index].set(change.replicas)
          }
          _ = try await launcher.start(&record)
        }
      } catch {
        failure = told(error, of: [host])
      }
      replace(record)
      do { try state.save(path: path) } catch { failure = failure ?? told(error, of: [host]) }
      if let failure {
        failures.append((host, failure))
      } else {
        report(
          .scaled(
            host: host, launcher: record.launcher, expert: expert, from: before,
            to: record.count(of: expert, on: host)))
      }
    }
    return failures
  }

  /// Whether the launcher itself can turn what runs into what is wanted.
  private static func isSamePlace(_ old: LaunchRecord, _ new: LaunchRecord) -> Bool {
    // The tasks of a job are fixed; a host by ssh is another one at another address.
    switch new.launcher {
    case .slurm: old.orders == new.orders
    default: old.orders.map(\.host) == new.orders.map(\.host)
    }
  }

  private func start(_ record: LaunchRecord) async -> FusionRouteError? {
    guard let launcher = launchers(record.launcher) else { return nil }
    var record = record
    report(.starting(hosts: record.hosts, launcher: record.launcher))
    do {
      let outcome = try await launcher.start(&record)
      replace(record)
      try state.save(path: path)
      report(.started(hosts: record.hosts, outcome))
      return nil
    } catch {
      // Still noted as starting: what is half started is stopped too.
      return told(error, of: record.hosts)
    }
  }

  private func stop(_ records: [LaunchRecord]) async -> [FusionRouteError] {
    var failures: [FusionRouteError] = []
    await withTaskGroup(of: FusionRouteError?.self) { group in
      for record in records { group.addTask { await self.stop(record) } }
      for await failure in group { if let failure { failures.append(failure) } }
    }
    return failures
  }

  private func stop(_ record: LaunchRecord) async -> FusionRouteError? {
    guard let launcher = launchers(record.launcher) else { return nil }
    report(.stopping(hosts: record.hosts, launcher: record.launcher))
    do {
      try await launcher.stop(record)
      state.records.removeAll { $0.name == record.name }
      try state.save(path: path)
      report(.stopped(hosts: record.hosts))
      return nil
    } catch {
      return told(error, of: record.hosts)
    }
  }

  private func told(_ error: any Error, of hosts: [String]) -> FusionRouteError {
    let failure =
      error as? FusionRouteError
      ?? (error is CancellationError
        ? .interrupted("interrupted") : .internal("an unexpected error of a launcher", cause: error))
    report(.failed(hosts: hosts, failure))
    return failure
  }

  private func replace(_ record: LaunchRecord) {
    if let index = state.records.firstIndex(where: { $0.name == record.name }) { state.records[index] = record }
  }

  /// What is started together. Names depend on the cluster file and the hosts only, so that the same start has the same
  /// name.
  static func records(_ orders: [HostOrder], id: String) -> [LaunchRecord] {
    var records = orders.filter { $0.host.launcher == .ssh }.map {
      LaunchRecord(launcher: .ssh, orders: [$0], name: "fusionroute-\(id)-\($0.host.name)")
    }
    for group in SlurmScript.groups(orders.filter { $0.host.launcher == .slurm }) {
      let first = group.first?.host.name ?? ""
      records.append(LaunchRecord(launcher: .slurm, orders: group, name: "fusionroute-\(id)-\(first)"))
    }
    for order in orders where order.host.launcher == .kubernetes {
      records.append(LaunchRecord(launcher: .kubernetes, orders: [order], name: "fusionroute-\(id)-\(order.host.name)"))
    }
    return records
  }
}

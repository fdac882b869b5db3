internal import ArgumentParser
internal import Core
internal import Foundation
internal import Launch
internal import Synchronization

struct WorkersCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "workers",
    abstract: "Start and supervise the replicas that a cluster file places on one host.",
    discussion: """
      What a person, ssh, systemd or Slurm starts on every host. Workers that end are started again, with growing waits \
      and not for ever; SIGTERM and Ctrl-C stop them in order. If this process is killed, its workers end too.

      Example: on the coordinator's machine `fusionroute run -c cluster.yaml --attach`, on the host gpu1 \
      `fusionroute workers -c cluster.yaml --host gpu1`.
      """)

  @Option(name: [.short, .long], help: ArgumentHelp("The cluster file (YAML).", valueName: "file"))
  var cluster: String

  @Option(
    help: ArgumentHelp("Which of the file's hosts this is. Not needed if the file lists none.", valueName: "name"))
  var host: String?

  @Option(
    help: ArgumentHelp(
      "The keys directory on this host, if it is not where the cluster file says.", valueName: "directory"))
  var keys: String?

  @Option(
    help: ArgumentHelp(
      "Which worker key to use. Default: the one named like the host, else the first.", valueName: "name"))
  var key: String?

  @Flag(help: "End at once when stdin does; for processes that start this one.")
  var exitWithStdin = false

  @OptionGroup(title: "Output") var output: OutputOptions

  func run() async throws {
    if exitWithStdin { ParentWatch.exitWhenStdinEnds() }
    let log = output.bootstrap(default: .info, isSupervised: exitWithStdin)
    var file = try ClusterFile.load(path: cluster)
    if let keys { file.keys = URL(fileURLWithPath: keys).standardizedFileURL.path }
    let replicas = try replicas(of: file)
    try file.checkFiles(for: [.workers(of: replicas.map(\.expert))])
    try MemoryPlan.check(
      MemoryPlan.members(replicas, of: file),
      limit: host.flatMap { file.host(named: $0)?.memory }, place: host.map { "the host \"\($0)\"" } ?? "this machine")
    guard let endpoint = file.listen.advertise ?? file.listen.workers else {
      throw FusionRouteError.badInput(
        "\(cluster) does not say where the coordinator listens: set \"listen.workers\", or use `fusionroute run`, which "
          + "starts the workers itself")
    }
    try await supervise(replicas, of: file, dialling: endpoint.description, log: log)
  }

  private func replicas(of file: ClusterFile) throws -> [Placement.Replica] {
    guard let host else {
      guard file.hosts.isEmpty else {
        throw FusionRouteError.usage(
          "\(cluster) lists hosts: say which one this is with --host "
            + file.hosts.map(\.name).joined(separator: ", --host "))
      }
      return Placement(file).replicas
    }
    guard let known = file.host(named: host) else {
      let near = NearestName.find(host, among: file.hosts.map(\.name)).map { ": did you mean \"\($0)\"?" } ?? ""
      throw FusionRouteError.badInput("\(cluster) lists no host \"\(host)\"\(near)")
    }
    try file.checkThreads(on: known)
    let replicas = Placement(file).replicas(on: host)
    guard !replicas.isEmpty else {
      throw FusionRouteError.badInput("\(cluster) places no replica on the host \"\(host)\"")
    }
    return replicas
  }

  private func supervise(
    _ replicas: [Placement.Replica], of file: ClusterFile, dialling endpoint: String, log settings: LogSettings
  ) async throws {
    let log = WorkerLog(settings, phase: .running)
    let (given, continuation) = AsyncStream<FusionRouteError>.makeStream()
    let left = Mutex(replicas.count)
    let supervision = file.supervision
    let supervisor = ProcessSupervisor(
      executable: try Executable.path(),
      limits: .init(restarts: supervision.restarts, window: supervision.window, backOff: supervision.backOff),
      grace: supervision.grace
    ) { event in
      log.record(event)
      guard case .gaveUp(let name, let exit, let reason, let error) = event else { return }
      let failure = LocalWorkers.failure(name: name, exit: exit, reason: reason, error: error)
      let none = left.withLock {
        $0 -= 1
        return $0 == 0
      }
      if none { continuation.yield(failure) }
    }
    do {
      for replica in replicas {
        guard let expert = file.expert(named: replica.expert) else { continue }
        let command = WorkerInvocation(
          expert: expert, coordinators: [endpoint], hostName: host ?? ProcessInfo.processInfo.hostName, cluster: file,
          keyName: key ?? WorkerKeys.name(in: file.keys, preferring: host),
          logLevel: settings.level.rawValue, logFormat: settings.format.rawValue)
        try supervisor.start(.init(name: "\(replica.expert).\(replica.index)", arguments: command.arguments))
      }
      try await waitForEnd(given)
    } catch {
      await supervisor.stop()
      throw error
    }
    await supervisor.stop()
  }

  /// Returns on SIGTERM; throws on Ctrl-C and when no worker is left.
  private func waitForEnd(_ given: AsyncStream<FusionRouteError>) async throws {
    let (signals, continuation) = AsyncStream<Int32>.makeStream()
    let trap = try SignalTrap { signal, count in
      if count > 1 { _exit(FusionRouteError.Code.interrupted.exitCode) }
      continuation.yield(signal)
    }
    defer { trap.cancel() }
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask {
        for await signal in signals {
          if signal == SIGINT { throw FusionRouteError.interrupted("interrupted") }
          return
        }
      }
      group.addTask { for await failure in given { throw failure } }
      defer { group.cancelAll() }
      try await group.next()
    }
  }
}

internal import ArgumentParser
internal import Core
internal import Foundation
internal import Launch

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

  @Option(
    name: .customLong("replicas"),
    help: ArgumentHelp(
      "How many replicas of an expert to start, instead of those that the plan places on this host. Repeatable.",
      valueName: "expert=count"))
  var counts: [ReplicaCount] = []

  @Flag(help: "Start in the background and return; what runs already in the same way is not started twice.")
  var detach = false

  @Flag(help: "Stop what --detach started.")
  var stop = false

  @Option(help: .hidden) var lock: String?

  @Flag(help: "End at once when stdin does; for processes that start this one.")
  var exitWithStdin = false

  @OptionGroup(title: "Output") var output: OutputOptions

  func validate() throws {
    guard !(detach && stop) else { throw ValidationError("--detach and --stop exclude each other.") }
    if let none = counts.first(where: { $0.count == 0 }) {
      throw ValidationError("--replicas \(none.expert)=0: an expert that is not named gets none; leave it out.")
    }
    var seen: Set<String> = []
    if let twice = counts.first(where: { !seen.insert($0.expert).inserted }) {
      throw ValidationError("--replicas names the expert \"\(twice.expert)\" twice.")
    }
  }

  func run() async throws {
    if exitWithStdin { ParentWatch.exitWhenStdinEnds() }
    // The starter of a background process reads the sentence that it ends with.
    let log = output.bootstrap(default: .info, isSupervised: exitWithStdin || lock != nil)
    let held = try lock.map { try ServiceLock(path: $0) }
    defer { withExtendedLifetime(held) {} }
    if stop {
      // Whatever became of the cluster file since the start: it says only how long the workers may take.
      let file = try? ClusterFile.load(path: cluster)
      return try await inBackground(grace: file?.supervision.grace ?? ClusterFile.Supervision().grace)
    }
    var file = try ClusterFile.load(path: cluster)
    if detach { return try await inBackground(grace: file.supervision.grace) }
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
    try await supervise(replicas, of: file, dialling: endpoint.description, log: log, held: held)
  }

  private func replicas(of file: ClusterFile) throws -> [Placement.Replica] {
    guard let host else {
      guard file.hosts.isEmpty else {
        throw FusionRouteError.usage(
          "\(cluster) lists hosts: say which one this is with --host "
            + file.hosts.map(\.name).joined(separator: ", --host "))
      }
      return counts.isEmpty ? Placement(file).replicas : try given(file)
    }
    guard let known = file.host(named: host) else {
      let near = NearestName.find(host, among: file.hosts.map(\.name)).map { ": did you mean \"\($0)\"?" } ?? ""
      throw FusionRouteError.badInput("\(cluster) lists no host \"\(host)\"\(near)")
    }
    let replicas =
      try counts.isEmpty ? ClusterPlan.placement(file).replicas(on: host) : given(file)
    try file.checkThreads(on: known, replicas: replicas)
    guard !replicas.isEmpty else {
      throw FusionRouteError.badInput("\(cluster) places no replica on the host \"\(host)\"")
    }
    return replicas
  }

  /// The replicas that `--replicas` asks for.
  private func given(_ file: ClusterFile) throws -> [Placement.Replica] {
    try counts.flatMap { count in
      guard file.expert(named: count.expert) != nil else {
        let near = NearestName.find(count.expert, among: file.experts.map(\.name)).map { ": did you mean \"\($0)\"?" }
        throw FusionRouteError.badInput("\(cluster) names no expert \"\(count.expert)\"\(near ?? "")")
      }
      return (0..<count.count).map { Placement.Replica(expert: count.expert, index: $0, host: host) }
    }
  }

  private func supervise(
    _ replicas: [Placement.Replica], of file: ClusterFile, dialling endpoint: String, log settings: LogSettings,
    held: ServiceLock?
  ) async throws {
    let workers = try HostWorkers(of: file, host: host, dialling: endpoint, keyName: key, log: settings)
    do {
      try workers.start(replicas)
      let trap = try held.map { try adjuster(of: workers, held: $0, log: settings) }
      defer { trap?.cancel() }
      try await waitForEnd(workers.failures)
    } catch {
      await workers.stop()
      throw error
    }
    await workers.stop()
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

internal import ArgumentParser
internal import Core
internal import Foundation
internal import Launch

struct UpCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "up",
    abstract: "Start a cluster and serve it over HTTP.",
    discussion: """
      Starts the coordinator in this process, as supervised processes the workers that `plan` places on this machine, \
      and other hosts' workers through their launcher (ssh, Slurm, Kubernetes). Prints where the page and the API are. \
      Without -c, the models of `demo` are served: a checkout's family, or stand-ins.

      SIGTERM and Ctrl-C end it in order, within gateway.shutdown_grace, and stop what it has started; a second one ends \
      it at once. If this process is killed, its own workers end too, and `fusionroute down` stops other hosts'.
      """)

  @Option(name: [.short, .long], help: ArgumentHelp("The cluster file (YAML).", valueName: "file"))
  var cluster: String?

  @Option(
    help: ArgumentHelp(
      "Without -c: the family to serve (see `demo --help`). Default: Deploy/family, if it is there.", valueName: "dir"))
  var family: String?

  @Option(
    help: ArgumentHelp(
      "Without -c: the model to use (GGUF, with a chat template). Default: SmolLM2 in the cache.", valueName: "file"))
  var model: String?

  @Flag(help: "Without -c: use models that the demo writes itself; no download, and the text means nothing.")
  var generated = false

  @Flag(help: "Leave workers of other hosts running at the end, for the next `up`; `down` stops them.")
  var leaveHosts = false

  @OptionGroup(title: "Service") var serve: ServeOptions
  @OptionGroup(title: "Output") var output: OutputOptions

  func validate() throws {
    guard cluster == nil || (model == nil && family == nil && !generated) else {
      throw ValidationError("--family, --model and --generated are for the demo's models: leave out -c.")
    }
    guard family == nil || !generated else { throw ValidationError("--family and --generated exclude each other.") }
    guard !generated || model == nil else { throw ValidationError("--generated and --model exclude each other.") }
  }

  func run() async throws {
    let log = output.bootstrap(default: .info)
    let file = serve.applied(to: try await file(log))
    guard let cluster else { return try await daemon(file, log, hosts: nil).run() }
    let plan = try ClusterPlan.plan(file)
    for warning in plan.warnings { log.logger.warning("\(warning)") }
    for host in file.hosts where !host.isHere && host.launcher == .manual {
      guard !plan.placement.replicas(on: host.name).isEmpty else { continue }
      log.logger.notice(
        "workers of another host are started there",
        metadata: ["host": "\(host.name)", "command": "fusionroute workers -c \(file.source) --host \(host.name)"])
    }
    let hosts = try LaunchedHosts.make(file, path: cluster, plan: plan, log: log)
    try await daemon(file, log, hosts: hosts).run()
  }

  private func daemon(_ file: ClusterFile, _ log: LogSettings, hosts: LaunchedHosts?) -> Daemon {
    Daemon(cluster: file, workers: .ofThisMachine, hosts: hosts, leavesHosts: leaveHosts, log: log) { port in
      try? FileHandle.standardOutput.write(contentsOf: Data(Self.addresses(of: file, port: port).utf8))
    }
  }

  private func file(_ log: LogSettings) async throws -> ClusterFile {
    if let cluster { return try ClusterFile.load(path: cluster) }
    let (family, model, generated) = (family, model, generated)
    // Where programs read the log, nothing else may come between.
    let progress = Progress(isQuiet: log.format != .text)
    let demo = try await withInterruption {
      if generated { return try await DemoModels.generated(progress: progress) }
      let wanted = try Family.wanted(family, for: model)
      let model = try model ?? DemoModels.cachedModel()
      if let wanted { return try await wanted.models(base: model, progress: progress) }
      return try await DemoModels.prepare(model: model, progress: progress)
    }
    log.logger.notice("\(demo.notice)")
    return demo.cluster(slots: 4)
  }

  /// Where people and programs find the service.
  static func addresses(of cluster: ClusterFile, port: Int) -> String {
    let host = Endpoint.hostAndPort(cluster.listen.http)?.host ?? "127.0.0.1"
    let shown = ["*", "0.0.0.0", "::"].contains(host) ? ProcessInfo.processInfo.hostName : host
    let scheme = cluster.gateway.certificate == nil ? "http" : "https"
    let base = "\(scheme)://\(shown.contains(":") ? "[\(shown)]" : shown):\(port)"
    return "page  \(base)/\nAPI   \(base)/v1\n"
  }
}

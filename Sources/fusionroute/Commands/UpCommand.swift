internal import ArgumentParser
internal import Core
internal import Foundation
internal import Launch

struct UpCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "up",
    abstract: "Serve a cluster over HTTP, with this machine's workers.",
    discussion: """
      Starts the coordinator in this process and, as supervised processes, the workers that the cluster file places on \
      this machine. Prints where the page and the API are. Workers of other hosts are started there, with `fusionroute \
      workers`. Without -c, the demo's models are served.

      SIGTERM and Ctrl-C end it in order, within gateway.shutdown_grace; a second one ends it at once. If this process \
      is killed, its workers end too.
      """)

  @Option(name: [.short, .long], help: ArgumentHelp("The cluster file (YAML).", valueName: "file"))
  var cluster: String?

  @Option(
    help: ArgumentHelp(
      "Without -c: the model to use (GGUF, with a chat template). Default: SmolLM2 in the cache.", valueName: "file"))
  var model: String?

  @Flag(help: "Without -c: use models that the demo writes itself; no download, and the text means nothing.")
  var generated = false

  @OptionGroup(title: "Service") var serve: ServeOptions
  @OptionGroup(title: "Output") var output: OutputOptions

  func validate() throws {
    guard cluster == nil || (model == nil && !generated) else {
      throw ValidationError("--model and --generated are for the demo's models: leave out -c.")
    }
    guard !generated || model == nil else { throw ValidationError("--generated and --model exclude each other.") }
  }

  func run() async throws {
    let log = output.bootstrap(default: .info)
    let file = serve.applied(to: try await file(log))
    for host in Self.remoteHosts(of: file) {
      log.logger.notice(
        "workers of another host are started there",
        metadata: ["host": "\(host)", "command": "fusionroute workers -c \(file.source) --host \(host)"])
    }
    try await Daemon(cluster: file, workers: .ofThisMachine, log: log) { port in
      try? FileHandle.standardOutput.write(contentsOf: Data(Self.addresses(of: file, port: port).utf8))
    }.run()
  }

  private func file(_ log: LogSettings) async throws -> ClusterFile {
    if let cluster { return try ClusterFile.load(path: cluster) }
    let (model, generated) = (model, generated)
    // Where programs read the log, nothing else may come between.
    let progress = Progress(isQuiet: log.format != .text)
    let demo = try await withInterruption {
      generated
        ? try await DemoModels.generated(progress: progress)
        : try await DemoModels.prepare(model: try model ?? DemoModels.cachedModel(), progress: progress)
    }
    log.logger.notice("\(demo.notice)")
    return demo.cluster(slots: 4)
  }

  /// Hosts that replicas are placed on and that are not this machine.
  private static func remoteHosts(of cluster: ClusterFile) -> [String] {
    let names = Placement(cluster).replicas.compactMap(\.host).filter { cluster.host(named: $0)?.isRemote == true }
    return cluster.hosts.map(\.name).filter { names.contains($0) }
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

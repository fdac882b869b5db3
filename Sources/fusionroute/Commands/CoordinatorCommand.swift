internal import ArgumentParser
internal import Launch

struct CoordinatorCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "coordinator",
    abstract: "Serve a cluster over HTTP; its workers are started elsewhere.",
    discussion: """
      The daemon: loads the router, binds the workers' endpoint and HTTP (OpenAI's API, a page, health, metrics), and \
      answers with the workers that connect (`fusionroute workers` on every host). It does not wait for them: /ready \
      says which are missing.

      SIGTERM and Ctrl-C end it in order, within gateway.shutdown_grace; a second one ends it at once.
      """)

  @Option(name: [.short, .long], help: ArgumentHelp("The cluster file (YAML).", valueName: "file"))
  var cluster: String

  @OptionGroup(title: "Service") var serve: ServeOptions
  @OptionGroup(title: "Output") var output: OutputOptions

  func run() async throws {
    let log = output.bootstrap(default: .info)
    let file = serve.applied(to: try ClusterFile.load(path: cluster))
    try await Daemon(cluster: file, workers: .elsewhere, log: log, serving: { _ in }).run()
  }
}

internal import ArgumentParser
internal import Core
internal import Foundation
internal import Launch

struct ReplayCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "replay",
    abstract: "Ask again what a request log says, and compare the answers.",
    discussion: """
      A request log is what a service appends to its gateway.request_log. Each request is sent again with the seed that \
      it had, to a running service (--url) or to a cluster that is started for it (-c), and the tokens are compared. \
      Answers that were broken off are compared as far as they came.

      Exit code 70 if an answer differs, 69 if a request was not answered, 65 if a line is no request.
      """)

  @Argument(help: ArgumentHelp("The request log.", valueName: "file"))
  var log: String

  @Option(
    name: [.short, .long], help: ArgumentHelp("Start this cluster instead of asking a service.", valueName: "file"))
  var cluster: String?

  @OptionGroup(title: "Service") var service: ServiceOptions

  @Option(help: "text or json (one object per request).")
  var format: OutputFormat = .text

  @OptionGroup(title: "Output") var output: OutputOptions

  func validate() throws {
    guard cluster == nil || service.isUsual else {
      throw ValidationError("--url, --api-key-file and --ca-file are for a running service: leave them out with -c.")
    }
  }

  func run() async throws {
    let settings = output.bootstrap(default: .warning)
    let (log, format, service) = (log, format, service)
    let progress = Progress(isQuiet: !Style(.standardError).isTerminal)
    guard let cluster else {
      return try await withInterruption {
        try await ServiceClient.with(service) { try await ReplayRun(client: $0, format: format).run(log) }
      }
    }
    let file = try ClusterFile.load(path: cluster)
    try await withInterruption {
      try await ClusterSession.with(file, workers: .all, log: settings, progress: progress) { session in
        try await session.serving(log: settings) { url in
          let own = try ServiceOptions.parse(["--url", url.description])
          try await ServiceClient.with(own) { try await ReplayRun(client: $0, format: format).run(log) }
        }
      }
    }
  }
}

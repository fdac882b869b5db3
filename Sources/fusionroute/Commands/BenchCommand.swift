internal import ArgumentParser
internal import Core
internal import Foundation
internal import Launch

struct BenchCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench", abstract: "Measure the runtime against what it is built on.",
    subcommands: [
      BenchDecodeCommand.self, BenchServeCommand.self, BenchScaleCommand.self, BenchTrainCommand.self,
    ])
}

struct BenchDecodeCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "decode",
    abstract: "Tokens per second against the same batches as plain llama.cpp calls.",
    discussion: """
      Answers a prompt with the running cluster, then evaluates the very same batches (which model, how many tokens) as \
      plain llama.cpp calls in one process with nothing around them, in turns. Prints the ratio of the two speeds with \
      its spread over the rounds, and where the runtime's own time per token goes.

      Without -c it uses stand-ins, as `demo --stand-ins` does. Nothing else should run on the machine meanwhile.
      """)

  @Option(name: [.short, .long], help: ArgumentHelp("The cluster file (YAML).", valueName: "file"))
  var cluster: String?

  @Option(name: [.short, .long], help: ArgumentHelp("What to answer.", valueName: "text"))
  var prompt = "Explain in a few sentences why the sky is blue during the day and red at sunset."

  @Option(help: ArgumentHelp("Tokens to generate.", valueName: "n"))
  var tokens = 128

  @Option(help: ArgumentHelp("Measured rounds; one more is run before them to warm up.", valueName: "n"))
  var rounds = 5

  @Option(help: "text or json.") var format: OutputFormat = .text
  @OptionGroup(title: "Output") var output: OutputOptions

  func validate() throws {
    guard tokens >= 2, rounds >= 1 else { throw ValidationError("--tokens must be at least 2 and --rounds at least 1") }
  }

  func run() async throws {
    let log = output.bootstrap(default: .error)
    let progress = Progress(isQuiet: !Style(.standardError).isTerminal)
    let file =
      if let cluster { try ClusterFile.load(path: cluster) } else {
        try await DemoModels.prepare(model: DemoModels.cachedModel(), progress: progress).cluster()
      }
    try await withInterruption { [self] in
      try await ClusterSession.with(file, workers: .all, log: log, progress: progress) {
        session in
        let benchmark = try DecodeBenchmark(session: session, prompt: prompt, tokens: tokens)
        let report = try await progress.showing("measuring \(rounds) rounds") {
          try await benchmark.run(rounds: rounds)
        }
        let text =
          switch format {
          case .text: report.description + "\n"
          case .json: try report.json() + "\n"
          }
        try FileHandle.standardOutput.write(contentsOf: Data(text.utf8))
      }
    }
  }
}

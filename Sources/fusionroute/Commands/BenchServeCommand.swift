internal import ArgumentParser
internal import Core
internal import Foundation
internal import Launch

struct BenchServeCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "serve",
    abstract: "Many streams at once, and a long prompt among them, against what the models alone can do.",
    discussion: """
      With the cluster's router and its first expert: the tokens per second of several streams together against the \
      pipeline's limit k / max(t_r(k), t_e(k)), where t(k) is a step of k sequences as a plain llama.cpp call and k is half \
      of the streams; the time to the first token against both prefills as plain calls side by side; and the longest gap \
      between two tokens of running streams while a long prompt is read. Then the streams again with every expert of the \
      cluster. All in one run, in turns.

      Without -c it uses stand-ins, as `demo --stand-ins` does. Nothing else should run on the machine meanwhile.
      """)

  @Option(name: [.short, .long], help: ArgumentHelp("The cluster file (YAML).", valueName: "file"))
  var cluster: String?

  @Option(help: ArgumentHelp("Streams at once; an even number.", valueName: "n"))
  var streams = 8

  @Option(help: ArgumentHelp("Tokens of each stream.", valueName: "n"))
  var tokens = 96

  @Option(
    help: ArgumentHelp(
      "Tokens of the long prompt; a quarter of it is read for the time to first token.", valueName: "n"))
  var longPrompt = 2000

  @Option(help: ArgumentHelp("Measured rounds; one more is run before them to warm up.", valueName: "n"))
  var rounds = 5

  @Option(help: "text or json.") var format: OutputFormat = .text
  @OptionGroup(title: "Output") var output: OutputOptions

  func validate() throws {
    guard streams >= 2, streams % 2 == 0, streams <= 64 else {
      throw ValidationError("--streams must be an even number from 2 to 64")
    }
    guard tokens >= 8, rounds >= 1, longPrompt >= 64 else {
      throw ValidationError("--tokens must be at least 8, --rounds at least 1 and --long-prompt at least 64")
    }
  }

  func run() async throws {
    let log = output.bootstrap(default: .error)
    let progress = Progress(isQuiet: !Style(.standardError).isTerminal)
    let file =
      if let cluster { try ClusterFile.load(path: cluster) } else {
        try await DemoModels.prepare(model: DemoModels.cachedModel(), progress: progress).cluster()
      }
    let plan = try ServeBenchmark.Plan(cluster: file, streams: streams, tokens: tokens, longPrompt: longPrompt)
    defer { plan.removeFiles() }
    try await withInterruption { [self] in
      var report = ServeReport(streams: streams)
      try await ClusterSession.with(
        plan.single, workers: .all, log: log, progress: progress
      ) { session in
        let benchmark = try ServeBenchmark(plan: plan, session: session, withPlainCalls: true)
        try await progress.showing("measuring \(rounds) rounds with one expert") {
          for round in 0...rounds { report.add(try await benchmark.round(round), isWarmUp: round == 0) }
        }
      }
      if plan.all.experts.count > 1 {
        try await ClusterSession.with(plan.all, workers: .all, log: log, progress: progress) {
          session in
          let benchmark = try ServeBenchmark(plan: plan, session: session, withPlainCalls: false)
          try await progress.showing("measuring \(rounds) rounds with every expert") {
            for round in 0...rounds {
              let rate = try await benchmark.streamFigures(round: round).rate
              if round > 0 { report.alternating.append(rate) }
            }
          }
        }
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

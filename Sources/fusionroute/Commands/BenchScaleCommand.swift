internal import ArgumentParser
internal import Core
internal import Foundation
internal import Launch
internal import Worker

struct BenchScaleCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "scale",
    abstract: "How one coordinator keeps up with many workers.",
    discussion: """
      The workers are processes that talk to the coordinator as always but have no model: a batch of k sequences takes \
      --base + k × --per-sequence, asleep. The router takes no time. Each worker has --streams streams, which ask for one \
      token after another. Prints for each number of workers the steps per second, how they grow, the coordinator's \
      processor time, the steps for each second of it, and what a step takes beyond the worker's own time.

      Nothing else should run on the machine meanwhile.
      """)

  @Option(help: ArgumentHelp("Numbers of workers, ascending.", valueName: "n,n,…"))
  var workers: WorkerCounts = .init(counts: [1, 2, 4, 8, 16, 32, 64])

  @Option(help: ArgumentHelp("Streams of each worker, and its slots.", valueName: "n"))
  var streams = 8

  @Option(help: ArgumentHelp("What a batch takes whatever its size.", valueName: "duration"))
  var base: DurationArgument = .init(.milliseconds(20))

  @Option(help: ArgumentHelp("What each sequence in it takes on top.", valueName: "duration"))
  var perSequence: DurationArgument = .init(.milliseconds(2))

  @Option(help: ArgumentHelp("How long each number of workers is measured.", valueName: "duration"))
  var time: DurationArgument = .init(.seconds(5))

  @Option(help: "text or json.") var format: OutputFormat = .text
  @OptionGroup(title: "Output") var output: OutputOptions

  func validate() throws {
    guard (1...256).contains(streams) else { throw ValidationError("--streams must be 1 to 256.") }
    guard time.duration >= .milliseconds(100) else { throw ValidationError("--time must be at least 100ms.") }
    guard base.duration + perSequence.duration > .zero else {
      throw ValidationError("--base and --per-sequence must not both be zero.")
    }
  }

  func run() async throws {
    let log = output.bootstrap(default: .error)
    let progress = Progress(isQuiet: !Style(.standardError).isTerminal)
    let stub = StubModel(base: base.duration, perSequence: perSequence.duration)
    let benchmark = ScaleBenchmark(
      stub: stub, streamsPerWorker: streams, warmUp: .seconds(1), duration: time.duration, log: log)
    try await withInterruption { [self] in
      var report = ScaleReport(stub: stub, streamsPerWorker: streams)
      report.rows = try await progress.showing("measuring") { try await benchmark.run(workers.counts) }
      let text =
        switch format {
        case .text: report.description + "\n"
        case .json: try report.json() + "\n"
        }
      try FileHandle.standardOutput.write(contentsOf: Data(text.utf8))
    }
  }
}

/// `1,2,4`.
struct WorkerCounts: ExpressibleByArgument, Equatable, Sendable {
  var counts: [Int]

  init(counts: [Int]) { self.counts = counts }

  init?(argument: String) {
    let parts = argument.split(separator: ",", omittingEmptySubsequences: false).map { Int($0) }
    let counts = parts.compactMap { $0 }
    guard counts.count == parts.count, !counts.isEmpty, counts.allSatisfy({ (1...1000).contains($0) }) else {
      return nil
    }
    self.counts = counts
  }

  var defaultValueDescription: String { counts.map(String.init).joined(separator: ",") }
}

/// `20ms+2ms`: a worker without a model.
struct StubArgument: ExpressibleByArgument, Equatable, Sendable {
  var model: StubModel

  init?(argument: String) {
    let parts = argument.split(separator: "+", omittingEmptySubsequences: false)
    guard parts.count == 2, let base = Quantity.duration(String(parts[0])),
      let perSequence = Quantity.duration(String(parts[1]))
    else { return nil }
    model = StubModel(base: base, perSequence: perSequence)
  }
}

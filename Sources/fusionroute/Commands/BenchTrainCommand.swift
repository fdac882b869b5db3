internal import ArgumentParser
internal import Core
internal import Foundation
internal import ModelFiles
internal import Training

struct BenchTrainCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "train",
    abstract: "Tokens per second of training steps on random tokens.",
    discussion: """
      A step is a forward and a backward pass of the given sequences and an update; the loss is on their second halves. \
      Prints the median step. `Deploy/bench/training` compares it with PyTorch. Nothing else should run on the machine.
      """)

  @Argument(help: ArgumentHelp("The model (GGUF). Default: the demo's, from the cache.", valueName: "model"))
  var model: String?

  @Option(help: ArgumentHelp("Rank of the adapters; 0 trains every weight.", valueName: "n"))
  var rank = 16

  @Option(help: ArgumentHelp("Sequences of a step.", valueName: "n"))
  var sequences = 4

  @Option(help: ArgumentHelp("Tokens of a sequence.", valueName: "n"))
  var length = 192

  @Option(help: ArgumentHelp("Measured steps; one more is run before them to warm up.", valueName: "n"))
  var steps = 5

  @Option(help: ArgumentHelp("Threads. Default: one per core.", valueName: "n"))
  var threads: Int?

  @Option(help: "auto, f32 or bf16.") var precision: EngineOptions.Precision = .auto
  @Option(help: "auto, builtin or blas.") var library: EngineOptions.Library = .auto
  @Option(help: "text or json.") var format: OutputFormat = .text
  @OptionGroup(title: "Output") var output: OutputOptions

  func validate() throws {
    guard (1...65_536).contains(sequences), (4...1_048_576).contains(length), (1...1_000_000).contains(steps),
      (0...LoRAOptions.maximumRank).contains(rank)
    else {
      throw ValidationError(
        "--sequences must be 1 to 65536, --length 4 to 1048576, --steps 1 to 1000000 and --rank 0 to "
          + "\(LoRAOptions.maximumRank).")
    }
  }

  func run() async throws {
    _ = output.bootstrap(default: .warning)
    let path = try model ?? DemoModels.cachedModel()
    let options = EngineOptions(
      threads: threads ?? ProcessorCount.usable, precision: precision, library: library)
    let (mode, sequences, length, steps) = (
      rank == 0 ? TrainingMode.full : .lora(LoRAOptions(rank: rank)), self.sequences, self.length, self.steps
    )
    let result = try await withInterruption {
      try await Progress().step("training on random tokens") {
        try TrainingBenchmark.run(
          model: path, mode: mode, sequences: sequences, length: length, steps: steps, options: options)
      }
    }
    switch format {
    case .text:
      print(
        "\(Int(result.tokensPerSecond.rounded())) tokens/s (\(result.products), "
          + "\(options.threads) thread\(options.threads == 1 ? "" : "s"), "
          + "\(sequences) × \(length) tokens, \(result.parameters) numbers trained)")
    case .json:
      print(
        JSONText.object([
          ("tokens_per_second", .number(result.tokensPerSecond)), ("products", .text(result.products)),
          ("threads", .integer(options.threads)), ("sequences", .integer(sequences)), ("length", .integer(length)),
          ("parameters", .integer(result.parameters)), ("peak_resident_bytes", .integer(result.peakBytes)),
        ]).rendered)
    }
  }
}

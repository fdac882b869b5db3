internal import ArgumentParser
internal import Core
internal import Foundation
internal import Launch
internal import ModelFiles

struct MergeCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "merge",
    abstract: "Merge experts that were trained from one base into one model of its size.",
    discussion: """
      task-arithmetic: base + λ · the sum of the experts' differences from it (arXiv 2212.04089). dare: the same after \
      dropping a share of each difference at random and rescaling the rest (2311.03099). ties: the largest elements of \
      each difference, of these the mean of those that have the elected sign (2306.01708; trimmed tensor by tensor).

      Experts are GGUF models of the base's shape, in any weight types, or LoRA adapters, which count by their dense \
      difference B·A. Tokenizer and template are the base's. One tensor is in memory at a time.

      Example: fusionroute merge base.gguf math.gguf code-adapter.gguf --out merged.gguf --method ties --type bf16
      """)

  enum Method: String, ExpressibleByArgument, CaseIterable {
    case taskArithmetic = "task-arithmetic"
    case dare, ties
  }

  @Argument(help: ArgumentHelp("The model that the experts were trained from (GGUF).", valueName: "base"))
  var base: String

  @Argument(help: ArgumentHelp("Models or LoRA adapters (GGUF), one or more.", valueName: "expert"))
  var experts: [String]

  @Option(name: [.customShort("o"), .long], help: ArgumentHelp("Where to write the result.", valueName: "file"))
  var out: String

  @Option(help: ArgumentHelp("How to merge: task-arithmetic, dare or ties.", valueName: "method"))
  var method = Method.taskArithmetic

  @Option(
    parsing: .unconditional, help: ArgumentHelp("λ: what the merged difference is multiplied by.", valueName: "number"))
  var lambda = 1.0

  @Option(help: ArgumentHelp("dare: the share that is dropped, 0 to below 1. Default: 0.9.", valueName: "share"))
  var drop: Double?

  @Option(help: ArgumentHelp("dare: which elements are dropped. Default: 1.", valueName: "number"))
  var seed: UInt64?

  @Option(
    help: ArgumentHelp("ties: the share of each tensor that is kept, above 0 to 1. Default: 0.2.", valueName: "share"))
  var density: Double?

  @Option(
    help: ArgumentHelp(
      "Weight type of the result's matrices: f32, f16, bf16, q8_0, q4_K, … Default: each as in the base.",
      valueName: "type"))
  var type: String?

  @OptionGroup(title: "Output") var output: OutputOptions

  func validate() throws {
    guard !experts.isEmpty else { throw ValidationError("Name one expert or more after the base.") }
    guard method == .dare || (drop == nil && seed == nil) else {
      throw ValidationError("--drop and --seed are for --method dare.")
    }
    guard method == .ties || density == nil else { throw ValidationError("--density is for --method ties.") }
    if let type, TensorType(name: type)?.isWritable != true {
      throw ValidationError("\"\(type)\" is no weight type that can be written.")
    }
  }

  func run() async throws {
    _ = output.bootstrap(default: .warning)
    try ResultPath.check(out, inputs: [base] + experts)
    let chosen: MergeMethod =
      switch method {
      case .taskArithmetic: .taskArithmetic
      case .dare: .dare(drop: drop ?? 0.9, seed: seed ?? 1)
      case .ties: .ties(density: density ?? 0.2)
      }
    let (base, experts, lambda, out) = (base, experts, lambda, out)
    let type = type.flatMap { TensorType(name: $0) }
    let progress = Progress()
    let cancelled = CancellationFlag()
    let text = "merging \(experts.count) expert\(experts.count == 1 ? "" : "s") into \(base)"
    try await withInterruption {
      try await withTaskCancellationHandler {
        try await progress.step(text) {
          try ModelMerger.merge(
            base: base, experts: experts, method: chosen, lambda: lambda, type: type, to: out
          ) { tensor, count in
            if cancelled.isSet { throw FusionRouteError.interrupted("interrupted") }
            progress.update("\(text): tensor \(tensor + 1) of \(count)")
          }
        }
      } onCancel: {
        cancelled.set()
      }
    }
  }
}

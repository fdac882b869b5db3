internal import ArgumentParser
internal import Core
internal import Evaluation

/// A published benchmark as a command.
protocol BenchmarkCommand: AsyncParsableCommand {
  static var benchmark: Benchmark { get }
  var arguments: BenchmarkArguments { get }
}

struct BenchmarkArguments: ParsableArguments {
  @Argument(help: ArgumentHelp("The published file (JSONL).", valueName: "file")) var file: String

  @Option(
    help: ArgumentHelp(
      "What stands around a question: paper (the paper's text, without a chat template) or chat (the question as a "
        + "message, through the model's chat template).", valueName: "frame"))
  var frame: Benchmark.Frame = .paper

  @OptionGroup var evaluation: EvalOptions
  @OptionGroup(title: "Output") var output: OutputOptions
}

extension BenchmarkCommand {
  /// The paper's.
  private static var defaultMaximumTokens: Int { 400 }

  static func configured(_ name: String, _ columns: String) -> CommandConfiguration {
    CommandConfiguration(
      commandName: benchmark.rawValue, abstract: "Evaluate on \(name).",
      discussion: """
        Reads the published JSON Lines, with the columns \(columns), asks each question, and hands the whole record with \
        the answer to the grader. Answers have at most \(defaultMaximumTokens) tokens unless --max-tokens or the evaluation file says otherwise.
        """)
  }

  func run() async throws {
    let log = arguments.output.bootstrap(default: .warning)
    let (file, evaluation) = (arguments.file, arguments.evaluation)
    var settings = try evaluation.settings()
    settings.defaultMaximumTokens = Self.defaultMaximumTokens
    // Of other tasks, which do not run.
    settings.average = nil
    let tasks = try Self.benchmark.read(try TextFile.read(file), source: file, frame: arguments.frame)
    let session = EvaluationSession(
      settings: settings, tasks: tasks, options: evaluation, log: log, checksTasks: true)
    try await withInterruption { try await session.run() }
  }
}

struct EvalGSM8KCommand: BenchmarkCommand {
  static let benchmark = Benchmark.gsm8k
  static let configuration = configured("GSM8K", "question and answer")
  @OptionGroup var arguments: BenchmarkArguments
}

struct EvalMATH500Command: BenchmarkCommand {
  static let benchmark = Benchmark.math500
  static let configuration = configured("MATH500", "problem, answer, and if they are there subject and level")
  @OptionGroup var arguments: BenchmarkArguments
}

struct EvalMBPPCommand: BenchmarkCommand {
  static let benchmark = Benchmark.mbpp
  static let configuration = configured("MBPP", "task_id, text (or prompt) and test_list")
  @OptionGroup var arguments: BenchmarkArguments
}

struct EvalHumanEvalCommand: BenchmarkCommand {
  static let benchmark = Benchmark.humaneval
  static let configuration = configured("HumanEval", "task_id, prompt, entry_point and test")
  @OptionGroup var arguments: BenchmarkArguments
}

struct EvalIFEvalCommand: BenchmarkCommand {
  static let benchmark = Benchmark.ifeval
  static let configuration = configured("IFEval", "key, prompt, instruction_id_list and kwargs")
  @OptionGroup var arguments: BenchmarkArguments
}

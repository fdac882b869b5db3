internal import ArgumentParser
internal import Core
internal import Evaluation
internal import Foundation

struct EvalCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "eval",
    abstract: "Evaluate the method and its baselines on tasks with graders.",
    discussion: """
      `fusionroute eval TASKS -c cluster.yaml --grader COMMAND --out DIR` has every expert, the router, routing without \
      complementary logits, routing per prompt and the fused model answer every task (JSONL), greedily, and grades the \
      answers. -e names an evaluation file (YAML) with further methods: other routers, models by themselves, Sequence \
      Selection, Collab, an oracle. Answers are kept in DIR as they come: the same command again goes on where it stopped.

      `fusionroute eval gsm8k|math500|mbpp|humaneval|ifeval FILE` does the same with a published benchmark, and \
      `fusionroute eval judge` lets a judge model compare the answers of two methods.
      """,
    subcommands: [
      EvalTasksCommand.self, EvalGSM8KCommand.self, EvalMATH500Command.self, EvalMBPPCommand.self,
      EvalHumanEvalCommand.self, EvalIFEvalCommand.self, EvalJudgeCommand.self,
    ], defaultSubcommand: EvalTasksCommand.self)
}

struct EvalTasksCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tasks", abstract: "Evaluate on task files.",
    discussion: """
      A task file has an object a line: {"id", "task", "messages", "grader", "tags"}. The grader's command reads {"id", \
      "task", "prompt", "messages", "grader", "text"} a line and writes {"id", "passed", "score", "parts", "reason"} a \
      line, in the same order, until its input ends. `fusionroute eval TASKS` is short for `fusionroute eval tasks TASKS`.
      """)

  @Argument(help: ArgumentHelp("Task files (JSONL). Default: those of the evaluation file.", valueName: "tasks"))
  var tasks: [String] = []

  @OptionGroup var options: EvalOptions
  @OptionGroup(title: "Output") var output: OutputOptions

  func run() async throws {
    let log = output.bootstrap(default: .warning)
    var settings = try options.settings()
    if !tasks.isEmpty { settings.tasks = tasks }
    guard !settings.tasks.isEmpty else {
      throw FusionRouteError.usage("name task files, or \"tasks\" in the evaluation file")
    }
    let read = try EvalSupport.tasks(settings.tasks)
    let session = EvaluationSession(settings: settings, tasks: read, options: options, log: log)
    try await withInterruption { try await session.run() }
  }
}

/// What all `eval` commands do in the same way.
enum EvalSupport {
  /// The tasks of several files, whose ids must differ.
  ///
  /// - Parameter benchmark: what the files are, if not task files.
  static func tasks(_ paths: [String], of benchmark: Benchmark? = nil) throws -> [EvaluationTask] {
    var places: [String: String] = [:]
    return try paths.flatMap { path in
      let text = try TextFile.read(path)
      // Ids and questions are the same in each frame.
      let tasks =
        try benchmark?.read(text, source: path, frame: .chat) ?? EvaluationTask.read(text, source: path)
      for task in tasks {
        if let other = places.updateValue(path, forKey: task.id) {
          throw FusionRouteError.badInput("the id \"\(task.id)\" stands in \(other) and in \(path)")
        }
      }
      return tasks
    }
  }
}

/// Options of `eval` on tasks and on benchmarks.
struct EvalOptions: ParsableArguments {
  /// A checkout's graders, taken where they lie in the current directory.
  private static let usualGrader = "Deploy/evaluation/grade"

  @Option(name: [.short, .long], help: ArgumentHelp("An evaluation file (YAML).", valueName: "file"))
  var evaluation: String?

  @Option(
    name: [.short, .long], help: ArgumentHelp("Start this cluster instead of asking a service.", valueName: "file"))
  var cluster: String?

  @Flag(help: "Start no workers; wait for those that were started elsewhere.")
  var attach = false

  @Option(help: ArgumentHelp("Directory of the answers and the report.", valueName: "dir"))
  var out: String

  @Option(
    help: ArgumentHelp(
      "The grader's command, run by /bin/sh. Default: the evaluation file's, else Deploy/evaluation/grade if it is there.",
      valueName: "command"))
  var grader: String?

  @Option(help: ArgumentHelp("Graders at once.", valueName: "n"))
  var graders = 2

  @Option(help: ArgumentHelp("What a grader may take for one answer.", valueName: "time"))
  var graderTimeout = DurationArgument(GraderPool.defaultTimeout)

  @Option(
    help: ArgumentHelp(
      "New tokens per answer at most. Default: the evaluation file's, else 256; of a published benchmark 400.",
      valueName: "n"))
  var maxTokens: Int?

  @Option(
    parsing: .unconditionalSingleValue,
    help: ArgumentHelp("A text that ends the answer and is left out of it. Repeatable.", valueName: "text"))
  var stop: [String] = []

  @Option(help: ArgumentHelp("Prompts of each task at most: the first ones.", valueName: "n"))
  var limit: Int?

  @Option(help: ArgumentHelp("Directory of `train reward`, for Sequence Selection and Collab.", valueName: "dir"))
  var reward: String?

  @Option(help: ArgumentHelp("The model that --reward was trained on.", valueName: "file"))
  var rewardModel: String?

  @Option(
    parsing: .unconditionalSingleValue,
    help: ArgumentHelp("Only this method, and those that it chooses from. Repeatable.", valueName: "name"))
  var method: [String] = []

  @Option(help: ArgumentHelp("The method that others are compared with. Default: fusionroute.", valueName: "name"))
  var reference: String?

  @Option(help: ArgumentHelp("Resamples of the bootstrap. Default: 10000.", valueName: "n"))
  var resamples: Int?

  @Flag(help: "Run the methods of a cluster at once: sooner done, but their tokens/s tell less.")
  var interleave = false

  @Flag(help: "Grade the answers on disk anew.")
  var regrade = false

  @Flag(help: "Answer nothing: tables and report of what is on disk.")
  var reportOnly = false

  @Option(help: ArgumentHelp("Title of the report.", valueName: "text"))
  var title = "Evaluation"

  @Option(
    help: ArgumentHelp(
      "Prompts of each task whose answers the report holds, at most. Default: as many as go into 20 MB.", valueName: "n"
    ))
  var browsable: Int?

  @Option(help: "text or json (one object).") var format: OutputFormat = .text
  @OptionGroup(title: "Service") var service: ServiceOptions

  func validate() throws {
    guard graders > 0, browsable.map({ $0 >= 0 }) ?? true else {
      throw ValidationError("--graders must be positive, and --browsable not negative.")
    }
    guard limit.map({ $0 > 0 }) ?? true, maxTokens.map(EvaluationSettings.tokenCounts.contains) ?? true,
      resamples.map(Bootstrap.resampleCounts.contains) ?? true
    else {
      throw ValidationError(
        "--limit must be positive, --max-tokens 1 to \(EvaluationSettings.tokenCounts.upperBound), --resamples "
          + "\(Bootstrap.resampleCounts.lowerBound) to \(Bootstrap.resampleCounts.upperBound).")
    }
    guard (reward == nil) == (rewardModel == nil) else {
      throw ValidationError("--reward and --reward-model belong together.")
    }
    guard !out.isEmpty else { throw ValidationError("--out must name a directory.") }
    guard cluster == nil || service.url == ServiceURL.usual else {
      throw ValidationError("--cluster starts what it asks, and --url names a service that runs: give one of them.")
    }
    guard !(regrade && reportOnly) else { throw ValidationError("--regrade and --report-only exclude each other.") }
  }

  /// Those of the evaluation file, with the options' in their place.
  func settings() throws -> EvaluationSettings {
    var settings = try evaluation.map { try EvaluationSettings.load($0) } ?? EvaluationSettings(source: "options")
    guard !attach || cluster != nil || settings.cluster != nil || settings.methods != nil else {
      throw FusionRouteError.usage("--attach waits for a cluster's workers: name the cluster file with -c")
    }
    if let cluster {
      settings.cluster = URL(fileURLWithPath: cluster).standardizedFileURL.path
      guard settings.methods == nil else {
        throw FusionRouteError.usage("the evaluation file's methods name their clusters: leave out -c")
      }
    }
    if let grader { (settings.grader, settings.graderDirectory) = (grader, nil) }
    if settings.grader == nil, FileManager.default.isExecutableFile(atPath: Self.usualGrader) {
      (settings.grader, settings.graderDirectory) = (Self.usualGrader, nil)
    }
    if let maxTokens { settings.statedMaximumTokens = maxTokens }
    if !stop.isEmpty { settings.stop = stop }
    if let limit { settings.limit = limit }
    if let reward, let rewardModel { settings.reward = .init(model: rewardModel, folder: reward) }
    if let reference { settings.reference = reference }
    if let resamples { settings.resamples = resamples }
    return settings
  }
}

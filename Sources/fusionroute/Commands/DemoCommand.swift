internal import ArgumentParser
internal import Core
internal import Foundation
internal import Launch

struct DemoCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "demo",
    abstract: "Answer some questions with a small real model and its experts.",
    discussion: """
      With a family (a directory with adapters, a routing head and family.json; a checkout's is Deploy/family) it adds the \
      adapters to SmolLM2-135M-Instruct once, and shows how prompts of each domain are answered by all experts together, \
      coloured by expert, and by each expert alone; a grader (--grader) says which answers are right.

      Without one it makes three experts from SmolLM2 by adding noise to its weights. What it makes is kept in the cache \
      (about 600 MB).
      """)

  @Option(help: ArgumentHelp("The family to show. Default: Deploy/family, if it is there.", valueName: "dir"))
  var family: String?

  @Flag(help: "Stand-in experts, even where there is a family.")
  var standIns = false

  @Option(
    help: ArgumentHelp(
      "A grader's command (see `eval tasks --help`) for the family's prompts. Default: evaluation/grade beside the family, "
        + "as a checkout has it, if the family is named or the program's own; where that cannot grade, answers are shown without.",
      valueName: "command"))
  var grader: String?

  @Flag(inversion: .prefixedNo, help: "With a family: show each expert's own answer too.")
  var alone = true

  @Flag(name: [.short, .long], help: "With a family: questions of your own, one a line, after those of --prompt.")
  var interactive = false

  @Option(
    help: ArgumentHelp(
      "The model to use (GGUF, with a chat template). Default: SmolLM2 in the cache.", valueName: "file"))
  var model: String?

  @Flag(help: "Use models that the demo writes itself; no download, and the text means nothing.")
  var generated = false

  @Option(
    name: [.short, .long], parsing: .unconditionalSingleValue,
    help: ArgumentHelp("A question of your own instead of the demo's. Repeatable.", valueName: "text"))
  var prompt: [String] = []

  @Option(help: ArgumentHelp("New tokens per answer at most. Default: 60; with a family 160.", valueName: "n"))
  var maxTokens: Int?

  @Option(help: ArgumentHelp("0 is greedy; above it, sampling.", valueName: "t"))
  var temperature: Float = 0

  @Option(help: ArgumentHelp("Seed of the sampling.", valueName: "n"))
  var seed: UInt64 = 0

  @Option(help: "text or json (one object per prompt).")
  var format: OutputFormat = .text

  @OptionGroup(title: "Output") var output: OutputOptions

  /// What a model of this size answers sensibly; it knows few facts.
  static let questions = [
    "Write a short sentence about the sea.", "How do plants make food?", "What is a volcano?",
    "Why do people like music?",
  ]

  private static let familyTokens = 160
  private static let standInTokens = 60

  func validate() throws {
    guard !generated || model == nil else { throw ValidationError("--generated and --model exclude each other.") }
    guard family == nil || !(generated || standIns) else {
      throw ValidationError("--family excludes --generated and --stand-ins.")
    }
    guard !(generated || standIns) || (grader == nil && alone) else {
      throw ValidationError("--grader and --no-alone belong to a family, which --generated and --stand-ins leave out.")
    }
    guard maxTokens ?? 0 >= 0 else { throw ValidationError("--max-tokens must be 0 or more.") }
  }

  func run() async throws {
    let log = output.bootstrap(default: .warning)
    if !generated, !standIns, let wanted = try Family.wanted(family, for: model) {
      return try await show(wanted, log: log)
    }
    guard !interactive else {
      throw FusionRouteError.usage("--interactive needs a family: name its directory with --family")
    }
    try await showStandIns(log: log)
  }

  private func options(maximumTokens: Int) throws -> GenerationOptions {
    // The same options as `run` has, so that both go one way.
    var arguments = [
      "--max-tokens", "\(maximumTokens)", "--temperature", "\(temperature)", "--seed", "\(seed)", "--format",
      format.rawValue,
    ]
    if generated { arguments.append("--raw") }
    return try GenerationOptions.parse(arguments)
  }

  private func show(_ family: Family, log: LogSettings) async throws {
    let options = try options(maximumTokens: maxTokens ?? Self.familyTokens)
    let progress = Progress()
    let questions =
      prompt.isEmpty && !interactive
      ? family.prompts.map { FamilyDemo.Question(task: $0) } : prompt.map { FamilyDemo.Question(text: $0) }
    // What a person asks has no grader.
    let usual = prompt.isEmpty && !interactive ? family.usualGrader : nil
    let pool = (grader ?? usual).map { DemoGrader(command: $0, isOptional: grader == nil) }
    let (model, alone, interactive) = (model, alone, interactive)
    try await withInterruption {
      let models = try await family.models(base: try model ?? DemoModels.cachedModel(), progress: progress)
      if options.format == .text { Self.say(TokenPainter.printable(family.title)) }
      do {
        try await ClusterSession.with(models.cluster(slots: 4), workers: .all, log: log, progress: progress) {
          session in
          let demo = FamilyDemo(
            answerer: LocalAnswerer(session), options: options, grader: pool, showsAlone: alone)
          try await interactive ? demo.converse(after: questions) : demo.show(questions)
        }
      } catch {
        await pool?.stop()
        throw error
      }
      await pool?.stop()
    }
  }

  private func showStandIns(log: LogSettings) async throws {
    let options = try options(maximumTokens: maxTokens ?? Self.standInTokens)
    let progress = Progress()
    let (model, generated) = (model, generated)
    let prompts = prompt.isEmpty ? (generated ? ["One", "Two", "Three"] : Self.questions) : prompt
    let text = format == .text
    try await withInterruption {
      let files =
        generated
        ? try await DemoModels.generated(progress: progress)
        : try await DemoModels.prepare(model: try model ?? DemoModels.cachedModel(), progress: progress)
      if text { Self.say(files.notice) }
      let cluster = files.cluster()
      let answers = AnswerRun(
        options: options, showsSummary: text, showsPrompts: text)
      try await ClusterSession.with(cluster, workers: .all, log: log, progress: progress) {
        session in
        try await answers.answer(.given(prompts), with: LocalAnswerer(session))
      }
    }
  }

  private static func say(_ text: String) { try? FileHandle.standardError.write(contentsOf: Data((text + "\n").utf8)) }
}

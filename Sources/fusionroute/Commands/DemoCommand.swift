internal import ArgumentParser
internal import Core
internal import Foundation
internal import Launch

struct DemoCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "demo",
    abstract: "Answer some questions with a small real model and three stand-in experts.",
    discussion: """
      Uses SmolLM2-135M-Instruct, converts it once, makes three experts from it by adding noise to its weights, and \
      answers through its chat template. What it makes is kept in the cache (about 600 MB).
      """)

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

  @Option(help: ArgumentHelp("New tokens per answer at most.", valueName: "n"))
  var maxTokens = 60

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

  func validate() throws {
    guard !generated || model == nil else { throw ValidationError("--generated and --model exclude each other.") }
    guard maxTokens >= 0 else { throw ValidationError("--max-tokens must be 0 or more.") }
  }

  func run() async throws {
    let log = output.bootstrap(default: .warning)
    // The same options as `run` has, so that both go one way.
    var arguments = [
      "--max-tokens", "\(maxTokens)", "--temperature", "\(temperature)", "--seed", "\(seed)", "--format",
      format.rawValue,
    ]
    if generated { arguments.append("--raw") }
    let options = try GenerationOptions.parse(arguments)
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

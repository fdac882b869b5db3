internal import ArgumentParser
internal import Core
internal import Training

struct TrainLMCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "lm",
    abstract: "Train a model on texts or answers.",
    discussion: """
      Of {"text"} every token is learnt, of conversations the answers with their end of turn. Adapters are the default; \
      --full trains every weight. To begin from nothing, write a model with `make-model random` first and use --full.
      """)

  @Argument(help: ArgumentHelp("The model (GGUF).", valueName: "model"))
  var model: String

  @Option(help: ArgumentHelp("Go on from this LoRA adapter.", valueName: "file"))
  var adapter: String?

  @OptionGroup(title: "Data") var data: TrainDataOptions
  @OptionGroup(title: "Model") var options: TrainModelOptions
  @OptionGroup(title: "Schedule") var schedule: TrainScheduleOptions
  @OptionGroup(title: "Output") var output: OutputOptions

  func run() async throws {
    _ = output.bootstrap(default: .warning)
    let progress = Progress()
    try await withInterruption { [self] in
      let session = try await progress.step("reading the data") { try prepare() }
      try await TrainSupport.run(session, progress: progress)
    }
  }

  private func prepare() throws -> TrainingSession {
    var session = TrainingSession(
      title: "Training a model", model: model, adapter: adapter,
      mode: try options.mode(adapter: adapter), engine: options.engine,
      objective: TrainingObjective(), settings: try schedule.settings(defaultRate: 2e-4), folder: options.out,
      bakedType: try options.bakedType())
    let isText = try data.data.allSatisfy { path in
      try RecordReader.read(path).allSatisfy { if case .text = $0.record { true } else { false } }
    }
    let encoder = try ExampleEncoder(
      model: try TrainSupport.vocabulary(of: model), maximumLength: data.maxLength, isRaw: data.raw || isText)
    session.samples = try TrainSupport.samples(data.data, encoder: encoder, what: "data", notes: &session.notes)
    session.heldOut = try TrainSupport.samples(
      data.heldOut, encoder: encoder, what: "held-out data", notes: &session.notes)
    return session
  }
}

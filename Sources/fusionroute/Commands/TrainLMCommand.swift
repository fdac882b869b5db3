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

  @OptionGroup var options: TrainRunOptions

  func run() async throws {
    try await TrainSupport.run(options) { [self] in try prepare() }
  }

  private func prepare() throws -> TrainingSession {
    var session = try options.session(
      "Training a model", start: TrainStart(model: model, adapter: adapter), rate: 2e-4)
    let isText = try options.data.data.allSatisfy { path in
      try RecordReader.read(path).allSatisfy { if case .text = $0.record { true } else { false } }
    }
    try options.readSamples(into: &session, encoder: options.encoder(of: model, isRaw: isText))
    return session
  }
}

internal import ArgumentParser
internal import Core
internal import Training

struct TrainRewardCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "reward",
    abstract: "Train a reward model: a scalar head on a model, from pairs.",
    discussion: """
      The reward is read at the end of an answer; the loss is −log σ(reward of the chosen − reward of the rejected \
      answer). `sample --reward DIR` uses the result.
      """)

  @Argument(help: ArgumentHelp("The model (GGUF).", valueName: "model"))
  var model: String

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
      title: "Training a reward model", model: model, experts: [RewardModel.headName],
      mode: try options.mode(adapter: nil), engine: options.engine, objective: TrainingObjective(),
      settings: try schedule.settings(defaultRate: 1e-4), folder: options.out, bakedType: try options.bakedType())
    session.objective.isReward = true
    let encoder = try ExampleEncoder(
      model: try TrainSupport.vocabulary(of: model), maximumLength: data.maxLength, isRaw: data.raw)
    session.pairs = try TrainSupport.pairs(
      data.data, encoder: encoder, what: "pairs", isReward: true, notes: &session.notes)
    session.heldOutPairs = try TrainSupport.pairs(
      data.heldOut, encoder: encoder, what: "held-out pairs", isReward: true, notes: &session.notes)
    return session
  }
}

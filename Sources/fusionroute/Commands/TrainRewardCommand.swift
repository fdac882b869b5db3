internal import ArgumentParser
internal import Core
internal import Training

struct TrainRewardCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "reward",
    abstract: "Train a reward model: a scalar head on a model, from pairs.",
    discussion: """
      The reward is read at the end of an answer; the loss is −log σ(reward of the chosen − reward of the rejected \
      answer). `sample --reward DIR` and `eval` use the result; with --raw they read answers as they are, too.
      """)

  @Argument(help: ArgumentHelp("The model (GGUF).", valueName: "model"))
  var model: String

  @OptionGroup var options: TrainRunOptions

  func run() async throws {
    try await TrainSupport.run(options) { [self] in try prepare() }
  }

  private func prepare() throws -> TrainingSession {
    var objective = TrainingObjective()
    objective.isReward = true
    var session = try options.session(
      "Training a reward model", start: TrainStart(model: model), experts: [RewardModel.headName],
      objective: objective, rate: 1e-4)
    session.isRaw = options.data.raw
    try options.readPairs(into: &session, encoder: options.encoder(of: model))
    return session
  }
}

internal import ArgumentParser
internal import Core
internal import Foundation
internal import Launch
internal import Training

struct TrainSFTCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "sft",
    abstract: "Stage 1: learn the answers, and which expert knows each token.",
    discussion: """
      Starts the cluster's experts as `run` does (or waits for those started elsewhere, --attach), asks each how probable \
      the answers' tokens are, stops them, and trains the router's model with adapters and a routing head. The experts' \
      answers are kept in the cache, so a second run asks only what is new. `router.head` of the cluster file need not \
      exist yet. Loss: L_LM + λ·L_route, where L_route is over the tokens on which the experts disagree.
      """)

  @Option(name: [.short, .long], help: ArgumentHelp("The cluster file (YAML): router and experts.", valueName: "file"))
  var cluster: String

  @Option(help: ArgumentHelp("Go on from this LoRA adapter of the router's model.", valueName: "file"))
  var adapter: String?

  @Option(help: ArgumentHelp("Go on from this routing head. Default: one of zeros.", valueName: "file"))
  var head: String?

  @Flag(help: "Start no workers; wait for those that were started elsewhere.")
  var attach = false

  @OptionGroup(title: "Data") var data: TrainDataOptions
  @OptionGroup(title: "Routing") var routing: TrainRoutingOptions
  @OptionGroup(title: "Model") var options: TrainModelOptions
  @OptionGroup(title: "Schedule") var schedule: TrainScheduleOptions
  @OptionGroup(title: "Output") var output: OutputOptions

  func run() async throws {
    let log = output.bootstrap(default: .warning)
    let progress = Progress()
    let file = try ClusterFile.load(path: cluster)
    try await withInterruption { [self] in
      var session = try await progress.step("reading the data") { try prepare(file) }
      let scoring = ExpertScoring(cluster: file, attach: attach, log: log, progress: progress)
      let opinions = try await scoring.opinions(on: (session.samples + session.heldOut).map(\.sequence))
      for index in session.samples.indices { session.samples[index].opinions = opinions[index] }
      for index in session.heldOut.indices {
        session.heldOut[index].opinions = opinions[session.samples.count + index]
      }
      try await TrainSupport.run(session, progress: progress)
    }
  }

  private func prepare(_ file: ClusterFile) throws -> TrainingSession {
    let model = file.router.engine.model
    var session = TrainingSession(
      title: "Stage 1: supervised fine-tuning of a router", model: model, adapter: adapter, head: head,
      experts: file.experts.map(\.name), mode: try options.mode(adapter: adapter),
      engine: options.engine, objective: routing.objective, settings: try schedule.settings(defaultRate: 2e-4),
      folder: options.out, bakedType: try options.bakedType())
    try session.objective.validate()
    let encoder = try ExampleEncoder(
      model: try TrainSupport.vocabulary(of: model), maximumLength: data.maxLength, isRaw: data.raw)
    session.samples = try TrainSupport.samples(data.data, encoder: encoder, what: "data", notes: &session.notes)
    session.heldOut = try TrainSupport.samples(
      data.heldOut, encoder: encoder, what: "held-out data", notes: &session.notes)
    return session
  }
}

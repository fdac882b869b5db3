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

  @OptionGroup var experts: TrainClusterOptions

  @Option(help: ArgumentHelp("Go on from this LoRA adapter of the router's model.", valueName: "file"))
  var adapter: String?

  @Option(help: ArgumentHelp("Go on from this routing head. Default: one of zeros.", valueName: "file"))
  var head: String?

  @OptionGroup(title: "Routing") var routing: TrainRoutingOptions
  @OptionGroup var options: TrainRunOptions

  func run() async throws {
    options.parent.watch()
    let log = options.output.bootstrap(default: .warning)
    let progress = Progress()
    let file = try ClusterFile.load(path: experts.cluster)
    try await withInterruption(keepsReason: true) { [self] in
      var session = try await progress.step("reading the data") { try prepare(file) }
      try session.hold()
      let scoring = ExpertScoring(cluster: file, attach: experts.attach, log: log, progress: progress)
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
    var session = try options.session(
      "Stage 1: supervised fine-tuning of a router", start: TrainStart(model: model, adapter: adapter, head: head),
      experts: file.experts.map(\.name), objective: routing.objective, rate: 2e-4)
    session.inputs += experts.inputs(file)
    try options.readSamples(into: &session, encoder: options.encoder(of: model))
    return session
  }
}

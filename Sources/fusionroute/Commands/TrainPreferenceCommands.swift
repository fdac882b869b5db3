internal import ArgumentParser
internal import Core
internal import Foundation
internal import Launch
internal import Training

/// Options of `train cdpo` and `train dpo`.
struct TrainPreferenceOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Samples that are mixed into the stream of pairs (JSONL), with the loss of stage 1. Repeatable.",
      valueName: "file"))
  var mix: [String] = []

  @Option(
    help: ArgumentHelp(
      "Of the examples of each step (--batch), so many are samples of --mix and the others pairs; an epoch is one pass over "
        + "the pairs. Default: samples and pairs are shuffled together.", valueName: "n"))
  var mixBatch: Int?

  @Option(help: ArgumentHelp("Held-out samples of that kind (JSONL). Repeatable.", valueName: "file"))
  var mixHeldOut: [String] = []

  @Option(help: ArgumentHelp("How strongly pairs pull away from the reference.", valueName: "f"))
  var beta = 0.1

  @Option(help: ArgumentHelp("Weight of the samples' loss beside the pairs'.", valueName: "f"))
  var lambdaSft = 1.0

  @Option(
    help: ArgumentHelp(
      "Leave out pairs whose chosen and rejected answers differ in length by a larger factor; 0 keeps all.",
      valueName: "f"))
  var lengthRatio = 1.25

  func validate() throws {
    guard LengthRatio.isPossible(lengthRatio) else { throw ValidationError(LengthRatio.rule) }
    guard mixBatch == nil || !mix.isEmpty else {
      throw ValidationError("--mix-batch says how many samples of --mix a step has: give --mix, too.")
    }
  }

  func apply(to session: inout TrainingSession, options: TrainRunOptions) throws {
    session.objective.preference = PreferenceLoss(beta: beta)
    session.objective.sampleWeight = lambdaSft
    session.preparation.maximumLengthRatio = lengthRatio > 0 ? lengthRatio : nil
    try session.objective.validate()
    let encoder = try options.encoder(of: session.model)
    try options.readPairs(into: &session, encoder: encoder)
    session.samplesPerStep = mixBatch
    session.inputs += mix + mixHeldOut
    session.samples = try TrainSupport.samples(mix, encoder: encoder, what: "samples", notes: &session.notes)
    session.heldOut = try TrainSupport.samples(
      mixHeldOut, encoder: encoder, what: "held-out samples", notes: &session.notes)
  }
}

struct TrainCDPOCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "cdpo",
    abstract: "Stage 2: learn from pairs to complement the selected expert.",
    discussion: """
      Goes on from the adapter and the head of stage 1 (--from its directory). Each expert's opinion of every token of \
      the pairs is asked once; at each step the expert that the router then selects counts. Where the selected expert \
      prefers the chosen answer by itself, the pair teaches little; where it prefers the rejected one, the router learns \
      to correct it. Pairs do not change the routing head; samples given with --mix do.
      """)

  @OptionGroup var experts: TrainClusterOptions

  @Option(
    help: ArgumentHelp("Directory of stage 1, with adapter.gguf (or model.gguf) and head.gguf.", valueName: "dir"))
  var from: String

  @Option(
    help: ArgumentHelp("Leave out pairs whose bias is larger than this; 0 keeps all.", valueName: "f"))
  var maxBias = 5.0

  @OptionGroup(title: "Pairs") var preference: TrainPreferenceOptions
  @OptionGroup(title: "Routing") var routing: TrainRoutingOptions
  @OptionGroup var options: TrainRunOptions

  func validate() throws {
    guard maxBias >= 0 else { throw ValidationError("--max-bias must be a number from 0, not \(maxBias).") }
  }

  func run() async throws {
    options.parent.watch()
    let log = options.output.bootstrap(default: .warning)
    let progress = Progress()
    let file = try ClusterFile.load(path: experts.cluster)
    try await withInterruption(keepsReason: true) { [self] in
      var session = try await progress.step("reading the data") { try prepare(file) }
      try session.hold()
      try await addOpinions(
        to: &session, ExpertScoring(cluster: file, attach: experts.attach, log: log, progress: progress))
      try await TrainSupport.run(session, progress: progress)
    }
  }

  private func prepare(_ file: ClusterFile) throws -> TrainingSession {
    let start = try TrainStart(
      resultsIn: from, baseModel: file.router.engine.model, for: options.model.full ? .everyWeight : .adapters)
    var session = try options.session(
      "Stage 2: complemented DPO of a router", start: start, experts: file.experts.map(\.name),
      objective: routing.objective, rate: 5e-5)
    session.inputs += experts.inputs(file)
    session.objective.usesBias = true
    session.preparation.maximumBias = maxBias > 0 ? maxBias : nil
    try preference.apply(to: &session, options: options)
    return session
  }

  /// One question for all sequences, so that the experts start once.
  private func addOpinions(to session: inout TrainingSession, _ scoring: ExpertScoring) async throws {
    let pairs = session.pairs + session.heldOutPairs
    let samples = session.samples + session.heldOut
    var opinions = try await scoring.opinions(
      on: pairs.flatMap { [$0.chosen, $0.rejected] } + samples.map(\.sequence))[...]
    func fill(_ pairs: inout [PreferencePair]) {
      for index in pairs.indices {
        pairs[index].chosenOpinions = opinions.removeFirst().logProbabilities
        pairs[index].rejectedOpinions = opinions.removeFirst().logProbabilities
      }
    }
    fill(&session.pairs)
    fill(&session.heldOutPairs)
    for index in session.samples.indices { session.samples[index].opinions = opinions.removeFirst() }
    for index in session.heldOut.indices { session.heldOut[index].opinions = opinions.removeFirst() }
  }
}

struct TrainDPOCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "dpo",
    abstract: "Plain DPO on pairs, for the fine-tuned baseline.",
    discussion: """
      Goes on from a directory of `train lm` or `train sft` (--from), or begins at the model. No experts, no head. \
      Samples given with --mix are learnt in the same stream.
      """)

  @Argument(help: ArgumentHelp("The model (GGUF).", valueName: "model"))
  var model: String

  @Option(help: ArgumentHelp("Go on from the adapter (or the model) of this directory.", valueName: "dir"))
  var from: String?

  @OptionGroup(title: "Pairs") var preference: TrainPreferenceOptions
  @OptionGroup var options: TrainRunOptions

  func run() async throws {
    try await TrainSupport.run(options) { [self] in try prepare() }
  }

  private func prepare() throws -> TrainingSession {
    var start = try from.map {
      try TrainStart(resultsIn: $0, baseModel: model, for: options.model.full ? .everyWeight : .adapters)
    }
    // Without experts there is no routing.
    start?.head = nil
    var session = try options.session("DPO of a model", start: start ?? TrainStart(model: model), rate: 5e-5)
    try preference.apply(to: &session, options: options)
    return session
  }
}

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

  func apply(to session: inout TrainingSession, encoder: ExampleEncoder, data: TrainDataOptions) throws {
    session.objective.preference = PreferenceLoss(beta: beta)
    session.objective.sampleWeight = lambdaSft
    session.preparation.maximumLengthRatio = lengthRatio > 0 ? lengthRatio : nil
    try session.objective.validate()
    session.pairs = try TrainSupport.pairs(data.data, encoder: encoder, what: "pairs", notes: &session.notes)
    session.heldOutPairs = try TrainSupport.pairs(
      data.heldOut, encoder: encoder, what: "held-out pairs", notes: &session.notes)
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

  @Option(name: [.short, .long], help: ArgumentHelp("The cluster file (YAML): router and experts.", valueName: "file"))
  var cluster: String

  @Option(
    help: ArgumentHelp("Directory of stage 1, with adapter.gguf (or model.gguf) and head.gguf.", valueName: "dir"))
  var from: String

  @Option(
    help: ArgumentHelp("Leave out pairs whose bias is larger than this; 0 keeps all.", valueName: "f"))
  var maxBias = 5.0

  @Flag(help: "Start no workers; wait for those that were started elsewhere.")
  var attach = false

  @OptionGroup(title: "Data") var data: TrainDataOptions
  @OptionGroup(title: "Pairs") var preference: TrainPreferenceOptions
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
      try await addOpinions(
        to: &session, ExpertScoring(cluster: file, attach: attach, log: log, progress: progress))
      try await TrainSupport.run(session, progress: progress)
    }
  }

  private func prepare(_ file: ClusterFile) throws -> TrainingSession {
    let start = try StageResult(from, baseModel: file.router.engine.model, isFull: options.full)
    var session = TrainingSession(
      title: "Stage 2: complemented DPO of a router", model: start.model, adapter: start.adapter, head: start.head,
      experts: file.experts.map(\.name), mode: try options.mode(adapter: start.adapter),
      engine: options.engine, objective: routing.objective, settings: try schedule.settings(defaultRate: 5e-5),
      folder: options.out, bakedType: try options.bakedType())
    session.objective.usesBias = true
    session.preparation.maximumBias = maxBias > 0 ? maxBias : nil
    let encoder = try ExampleEncoder(
      model: try TrainSupport.vocabulary(of: start.model), maximumLength: data.maxLength, isRaw: data.raw)
    try preference.apply(to: &session, encoder: encoder, data: data)
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

  @OptionGroup(title: "Data") var data: TrainDataOptions
  @OptionGroup(title: "Pairs") var preference: TrainPreferenceOptions
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
    let start = try from.map { try StageResult($0, baseModel: model, isFull: options.full) }
    let path = start?.model ?? model
    var session = TrainingSession(
      title: "DPO of a model", model: path, adapter: start?.adapter,
      mode: try options.mode(adapter: start?.adapter), engine: options.engine,
      objective: TrainingObjective(), settings: try schedule.settings(defaultRate: 5e-5), folder: options.out,
      bakedType: try options.bakedType())
    let encoder = try ExampleEncoder(
      model: try TrainSupport.vocabulary(of: path), maximumLength: data.maxLength, isRaw: data.raw)
    try preference.apply(to: &session, encoder: encoder, data: data)
    return session
  }
}

/// What an earlier stage left in its directory.
struct StageResult {
  var model: String
  var adapter: String?
  var head: String?

  /// - Parameter isFull: every weight is trained on: from the whole model.
  init(_ folder: String, baseModel: String, isFull: Bool) throws {
    func existing(_ name: String) -> String? {
      let path = "\(folder)/\(name)"
      return FileManager.default.fileExists(atPath: path) ? path : nil
    }
    head = existing("head.gguf")
    if !isFull, let adapter = existing("adapter.gguf") {
      self.adapter = adapter
      model = baseModel
    } else if let whole = existing("model.gguf") {
      model = whole
    } else {
      throw FusionRouteError.badInput(
        "\(folder) has no \(isFull ? "" : "adapter.gguf and no ")model.gguf: give the directory of a finished run")
    }
  }
}

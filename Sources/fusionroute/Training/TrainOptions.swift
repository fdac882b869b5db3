internal import ArgumentParser
internal import Core
internal import Foundation
internal import Launch
internal import ModelFiles
internal import Training

/// What every `train` command takes, apart from what makes it one.
struct TrainRunOptions: ParsableArguments {
  @OptionGroup(title: "Data") var data: TrainDataOptions
  @OptionGroup(title: "Model") var model: TrainModelOptions
  @OptionGroup(title: "Schedule") var schedule: TrainScheduleOptions
  @OptionGroup(title: "Output") var output: OutputOptions
  @OptionGroup var parent: StepParentOptions

  /// A run without data yet.
  ///
  /// - Parameters:
  ///   - start: the model, and the adapter and the head that the run goes on from.
  ///   - rate: the learning rate if none was asked for.
  func session(
    _ title: String, start: TrainStart, experts: [String] = [], objective: TrainingObjective = TrainingObjective(),
    rate: Float
  ) throws -> TrainingSession {
    try objective.validate()
    var session = TrainingSession(
      title: title, model: start.model, adapter: start.adapter, head: start.head, experts: experts,
      mode: try model.mode(adapter: start.adapter), engine: model.engine, objective: objective,
      settings: try schedule.settings(defaultRate: rate), folder: model.out, adapterType: model.adapterType.tensorType,
      bakedType: try model.bakedType())
    session.inputs = data.data + data.heldOut
    return session
  }

  func encoder(of path: String, isRaw: Bool = false) throws -> ExampleEncoder {
    let encoder = try ExampleEncoder(
      model: try TrainSupport.vocabulary(of: path), maximumLength: data.maxLength, isRaw: data.raw || isRaw)
    if encoder.isLimitedByModel {
      let text = "sequences have at most \(encoder.maximumLength) tokens, for \(path) takes no more\n"
      try? FileHandle.standardError.write(contentsOf: Data(text.utf8))
    }
    return encoder
  }

  /// Fills in samples of --data and --held-out.
  func readSamples(into session: inout TrainingSession, encoder: ExampleEncoder) throws {
    session.samples = try TrainSupport.samples(data.data, encoder: encoder, what: "data", notes: &session.notes)
    session.heldOut = try TrainSupport.samples(
      data.heldOut, encoder: encoder, what: "held-out data", notes: &session.notes)
  }

  /// Fills in pairs of --data and --held-out.
  func readPairs(into session: inout TrainingSession, encoder: ExampleEncoder) throws {
    let isReward = session.objective.isReward
    session.pairs = try TrainSupport.pairs(
      data.data, encoder: encoder, what: "pairs", isReward: isReward, notes: &session.notes)
    session.heldOutPairs = try TrainSupport.pairs(
      data.heldOut, encoder: encoder, what: "held-out pairs", isReward: isReward, notes: &session.notes)
  }
}

/// How a plan starts its steps, so that none goes on alone when the plan was killed: begun again, it would meet itself.
struct StepParentOptions: ParsableArguments {
  @Flag(help: ArgumentHelp("End at once when stdin does; for `train plan`.", visibility: .hidden))
  var exitWithStdin = false

  func watch() { if exitWithStdin { ParentWatch.exitWhenStdinEnds() } }
}

/// What a run begins with.
struct TrainStart {
  var model: String
  var adapter: String?
  var head: String?
}

/// Where the experts are that are asked.
struct TrainClusterOptions: ParsableArguments {
  @Option(name: [.short, .long], help: ArgumentHelp("The cluster file (YAML): router and experts.", valueName: "file"))
  var cluster: String

  @Flag(help: "Start no workers; wait for those that were started elsewhere.")
  var attach = false

  /// Files that a run must not write over. The router's head and adapter are not among them: a run makes them.
  func inputs(_ file: ClusterFile) -> [String] {
    [cluster, file.router.engine.model] + file.experts.flatMap { [$0.engine.model, $0.engine.lora] }.compactMap { $0 }
  }
}

/// The largest factor by which the lengths of a pair's answers may differ.
enum LengthRatio {
  static let rule = "--length-ratio must be 1 or more, or 0, which keeps all."

  static func isPossible(_ ratio: Double) -> Bool { ratio == 0 || ratio >= 1 }
}

/// What is trained, and what comes out.
struct TrainModelOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Directory for the result, the log, the report and checkpoints. The same command again goes on where it stopped. "
        + "The models that another run has left there are replaced.",
      valueName: "dir"))
  var out: String

  @Flag(help: "Train every weight, in F32, instead of LoRA adapters on a frozen model.")
  var full = false

  @Option(help: ArgumentHelp("Rank of the adapters. Default: 16.", valueName: "n"))
  var rank: Int?

  @Option(help: ArgumentHelp("Adapters are scaled by alpha / rank. Default: 2 × rank.", valueName: "f"))
  var alpha: Float?

  @Option(
    help: ArgumentHelp(
      "Matrices that get adapters: some of \(ModelShape.blockMatrices.joined(separator: ",")). Default: all.",
      valueName: "names"))
  var targets: String?

  @Option(
    help: ArgumentHelp(
      "Write the model with the adapters added as well, of this type: f32, bf16, f16, q8_0. With --full: the type of the "
        + "result, f32 if not given.", valueName: "type"))
  var bake: String?

  @Option(
    help: "What numbers of the adapter are written as: f32, or f16 in half the space. --bake adds the written ones.")
  var adapterType: AdapterType = .f32

  @Option(help: ArgumentHelp("Threads. Default: one per core.", valueName: "n"))
  var threads: Int?

  @Option(
    help: "What matrix products round their factors to: auto (bf16 where that is clearly faster, else f32), f32, bf16.")
  var precision: EngineOptions.Precision = .auto

  @Option(
    help: """
      Who multiplies F32: auto (builtin on CPUs that it is made for, else OpenBLAS where present; on macOS Accelerate), \
      builtin, blas.
      """)
  var library: EngineOptions.Library = .auto

  /// - Parameter adapter: continued if given, with its own rank, alpha and targets.
  func mode(adapter: String?) throws -> TrainingMode {
    let names = targets?.split(separator: ",").map(String.init)
    if full {
      let given = [
        ("--rank", rank != nil), ("--alpha", alpha != nil), ("--targets", targets != nil),
        ("--adapter-type", adapterType != .f32),
      ]
      if let option = given.first(where: \.1)?.0 {
        throw FusionRouteError.usage("\(option) is of adapters, and --full trains none")
      }
      guard adapter == nil else { throw FusionRouteError.usage("--full cannot continue an adapter") }
      return .full
    }
    if let adapter {
      let own = try LoRAOptions(adapter: GGUFFile.read(adapter))
      let other = [
        ("--rank", rank.map { $0 != own.rank }), ("--alpha", alpha.map { $0 != own.alpha }),
        ("--targets", names.map { Set($0) != Set(own.targets) }),
      ]
      if let option = other.first(where: { $0.1 == true })?.0 {
        throw FusionRouteError.usage("\(option) is not that of \(adapter), which the run goes on from: leave it out")
      }
      return .lora(own)
    }
    var options = LoRAOptions(rank: rank ?? 16, alpha: alpha)
    if let names { options.targets = names }
    try options.validate()
    return .lora(options)
  }

  func bakedType() throws -> TensorType? {
    guard let bake else { return nil }
    guard let type = TensorType(name: bake), type.isWritable else {
      throw FusionRouteError.usage("\"\(bake)\" is no weight type that can be written: use f32, bf16, f16 or q8_0")
    }
    return type
  }

  var engine: EngineOptions {
    EngineOptions(
      threads: threads ?? ProcessorCount.usable, precision: precision, library: library)
  }
}

enum AdapterType: String, CaseIterable, ExpressibleByArgument {
  case f32, f16

  var tensorType: TensorType {
    switch self {
    case .f32: .f32
    case .f16: .f16
    }
  }
}

/// How long and how fast.
struct TrainScheduleOptions: ParsableArguments {
  @Option(help: ArgumentHelp("Steps. Default: --epochs passes over the data.", valueName: "n"))
  var steps: Int?

  @Option(help: ArgumentHelp("Passes over the data.", valueName: "f"))
  var epochs = 1.0

  @Option(help: ArgumentHelp("Examples of a step; a pair is one.", valueName: "n"))
  var batch = 8

  @Option(
    help: ArgumentHelp(
      "Sequences computed together; a step has as many passes as it needs. Memory grows with it.", valueName: "n"))
  var sequencesPerPass = 4

  @Option(
    help: ArgumentHelp(
      "Highest learning rate. Default: 2e-4 for lm and sft, 5e-5 for cdpo and dpo, 1e-4 for reward.", valueName: "f"))
  var learningRate: Float?

  @Option(help: ArgumentHelp("Highest learning rate of the routing head.", valueName: "f"))
  var headRate: Float = 1e-3

  @Option(
    help: ArgumentHelp(
      "Steps of the routing head alone before training begins, on hidden states computed once; it ends earlier if samples "
        + "held back no longer gain. 0: none.", valueName: "n"))
  var headWarmup = 0

  @Option(help: ArgumentHelp("Steps of linear warm-up.", valueName: "n"))
  var warmup = 10

  @Option(help: "How the learning rate falls after the warm-up: cosine, linear or constant.")
  var decay: LearningRateSchedule.Decay = .cosine

  @Option(help: ArgumentHelp("Decoupled weight decay of matrices.", valueName: "f"))
  var weightDecay: Float = 0.01

  @Option(help: ArgumentHelp("Largest norm of the gradient; larger ones are scaled down.", valueName: "f"))
  var clip: Float = 1

  @Option(help: ArgumentHelp("Seed of the adapters and of the order of examples.", valueName: "n"))
  var seed: UInt64 = 1

  @Option(help: ArgumentHelp("Steps between evaluations on held-out data; 0: at the end only.", valueName: "n"))
  var evaluateEvery = 50

  @Option(help: ArgumentHelp("Steps between checkpoints; 0: none.", valueName: "n"))
  var checkpointEvery = 50

  @Option(help: ArgumentHelp("Checkpoints that are kept.", valueName: "n"))
  var keepCheckpoints = 2

  func settings(defaultRate: Float) throws -> TrainingSettings {
    var settings = TrainingSettings()
    settings.steps = steps
    settings.epochs = epochs
    settings.batch = batch
    settings.sequencesPerPass = sequencesPerPass
    settings.schedule = LearningRateSchedule(peak: learningRate ?? defaultRate, warmup: warmup, decay: decay)
    settings.headRate = headRate
    settings.headWarmup = headWarmup
    settings.optimiser.weightDecay = weightDecay
    settings.optimiser.clipNorm = clip
    settings.seed = seed
    settings.evaluateEvery = evaluateEvery
    settings.checkpointEvery = checkpointEvery
    settings.keepCheckpoints = keepCheckpoints
    try settings.validate()
    return settings
  }
}

/// What is learnt from.
struct TrainDataOptions: ParsableArguments {
  @Option(help: ArgumentHelp("Data (JSONL). Repeatable.", valueName: "file"))
  var data: [String]

  @Option(help: ArgumentHelp("Data that is evaluated, not learnt (JSONL). Repeatable.", valueName: "file"))
  var heldOut: [String] = []

  @Option(
    help: ArgumentHelp(
      "Longest sequence in tokens; longer answers are cut, longer pairs left out. The model's context limits it.",
      valueName: "n"))
  var maxLength = 1024

  @Flag(
    help: """
      Use no chat template: prompt and answer follow one another. A reward model remembers it, and rates answers so.
      """)
  var raw = false
}

/// The routing loss.
struct TrainRoutingOptions: ParsableArguments {
  @Option(help: "How routing weights combine experts: softmax, raw (as printed in the paper) or mixture.")
  var aggregation: RoutingAggregation = .softmax

  @Option(help: ArgumentHelp("Weight of the routing loss. Default: 1/3.", valueName: "f"))
  var lambda: Double?

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "Raise experts' log-probabilities to this, for example -10. Default: leave them.", valueName: "f"))
  var clampExperts: Float?

  var objective: TrainingObjective {
    var objective = TrainingObjective(routing: RoutingLoss(aggregation: aggregation, clamp: clampExperts))
    if let lambda { objective.routingWeight = lambda }
    return objective
  }
}

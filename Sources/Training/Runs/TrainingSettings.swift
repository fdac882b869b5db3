internal import Core

/// How long and how a run trains.
public struct TrainingSettings: Sendable, Equatable {
  /// Steps of the optimiser; nil: `epochs` passes over the data.
  public var steps: Int?
  public var epochs = 1.0
  /// Examples of a step; a pair is one.
  public var batch = 8
  /// Sequences that are computed together: memory grows with it, results do not depend on it but for rounding.
  public var sequencesPerPass = 4
  public var optimiser = AdamWOptions()
  public var schedule = LearningRateSchedule(peak: 2e-4, warmup: 10)
  /// The highest learning rate of the head; it follows the same schedule.
  public var headRate: Float = 1e-3
  /// Steps of the head alone, on states computed once, before the first step; 0: none.
  public var headWarmup = 0
  public var seed: UInt64 = 1
  /// Steps between evaluations on held-out data; 0: at the end only.
  public var evaluateEvery = 0
  /// Steps between checkpoints; 0: none.
  public var checkpointEvery = 50
  public var keepCheckpoints = 2

  public static let maximumBatch = 65_536
  public static let maximumEpochs = 1e6

  public init() {}

  public func validate() throws {
    func require(_ condition: Bool, _ message: @autoclosure () -> String) throws {
      guard condition else { throw FusionRouteError.usage(message()) }
    }
    if let steps { try require(steps > 0, "the number of steps must be positive, not \(steps)") }
    try require(
      epochs > 0 && epochs <= Self.maximumEpochs,
      "the number of epochs must be positive and at most \(Int(Self.maximumEpochs)), not \(epochs)")
    try require((1...Self.maximumBatch).contains(batch), "the batch must be 1 to \(Self.maximumBatch), not \(batch)")
    try require(sequencesPerPass > 0, "a pass must have a sequence, not \(sequencesPerPass)")
    try require(headRate.isFinite && headRate > 0, "the head's rate must be a positive number, not \(headRate)")
    try require(headWarmup >= 0, "the head's warm-up must be 0 steps or more, not \(headWarmup)")
    try require(evaluateEvery >= 0 && checkpointEvery >= 0, "the steps between two events must be 0 or more")
    try require(keepCheckpoints > 0, "at least one checkpoint must be kept, not \(keepCheckpoints)")
    try optimiser.validate()
    try schedule.validate()
  }

  /// Steps of a run over data of which one pass takes `stepsPerEpoch`.
  func totalSteps(stepsPerEpoch: Int) -> Int { steps ?? max(1, Int((epochs * Double(stepsPerEpoch)).rounded())) }
}

/// A step of a run, as it is shown while it goes on.
public struct TrainingProgress: Sendable {
  public var step: Int
  public var steps: Int
  public var metrics: StepMetrics
  public var loss: Double
  public var tokensPerSecond: Double
  /// Seconds that are left, as it looks.
  public var remaining: Double
  /// Of the last evaluation on held-out data.
  public var heldOutLoss: Double?
}

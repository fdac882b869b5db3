internal import Core
internal import Foundation

/// A run: steps over the data, evaluations, checkpoints and the log, in a directory that it can be resumed from.
public final class TrainingLoop {
  public let engine: TrainingEngine
  public let objective: TrainingObjective
  public let settings: TrainingSettings
  private let evaluator: StepEvaluator
  private let heldOut: StepEvaluator
  private let plan: StepStream
  private let folder: String
  private let fingerprint: String
  private var state = TrainingState()
  /// Of held-out data, the latest.
  public private(set) var lastEvaluation: StepMetrics?

  /// Steps of the whole run.
  public let totalSteps: Int
  /// Steps that changed the head.
  public var headSteps: Int { state.headSteps }
  /// Whether the head has been trained.
  public var hasTaughtHead: Bool { state.headSteps > 0 || settings.headWarmup > 0 }
  /// Steps that an earlier, interrupted run had done.
  public private(set) var resumedAt = 0
  /// Steps of the latest checkpoint.
  private var savedAt = 0

  /// - Parameters:
  ///   - heldOut: samples and pairs that are evaluated, not learnt.
  ///   - samplesPerStep: samples of each step, beside `batch` less as many pairs; nil: both are shuffled together. A run on
  ///     these samples alone, with this number as its batch and the same seed, sees the same ones at each step.
  ///   - folder: takes checkpoints and the log; made if missing.
  ///   - identity: names the models that the run starts from.
  /// - Throws: `.badInput` if `folder` has a checkpoint of a run with other data, models or settings.
  public init(
    engine: TrainingEngine, objective: TrainingObjective, samples: [Sample], pairs: [PreferencePair] = [],
    heldOut: (samples: [Sample], pairs: [PreferencePair]) = ([], []), settings: TrainingSettings,
    samplesPerStep: Int? = nil, folder: String, identity: String
  ) throws {
    try settings.validate()
    try objective.validate()
    guard samples.count + pairs.count > 0 else {
      throw FusionRouteError.badInput("there is no example to learn from")
    }
    if let samplesPerStep {
      guard !samples.isEmpty, !pairs.isEmpty else {
        throw FusionRouteError.badInput("so many samples in each step need samples, and pairs beside them")
      }
      guard (1..<max(2, settings.batch)).contains(samplesPerStep) else {
        throw FusionRouteError.usage(
          "a step of \(settings.batch) examples cannot have \(samplesPerStep) samples and a pair beside them")
      }
    }
    self.engine = engine
    self.objective = objective
    self.settings = settings
    self.folder = folder
    evaluator = StepEvaluator(
      engine: engine, objective: objective, samples: samples, pairs: pairs, sequencesPerPass: settings.sequencesPerPass)
    self.heldOut = StepEvaluator(
      engine: engine, objective: objective, samples: heldOut.samples, pairs: heldOut.pairs,
      sequencesPerPass: settings.sequencesPerPass)
    plan = Self.plan(samples, pairs, settings, samplesPerStep)
    totalSteps = settings.totalSteps(stepsPerEpoch: plan.stepsPerEpoch)
    let mix = samplesPerStep.map { "\n\($0) samples in each step" } ?? ""
    fingerprint = Self.fingerprint(identity + mix, engine, objective, settings, samples, pairs)
    do {
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    } catch {
      throw FusionRouteError.unavailable("cannot create the directory \(folder)", cause: error)
    }
    // Already here: whoever makes a loop must not have written over another run's results before it is refused.
    if let latest = Checkpoint.all(in: checkpointFolder).first {
      _ = try Checkpoint.header(of: latest.path, fingerprint: fingerprint, totalSteps: totalSteps)
    }
  }

  private static func plan(
    _ samples: [Sample], _ pairs: [PreferencePair], _ settings: TrainingSettings, _ samplesPerStep: Int?
  ) -> StepStream {
    let (sampleItems, pairItems) = (samples.indices.map { Item.sample($0) }, pairs.indices.map { Item.pair($0) })
    let sampleLengths = samples.map(\.sequence.inputCount)
    let pairLengths = pairs.map { max($0.chosen.inputCount, $0.rejected.inputCount) }
    // A pair is two sequences.
    let (sequences, halves) = (settings.sequencesPerPass, settings.sequencesPerPass / 2)
    guard let samplesPerStep else {
      return StepStream(
        StepPlan(
          items: sampleItems + pairItems, lengths: sampleLengths + pairLengths, batch: settings.batch,
          group: pairs.isEmpty ? sequences : halves, seed: settings.seed))
    }
    return StepStream(
      StepPlan(
        items: pairItems, lengths: pairLengths, batch: settings.batch - samplesPerStep, group: halves,
        seed: settings.seed),
      beside: StepPlan(
        items: sampleItems, lengths: sampleLengths, batch: samplesPerStep, group: sequences, seed: settings.seed))
  }

  /// Everything that the trained weights depend on.
  private static func fingerprint(
    _ identity: String, _ engine: TrainingEngine, _ objective: TrainingObjective, _ settings: TrainingSettings,
    _ samples: [Sample], _ pairs: [PreferencePair]
  ) -> String {
    var hasher = SHA256Hasher()
    hasher.update(field: "fusionroute/run/2")
    hasher.update(field: identity)
    var timeless = settings
    // These change what is written, not what is learnt.
    (timeless.evaluateEvery, timeless.checkpointEvery, timeless.keepCheckpoints) = (0, 0, 1)
    hasher.update(field: "\(engine.mode) \(engine.headRows) \(engine.productName) \(objective) \(timeless)")
    func add(_ sequence: TrainingSequence) {
      hasher.update(littleEndian: UInt64(sequence.tokens.count))
      sequence.tokens.withUnsafeBytes { hasher.update($0) }
      hasher.update(littleEndian: UInt64(sequence.judged.count))
      sequence.judged.withUnsafeBytes { hasher.update($0) }
    }
    for sample in samples {
      add(sample.sequence)
      sample.opinions?.logProbabilities.withUnsafeBytes { hasher.update($0) }
      sample.opinions?.argmaxes.withUnsafeBytes { hasher.update($0) }
    }
    for pair in pairs {
      add(pair.chosen)
      add(pair.rejected)
      pair.chosenOpinions.withUnsafeBytes { hasher.update($0) }
      pair.rejectedOpinions.withUnsafeBytes { hasher.update($0) }
    }
    return hasher.finalize().hex
  }

  public var checkpointFolder: String { "\(folder)/checkpoints" }
  public var logPath: String { "\(folder)/log.jsonl" }

  // MARK: Running

  /// Trains to the end, from the latest checkpoint if there is one.
  ///
  /// - Parameters:
  ///   - shouldStop: is asked between steps, and between the passes of evaluations and of the head's warm-up; when it
  ///     says so, a checkpoint is written and `.interrupted` thrown. If it cannot be written, the error's cause says why.
  ///   - progress: is told after every step.
  public func run(shouldStop: () -> Bool = { false }, progress: (TrainingProgress) -> Void = { _ in }) throws {
    try resume()
    let log = try RunLog(path: logPath, resumingAfter: state.step, of: totalSteps)
    do {
      try train(log, shouldStop: shouldStop, progress: progress)
    } catch let error as FusionRouteError where error.code == .interrupted {
      throw interruption()
    }
  }

  private func train(_ log: RunLog, shouldStop: () -> Bool, progress: (TrainingProgress) -> Void) throws {
    if state.step == 0 {
      try evaluate(log, shouldStop: shouldStop)
      try warmUpHead(log, shouldStop: shouldStop)
    } else if isEvaluated, !log.hasEvaluation(after: state.step) {
      // The run was interrupted in it.
      try evaluate(log, shouldStop: shouldStop)
    }
    let clock = ContinuousClock()
    let started = clock.now
    var epoch = -1
    var steps: [[Item]] = []
    while state.step < totalSteps {
      guard !shouldStop() else { throw FusionRouteError.interrupted("interrupted between two steps") }
      if state.step / plan.stepsPerEpoch != epoch {
        epoch = state.step / plan.stepsPerEpoch
        steps = plan.epoch(epoch)
      }
      let began = clock.now
      let (metrics, norm, rate) = try step(steps[state.step % plan.stepsPerEpoch])
      let seconds = Self.seconds(clock.now - began)
      let speed = Double(metrics.tokens) / max(1e-9, seconds)
      try log.append(
        [("step", .integer(Int64(state.step))), ("of", .integer(Int64(totalSteps)))] + metrics.members(objective) + [
          ("gradient_norm", .number(norm)), ("rate", .number(Double(rate))), ("seconds", .number(seconds)),
          ("tokens_per_second", .number(speed)),
        ])
      if isEvaluated { try evaluate(log, shouldStop: shouldStop) }
      if settings.checkpointEvery > 0, state.step % settings.checkpointEvery == 0 || state.step == totalSteps {
        try writeCheckpoint()
      }
      let done = state.step - resumedAt
      let remaining = Self.seconds(clock.now - started) / Double(done) * Double(totalSteps - state.step)
      progress(
        TrainingProgress(
          step: state.step, steps: totalSteps, metrics: metrics, loss: metrics.total(objective), tokensPerSecond: speed,
          remaining: remaining, heldOutLoss: lastEvaluation?.total(objective)))
    }
    try evaluate(log, shouldStop: shouldStop)
  }

  /// Whether an evaluation follows the steps done; that at the end is apart.
  private var isEvaluated: Bool {
    settings.evaluateEvery > 0 && state.step % settings.evaluateEvery == 0 && state.step < totalSteps
  }

  /// Keeps what has been done, of which passes that learn nothing change nothing. Returns the error that says from where
  /// the same command goes on.
  private func interruption() -> FusionRouteError {
    // Before the first step there is nothing to keep.
    guard state.step > 0 else { return .interrupted("interrupted before the first step") }
    guard settings.checkpointEvery > 0 else {
      return .interrupted("interrupted after step \(state.step); without checkpoints the same command begins again")
    }
    do {
      if savedAt != state.step { try writeCheckpoint() }
    } catch {
      let rest = savedAt > 0 ? "goes on from step \(savedAt)" : "begins again"
      return FusionRouteError(
        .interrupted,
        "interrupted after step \(state.step), of which no checkpoint could be written: the same command \(rest)",
        cause: error)
    }
    return .interrupted("interrupted after step \(state.step); the same command goes on from there")
  }

  private static func seconds(_ duration: Duration) -> Double {
    Double(duration.components.seconds) + 1e-18 * Double(duration.components.attoseconds)
  }

  private func step(_ items: [Item]) throws -> (metrics: StepMetrics, norm: Double, rate: Float) {
    engine.zeroGradients()
    let metrics: StepMetrics
    do {
      metrics = try evaluator.evaluate(items, learns: true)
    } catch let error as FusionRouteError where error.code == .badInput {
      throw FusionRouteError.badInput("step \(state.step + 1): \(error.message)\(lastCheckpoint)")
    }
    let factor = settings.schedule.factor(step: state.step, of: totalSteps)
    let rate = settings.schedule.peak * factor
    // Pairs do not teach routing: without a sample that does, W and its moments stay as they are.
    let teachesHead = engine.headRows > 0 && (metrics.disagreements > 0 || objective.isReward)
    let norm: Double
    do {
      norm = try engine.update(
        settings.optimiser, rates: UpdateRates(model: rate, head: teachesHead ? settings.headRate * factor : nil),
        steps: (state.modelSteps, state.headSteps))
    } catch let error as FusionRouteError where error.code == .badInput {
      throw FusionRouteError.badInput(
        "step \(state.step + 1) with \(evaluator.sources(items)): \(error.message)\(lastCheckpoint)")
    }
    state.step += 1
    state.modelSteps += 1
    if teachesHead { state.headSteps += 1 }
    return (metrics, norm, rate)
  }

  private var lastCheckpoint: String {
    Checkpoint.all(in: checkpointFolder).first.map { "; the last good checkpoint is \($0.path)" } ?? ""
  }

  /// Losses on held-out data, to the log; nothing if there is none.
  private func evaluate(_ log: RunLog, shouldStop: () -> Bool) throws {
    guard let metrics = try evaluation(shouldStop: shouldStop) else { return }
    lastEvaluation = metrics
    try log.append(
      [("step", .integer(Int64(state.step))), ("held_out", .bool(true))] + metrics.members(objective))
  }

  private func warmUpHead(_ log: RunLog, shouldStop: () -> Bool) throws {
    guard settings.headWarmup > 0 else { return }
    guard
      let warmup = try evaluator.warmUpHead(plan.epoch(0), for: settings.headWarmup, shouldStop: shouldStop)
    else { return }
    try log.append([
      ("step", .integer(0)), ("head_warmup", .integer(Int64(warmup.steps))), ("route_before", .number(warmup.before)),
      ("route", .number(warmup.after)), ("routing_accuracy", .number(warmup.accuracy)),
    ])
  }

  /// Share of the tokens of one pass over the data that will only fill up shorter sequences.
  public var paddingShare: Double {
    var (tokens, padded) = (0, 0)
    for items in plan.epoch(0).flatMap(evaluator.passes) {
      let batch = PassBatch(items.flatMap(evaluator.sequences))
      tokens += batch.tokenCount
      padded += batch.paddedTokenCount
    }
    return padded > 0 ? Double(padded - tokens) / Double(padded) : 0
  }

  /// Losses on held-out data as the model is now.
  ///
  /// - Parameter shouldStop: is asked before each pass; when it says so, `.interrupted` is thrown.
  public func evaluation(shouldStop: () -> Bool = { false }) throws -> StepMetrics? {
    let items = heldOut.samples.indices.map { Item.sample($0) } + heldOut.pairs.indices.map { Item.pair($0) }
    return items.isEmpty ? nil : try heldOut.evaluate(items, learns: false, shouldStop: shouldStop)
  }

  // MARK: Checkpoints

  private func writeCheckpoint() throws {
    do {
      try FileManager.default.createDirectory(atPath: checkpointFolder, withIntermediateDirectories: true)
    } catch {
      throw FusionRouteError.unavailable("cannot create the directory \(checkpointFolder)", cause: error)
    }
    try Checkpoint.write(
      engine, state: state, fingerprint: fingerprint,
      to: "\(checkpointFolder)/\(Checkpoint.name(step: state.step))")
    savedAt = state.step
    Checkpoint.prune(checkpointFolder, keeping: settings.keepCheckpoints)
  }

  private func resume() throws {
    guard let latest = Checkpoint.all(in: checkpointFolder).first else { return }
    state = try Checkpoint.read(latest.path, into: engine, fingerprint: fingerprint, totalSteps: totalSteps)
    (resumedAt, savedAt) = (state.step, state.step)
  }
}

internal import Core
internal import TrainingKernels

/// Trains a routing head alone on hidden states that have been computed once: the same loss as in training, without the
/// model. The states are as the head sees them, centred and scaled, so that seconds are enough.
///
/// A part of the sequences is held back; the head of the least loss on these is kept, so that few states do not make it
/// more certain than they allow.
struct HeadWarmup {
  /// Positions of S: what the head sees there, and what the experts think.
  struct Positions {
    /// [positions][width].
    var states: [Float] = []
    /// The experts' log-probabilities of the true token, [positions][experts].
    var opinions: [Float] = []
    var count = 0
  }

  struct Outcome: Equatable {
    /// Steps that the kept head was trained for.
    var steps = 0
    /// Mean L_route on the positions held back, at the start and of the kept head.
    var before = 0.0
    var after = 0.0
    /// Share of these where the kept head picks the best expert.
    var accuracy = 0.0
  }

  /// Steps between looks at what was held back, and looks without improvement after which it ends.
  static let interval = 10
  static let patience = 4
  /// Sequences whose states are computed at most: enough for a linear map, and little beside training itself.
  static let maximumSequences = 512
  /// Of every so many sequences one is held back.
  static let heldBack = 5
  /// Adam's rate. States and weights are of size 1 here whatever the model.
  static let rate: Float = 1e-2

  let width: Int
  let experts: Int
  let loss: RoutingLoss

  /// Trains `head` for `steps` steps at most, each on all of `learnt`. Leaves it as it is if either part is empty, and
  /// where `shouldStop` says so before a step, with `.interrupted`.
  func train(
    _ head: inout LinearHead, learnt: Positions, heldBack: Positions, steps: Int, shouldStop: () -> Bool = { false }
  ) throws -> Outcome? {
    guard learnt.count > 0, heldBack.count > 0, steps > 0 else { return nil }
    guard let engine = fr_engine_new(1, fr_precision_f32, fr_gemm_builtin) else {
      throw FusionRouteError.unavailable("there is no memory to warm up the routing head")
    }
    defer { fr_engine_free(engine) }
    var values = head.weight + head.bias
    var (moment1, moment2) = (values.map { _ in Float(0) }, values.map { _ in Float(0) })
    var (best, kept) = (values, evaluate(values, heldBack, engine).outcome)
    let before = kept.after
    let options = AdamWOptions()
    for step in 1...steps {
      guard !shouldStop() else { throw FusionRouteError.interrupted("interrupted in the head's warm-up") }
      let (_, gradient) = evaluate(values, learnt, engine, wantsGradient: true)
      let (beta1, beta2) = (options.beta1, options.beta2)
      fr_adamw(
        &values, gradient, &moment1, &moment2, Int64(values.count), 1, Self.rate, 0, beta1, beta2, options.epsilon,
        AdamWOptions.correction(beta1, step), AdamWOptions.correction(beta2, step))
      guard step % Self.interval == 0 || step == steps else { continue }
      var outcome = evaluate(values, heldBack, engine).outcome
      outcome.steps = step
      if outcome.after < kept.after { (best, kept) = (values, outcome) }
      if step - kept.steps >= Self.interval * Self.patience { break }
    }
    kept.before = before
    head = LinearHead(weight: Array(best.prefix(head.weight.count)), bias: Array(best.suffix(head.bias.count)))
    return kept
  }

  /// Mean loss of a head, `values` being its weight and bias, and the gradient of that.
  private func evaluate(
    _ values: [Float], _ positions: Positions, _ engine: OpaquePointer, wantsGradient: Bool = false
  ) -> (outcome: Outcome, gradient: [Float]) {
    let (count, columns) = (Int64(positions.count), Int64(experts))
    let span = Int64(width)
    var outputs = (0..<positions.count).flatMap { _ in values.suffix(experts) }
    fr_gemm(engine, 0, count, columns, span, positions.states, span, 1, values, 1, span, &outputs, columns, 1)
    var outcome = Outcome()
    for position in 0..<positions.count {
      let range = position * experts..<(position + 1) * experts
      let (loss, slope) = loss.evaluate(weights: outputs[range], logProbabilities: positions.opinions[range])
      outcome.after += loss / Double(positions.count)
      if indexOfLargest(outputs[range]) == indexOfLargest(positions.opinions[range]) { outcome.accuracy += 1 }
      for (index, value) in zip(range, slope) { outputs[index] = Float(value / Double(positions.count)) }
    }
    outcome.accuracy /= Double(positions.count)
    guard wantsGradient else { return (outcome, []) }
    var gradient = [Float](repeating: 0, count: values.count)
    fr_gemm(engine, 0, columns, span, count, outputs, 1, columns, positions.states, span, 1, &gradient, span, 0)
    for index in outputs.indices { gradient[experts * width + index % experts] += outputs[index] }
    return (outcome, gradient)
  }
}

extension TrainingEngine {
  /// What the head sees of the last forward pass, [positions][width]: hidden states, centred and scaled.
  func headInputs() -> [Float] {
    guard let tensors = trainables.head else { return [] }
    return hiddenStates().enumerated().map { ($1 - tensors.means[$0 % shape.width]) / tensors.scale }
  }

  /// The head's own numbers, of centred and scaled states.
  var centredHead: LinearHead {
    get {
      func values(_ name: String) -> [Float] { trainables.parameter(name).map { self.values(of: $0) } ?? [] }
      return LinearHead(weight: values(Trainables.headName), bias: values(Trainables.headBiasName))
    }
    set {
      trainables.parameter(Trainables.headName)?.values.update(from: newValue.weight, count: newValue.weight.count)
      trainables.parameter(Trainables.headBiasName)?.values.update(from: newValue.bias, count: newValue.bias.count)
    }
  }
}

extension StepEvaluator {
  /// Warms up the head on some of the samples of `steps`; nil if the experts disagree nowhere.
  ///
  /// - Parameter shouldStop: is asked before each pass and step; when it says so, the head stays as it is and
  ///   `.interrupted` is thrown.
  func warmUpHead(
    _ steps: [[Item]], for count: Int, shouldStop: () -> Bool = { false }
  ) throws -> HeadWarmup.Outcome? {
    guard let routing = objective.routing, engine.headRows > 0 else { return nil }
    var (learnt, heldBack) = (HeadWarmup.Positions(), HeadWarmup.Positions())
    let chosen = steps.joined().filter { item in
      guard case .sample(let index) = item, let opinions = samples[index].opinions else { return false }
      return (0..<opinions.positions).contains { opinions.disagree(at: $0) }
    }.prefix(HeadWarmup.maximumSequences)
    let held = Set(chosen.enumerated().filter { $0.offset % HeadWarmup.heldBack == 0 }.map(\.element))
    for items in passes(Array(chosen)) {
      guard !shouldStop() else { throw FusionRouteError.interrupted("interrupted in the head's warm-up") }
      let batch = PassBatch(items.flatMap(sequences))
      _ = try engine.forward(batch)
      let states = engine.headInputs()
      for (item, rows) in zip(items, batch.rowRanges) {
        guard case .sample(let index) = item, let opinions = samples[index].opinions else { continue }
        var positions = HeadWarmup.Positions()
        for (position, row) in rows.enumerated() where opinions.disagree(at: position) {
          positions.states += states[row * engine.shape.width..<(row + 1) * engine.shape.width]
          positions.opinions += opinions[position]
          positions.count += 1
        }
        if held.contains(item) { heldBack.add(positions) } else { learnt.add(positions) }
      }
    }
    let warmup = HeadWarmup(width: engine.shape.width, experts: engine.headRows, loss: routing)
    var head = engine.centredHead
    let outcome = try warmup.train(
      &head, learnt: learnt, heldBack: heldBack, steps: count, shouldStop: shouldStop)
    engine.centredHead = head
    return outcome
  }
}

extension HeadWarmup.Positions {
  mutating func add(_ other: HeadWarmup.Positions) {
    states += other.states
    opinions += other.opinions
    count += other.count
  }
}

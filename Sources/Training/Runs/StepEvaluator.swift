internal import Core
internal import Foundation

/// Computes losses, and gradients, of some items.
struct StepEvaluator {
  let engine: TrainingEngine
  let objective: TrainingObjective
  let samples: [Sample]
  let pairs: [PreferencePair]
  /// Sequences of one forward pass; a pair has two.
  let sequencesPerPass: Int

  /// Counts over a whole step, which the means are over.
  private struct Totals {
    var responseTokens = 0
    var disagreements = 0
    var pairs = 0
  }

  /// Losses of `items`; with `learns`, their gradient is added to the parameters'.
  ///
  /// - Parameter shouldStop: is asked before each pass; when it says so, `.interrupted` is thrown.
  /// - Throws: `.badInput` naming the examples if a loss is not a finite number.
  func evaluate(_ items: [Item], learns: Bool, shouldStop: () -> Bool = { false }) throws -> StepMetrics {
    let totals = totals(of: items)
    var metrics = StepMetrics()
    for group in passes(items) {
      guard !shouldStop() else { throw FusionRouteError.interrupted("interrupted between two passes") }
      let part = try evaluatePass(group, totals: totals, learns: learns)
      guard part.languageLoss.isFinite, part.routingLoss.isFinite, part.preferenceLoss.isFinite else {
        throw FusionRouteError.badInput(
          "the loss is not a finite number at \(sources(group)): look at these examples, or use a lower learning rate")
      }
      metrics += part
    }
    return metrics
  }

  func sources(_ items: [Item]) -> String {
    let names = items.map { item in
      switch item {
      case .sample(let index): samples[index].source
      case .pair(let index): pairs[index].source
      }
    }.filter { !$0.isEmpty }
    return names.isEmpty ? "some examples" : names.prefix(8).joined(separator: ", ")
  }

  private func totals(of items: [Item]) -> Totals {
    items.reduce(into: Totals()) { totals, item in
      switch item {
      case .pair: totals.pairs += 1
      case .sample(let index):
        totals.responseTokens += samples[index].sequence.judged.count
        guard objective.routing != nil, let opinions = samples[index].opinions else { return }
        totals.disagreements += (0..<opinions.positions).count { opinions.disagree(at: $0) }
      }
    }
  }

  func sequences(_ item: Item) -> [TrainingSequence] {
    switch item {
    case .sample(let index): [samples[index].sequence]
    case .pair(let index): [pairs[index].chosen, pairs[index].rejected]
    }
  }

  /// Items by length, cut into passes.
  func passes(_ items: [Item]) -> [[Item]] {
    func length(_ item: Item) -> Int { sequences(item).map(\.inputCount).max() ?? 0 }
    var passes: [[Item]] = []
    var count = 0
    for item in items.enumerated().sorted(by: { (length($0.1), $0.0) < (length($1.1), $1.0) }).map(\.1) {
      let size = sequences(item).count
      if passes.isEmpty || count + size > max(sequencesPerPass, size) {
        passes.append([])
        count = 0
      }
      passes[passes.count - 1].append(item)
      count += size
    }
    return passes
  }

  private func evaluatePass(_ items: [Item], totals: Totals, learns: Bool) throws -> StepMetrics {
    let batch = PassBatch(items.flatMap(sequences))
    let output = try engine.forward(batch)
    var gradients = Gradients(
      coefficients: [Float](repeating: 0, count: batch.rowCount),
      head: engine.headRows > 0 ? [Float](repeating: 0, count: batch.rowCount * engine.headRows) : nil)
    var metrics = StepMetrics()
    metrics.tokens = batch.tokenCount
    metrics.paddedTokens = batch.paddedTokenCount
    var ranges = batch.rowRanges[...]
    let targets = batch.targets
    for item in items {
      switch item {
      case .sample(let index):
        let rows = ranges.removeFirst()
        addSample(
          samples[index], rows: rows, output: output, targets: targets, totals: totals, metrics: &metrics,
          gradients: &gradients)
      case .pair(let index):
        let (chosen, rejected) = (ranges.removeFirst(), ranges.removeFirst())
        addPair(
          pairs[index], chosen: chosen, rejected: rejected, output: output, totals: totals, metrics: &metrics,
          gradients: &gradients)
      }
    }
    if learns { try engine.backward(coefficients: gradients.coefficients, headGradients: gradients.head) }
    return metrics
  }

  private struct Gradients {
    var coefficients: [Float]
    var head: [Float]?
  }

  private func addSample(
    _ sample: Sample, rows: Range<Int>, output: PassOutput, targets: [Int32], totals: Totals,
    metrics: inout StepMetrics, gradients: inout Gradients
  ) {
    metrics.responseTokens += rows.count
    for row in rows {
      metrics.languageLoss -= Double(output.logProbabilities[row])
      if output.argmaxes[row] == targets[row] { metrics.correct += 1 }
      gradients.coefficients[row] = Float(objective.sampleWeight / Double(totals.responseTokens))
    }
    guard let routing = objective.routing, let opinions = sample.opinions else { return }
    let experts = engine.headRows
    if metrics.selected.isEmpty {
      metrics.selected = [Int](repeating: 0, count: experts)
      metrics.confusion = [Int](repeating: 0, count: experts * experts)
    }
    let scale = objective.sampleWeight * objective.routingWeight / Double(max(1, totals.disagreements))
    for (position, row) in rows.enumerated() {
      let weights = output.head[row * experts..<(row + 1) * experts]
      let picked = indexOfLargest(weights)
      metrics.selected[picked] += 1
      metrics.entropy -= RoutingLoss.softmax(weights).reduce(0) { $1 > 0 ? $0 + $1 * log($1) : $0 }
      guard opinions.disagree(at: position) else { continue }
      let opinion = opinions[position]
      let (loss, slope) = routing.evaluate(weights: weights, logProbabilities: opinion)
      let best = indexOfLargest(opinion)
      metrics.disagreements += 1
      metrics.routingLoss += loss
      metrics.routingFloor += routing.floor(logProbabilities: opinion)
      if picked == best { metrics.routedRight += 1 }
      metrics.confusion[picked * experts + best] += 1
      for expert in 0..<experts { gradients.head?[row * experts + expert] = Float(scale * slope[expert]) }
    }
  }

  private func addPair(
    _ pair: PreferencePair, chosen: Range<Int>, rejected: Range<Int>, output: PassOutput, totals: Totals,
    metrics: inout StepMetrics, gradients: inout Gradients
  ) {
    if objective.isReward {
      return addReward(
        pair.task, chosen: chosen.lowerBound, rejected: rejected.lowerBound, output: output, totals: totals,
        metrics: &metrics,
        gradients: &gradients)
    }
    func sum(_ rows: Range<Int>) -> Double { rows.reduce(0) { $0 + Double(output.logProbabilities[$1]) } }
    var bias = 0.0
    if objective.usesBias {
      let experts = engine.headRows
      func routing(_ rows: Range<Int>) -> ArraySlice<Float> {
        output.head[rows.lowerBound * experts..<rows.upperBound * experts]
      }
      bias = objective.preference.bias(
        chosen: pair.chosenOpinions, chosenRouting: routing(chosen), rejected: pair.rejectedOpinions,
        rejectedRouting: routing(rejected), experts: experts, clamp: objective.routing?.clamp)
      let selection = selections(output, rows: Array(chosen) + Array(rejected))
      metrics.pairPositions += selection.count
      metrics.reselected += zip(selection, pair.initialSelection).count { $0 != $1 }
      metrics.biases.append(bias)
    }
    let result = objective.preference.evaluate(
      chosen: .init(policy: sum(chosen), reference: pair.chosenReference),
      rejected: .init(policy: sum(rejected), reference: pair.rejectedReference), bias: bias)
    metrics.add(task: pair.task, isPreferred: result.margin + bias > 0)
    metrics.preferenceLoss += result.loss
    metrics.marginSum += result.margin
    metrics.largestMargin = max(metrics.largestMargin, abs(result.margin))
    if result.weight < 0.05 { metrics.settled += 1 }
    // A coefficient is −∂loss/∂ log π.
    let coefficient = Float(-result.slope / Double(totals.pairs))
    for row in chosen { gradients.coefficients[row] = coefficient }
    for row in rejected { gradients.coefficients[row] = -coefficient }
  }

  /// Bradley–Terry on the head's outputs at the ends of both answers.
  private func addReward(
    _ task: String?, chosen: Int, rejected: Int, output: PassOutput, totals: Totals, metrics: inout StepMetrics,
    gradients: inout Gradients
  ) {
    let result = PreferenceLoss(beta: 1).evaluate(
      chosen: .init(policy: Double(output.head[chosen]), reference: 0),
      rejected: .init(policy: Double(output.head[rejected]), reference: 0))
    metrics.add(task: task, isPreferred: result.margin > 0)
    metrics.preferenceLoss += result.loss
    metrics.marginSum += result.margin
    metrics.largestMargin = max(metrics.largestMargin, abs(result.margin))
    let slope = Float(result.slope / Double(totals.pairs))
    gradients.head?[chosen] = slope
    gradients.head?[rejected] = -slope
  }

  /// The expert that the head picks at each of `rows`.
  func selections(_ output: PassOutput, rows: [Int]) -> [UInt16] {
    let experts = engine.headRows
    return rows.map { UInt16(indexOfLargest(output.head[$0 * experts..<($0 + 1) * experts])) }
  }
}

internal import Core

/// What is computed of pairs before stage 2's first step: the reference and the selection, both by the trainer's own
/// forward pass, so that ℓ is zero at the first step.
public struct PairPreparation: Sendable, Equatable {
  /// Pairs whose |bias| is larger are dropped: their gradient is next to zero, or they teach one expert's taste for length.
  public var maximumBias: Double?
  /// Pairs whose responses differ in length by a larger factor are dropped.
  public var maximumLengthRatio: Double?

  public init(maximumBias: Double? = 5, maximumLengthRatio: Double? = 1.25) {
    self.maximumBias = maximumBias
    self.maximumLengthRatio = maximumLengthRatio
  }

  public struct Report: Sendable, Equatable {
    public var kept = 0
    /// Dropped since nothing is judged: the responses are equal, or one begins with all of the other.
    public var empty = 0
    public var lengths = 0
    public var bias = 0
  }

  /// Fills in references and selections. Returns the pairs that are kept, in their order.
  ///
  /// - Parameters:
  ///   - shouldStop: is asked before each pass; when it says so, `.interrupted` is thrown.
  ///   - progress: is told how many pairs are done.
  public func prepare(
    _ pairs: [PreferencePair], engine: TrainingEngine, objective: TrainingObjective, pairsPerPass: Int,
    shouldStop: () -> Bool = { false }, progress: (Int) -> Void
  ) throws -> (pairs: [PreferencePair], report: Report) {
    var report = Report()
    var kept: [PreferencePair] = []
    for pair in pairs {
      if pair.chosen.judged.isEmpty || pair.rejected.judged.isEmpty {
        report.empty += 1
      } else if let ratio = maximumLengthRatio, differ(pair, by: ratio) {
        report.lengths += 1
      } else {
        kept.append(pair)
      }
    }
    let order = kept.indices.sorted { (longest(kept[$0]), $0) < (longest(kept[$1]), $1) }
    var isKept = [Bool](repeating: true, count: kept.count)
    for start in stride(from: 0, to: order.count, by: max(1, pairsPerPass)) {
      guard !shouldStop() else { throw FusionRouteError.interrupted("interrupted before training began") }
      let group = order[start..<min(order.count, start + max(1, pairsPerPass))]
      let batch = PassBatch(group.flatMap { [kept[$0].chosen, kept[$0].rejected] })
      let output = try engine.forward(batch)
      var ranges = batch.rowRanges[...]
      for index in group {
        let (chosen, rejected) = (ranges.removeFirst(), ranges.removeFirst())
        fill(&kept[index], chosen: chosen, rejected: rejected, output: output, experts: engine.headRows)
        guard objective.usesBias, let maximumBias else { continue }
        let bias = self.bias(of: kept[index], chosen, rejected, output, engine.headRows, objective)
        isKept[index] = abs(bias) <= maximumBias
      }
      progress(start + group.count)
    }
    report.bias = isKept.count { !$0 }
    let result = zip(kept, isKept).filter(\.1).map(\.0)
    report.kept = result.count
    return (result, report)
  }

  private func longest(_ pair: PreferencePair) -> Int { max(pair.chosen.inputCount, pair.rejected.inputCount) }

  private func differ(_ pair: PreferencePair, by ratio: Double) -> Bool {
    let (a, b) = (Double(pair.lengths.chosen), Double(pair.lengths.rejected))
    return max(a, b) > ratio * min(a, b)
  }

  private func fill(
    _ pair: inout PreferencePair, chosen: Range<Int>, rejected: Range<Int>, output: PassOutput, experts: Int
  ) {
    pair.chosenReference = chosen.reduce(0) { $0 + Double(output.logProbabilities[$1]) }
    pair.rejectedReference = rejected.reduce(0) { $0 + Double(output.logProbabilities[$1]) }
    guard experts > 0 else { return }
    pair.initialSelection = (Array(chosen) + Array(rejected)).map { row in
      UInt16(indexOfLargest(output.head[row * experts..<(row + 1) * experts]))
    }
  }

  private func bias(
    of pair: PreferencePair, _ chosen: Range<Int>, _ rejected: Range<Int>, _ output: PassOutput, _ experts: Int,
    _ objective: TrainingObjective
  ) -> Double {
    objective.preference.bias(
      chosen: pair.chosenOpinions,
      chosenRouting: output.head[chosen.lowerBound * experts..<chosen.upperBound * experts],
      rejected: pair.rejectedOpinions,
      rejectedRouting: output.head[rejected.lowerBound * experts..<rejected.upperBound * experts], experts: experts,
      clamp: objective.routing?.clamp)
  }
}

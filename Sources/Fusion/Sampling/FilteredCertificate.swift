internal import Core

/// Decides a position with top-k, top-p or min-p from the returned tokens alone, where that is certain.
///
/// Ranks, masses and the normaliser over the returned tokens bound those over all tokens from both sides: what was not
/// returned adds at most exp of its bound. A token is chosen if it certainly passes the filters, scores above every
/// returned token that might pass them, and above the bound of all that was not returned.
struct FilteredCertificate {
  /// Relative margin for sums of exponentials, far above their rounding error and far below what matters.
  private static let margin = 1e-9

  private let scorer: StepScorer
  private let returned: ReturnedLogits
  private let scores: ReturnedScores
  private let finalBound: Float
  private let cleanBound: Float
  /// Indices of the returned tokens by clean score, then id.
  private let order: [Int]
  /// Mass of the returned tokens ranked before each, relative to the best.
  private var before: [Double] = []
  /// Mass of the returned tokens that top-k may keep.
  private var returnedMass = 0.0

  private var filters: TokenFilters { scorer.filters }

  init(
    _ scorer: StepScorer, _ returned: ReturnedLogits, _ scores: ReturnedScores, finalBound: Float, cleanBound: Float
  ) {
    self.scorer = scorer
    self.returned = returned
    self.scores = scores
    self.finalBound = finalBound
    self.cleanBound = cleanBound
    let clean = scores.clean
    order = clean.indices.sorted { clean[$0] > clean[$1] || (clean[$0] == clean[$1] && $0 < $1) }
    if scorer.filters.topP != nil, let first = order.first, clean[first].isFinite {
      let masses = scorer.filters.masses(order.map { clean[$0] }, reference: clean[first])
      before.reserveCapacity(masses.count)
      for (rank, mass) in masses.enumerated() {
        before.append(returnedMass)
        if rank < scorer.filters.topK ?? .max { returnedMass += mass }
      }
    }
  }

  /// The token, or nil if the returned tokens do not decide.
  func token() -> Token? {
    guard let first = order.first, scores.clean[first].isFinite else { return nil }
    let best = scores.clean[first]
    var normaliser = Double.infinity
    while true {
      guard let rank = bestRank(best: best, normaliser: normaliser), scores.final[order[rank]] > finalBound else {
        return nil
      }
      if certainlyPasses(rank, best: best) { return scores.tokens[order[rank]] }
      // Only top-p depends on the normaliser: with its upper bound known, some tokens fall out.
      guard filters.topP != nil, normaliser == .infinity else { return nil }
      normaliser = (returnedMass + outsideMass(best: best)) * (1 + Self.margin)
      guard normaliser < .infinity else { return nil }
    }
  }

  /// Rank of the best final score among the returned tokens that may pass the filters.
  private func bestRank(best: Float, normaliser: Double) -> Int? {
    let threshold = filters.threshold(best: best)
    var found: Int?
    for (rank, index) in order.enumerated() {
      // All three filters keep a prefix of the ranking.
      if rank >= filters.topK ?? .max || Double(scores.clean[index]) < threshold { break }
      if let topP = filters.topP, before[rank] >= topP * normaliser * (1 + Self.margin) { break }
      guard let leader = found.map({ order[$0] }) else {
        found = rank
        continue
      }
      let (mine, its) = (scores.final[index], scores.final[leader])
      if mine > its || (mine == its && index < leader) { found = rank }
    }
    return found
  }

  private func certainlyPasses(_ rank: Int, best: Float) -> Bool {
    let score = scores.clean[order[rank]]
    // Tokens not returned that may rank before it.
    var ahead = RowKernels.ExpSums(total: 0, atLeast: 0, countAtLeast: 0)
    if score <= cleanBound { ahead = outside(best: best, threshold: Double(score)) }
    if let topK = filters.topK, rank + ahead.countAtLeast >= topK { return false }
    if let topP = filters.topP {
      let most = before[rank] + ahead.atLeast * (1 + Self.margin)
      guard most < topP * returnedMass * (1 - Self.margin) else { return false }
    }
    return Double(score) >= filters.threshold(best: max(best, cleanBound))
  }

  /// The most that tokens not returned can add to the normaliser.
  private func outsideMass(best: Float) -> Double {
    let total = outside(best: best, threshold: .infinity).total
    guard let topK = filters.topK, let largest = filters.masses([cleanBound], reference: best).first else {
      return total
    }
    return min(total, Double(topK) * largest)
  }

  /// Sums over the tokens not returned, each with the largest clean score it may have.
  private func outside(best: Float, threshold: Double) -> RowKernels.ExpSums {
    var sums = RowKernels.ExpSums(total: 0, atLeast: 0, countAtLeast: 0)
    let row = scorer.clean.buffer
    returned.forEachGap(vocabulary: scorer.vocabulary) { gap in
      let part = RowKernels.best.expSums(
        UnsafeBufferPointer(rebasing: row[gap]), offset: returned.floor, reference: best,
        inverseTemperature: filters.inverseTemperature, threshold: threshold)
      sums.total += part.total
      sums.atLeast += part.atLeast
      sums.countAtLeast += part.countAtLeast
    }
    return sums
  }
}

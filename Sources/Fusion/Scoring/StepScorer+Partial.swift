internal import Core

extension StepScorer {
  /// The token that the full row gives, if the partial row decides it, else what to ask for.
  ///
  /// The row must name at least the repetition window (see `candidates`).
  /// - Throws: `.contradictoryRow` if the row contradicts itself (a faulty worker), `.badInput` if it lacks a token of the
  ///   repetition window, or if a score overflows.
  public func decide(_ row: PartialRow) throws -> Verdict {
    let returned = try ReturnedLogits(row, vocabulary: vocabulary)
    for penalised in window where !returned.contains(penalised.token) {
      throw FusionRouteError.badInput(
        "the expert's partial row lacks token \(penalised.token), which the repetition penalty needs by name")
    }
    let scores = ReturnedScores(self, returned)
    let bound = bound(noisy, returned, ranking: ranking)
    let token =
      filters.isEmpty
      ? scores.best(above: bound)
      : FilteredCertificate(self, returned, scores, finalBound: bound, cleanBound: self.bound(clean, returned)).token()
    guard let token, let index = returned.index(of: token) else {
      return CertificationLadder.after(topK: row.topIDs.count, vocabulary: vocabulary)
    }
    guard scores.final[index].isFinite else { throw Self.overflow }
    return .chosen(choice(token, expert: returned.logits[index]))
  }

  /// max over the tokens that were not returned of fl(row + floor), −∞ if there is none.
  private func bound(
    _ row: LogitsRow, _ returned: ReturnedLogits, ranking: (ids: [Token], values: [Float])? = nil
  ) -> Float {
    if returned.tokens.count == vocabulary { return -.infinity }
    if let ranking, let first = ranking.ids.indices.first(where: { !returned.contains(ranking.ids[$0]) }) {
      return ranking.values[first] + returned.floor
    }
    var best = -Float.infinity
    returned.forEachGap(vocabulary: vocabulary) { gap in
      best = max(best, RowKernels.best.maximum(UnsafeBufferPointer(rebasing: row.buffer[gap])))
    }
    return best + returned.floor
  }
}

/// Clean and final scores of the returned tokens, in their order.
struct ReturnedScores {
  let tokens: [Token]
  private(set) var clean: [Float]
  private(set) var final: [Float]

  init(_ scorer: StepScorer, _ returned: ReturnedLogits) {
    tokens = returned.tokens
    let (cleanRow, noisyRow) = (scorer.clean.buffer, scorer.noisy.buffer)
    clean = [Float](repeating: 0, count: tokens.count)
    final = clean
    for i in tokens.indices {
      let (token, e) = (Int(tokens[i]), returned.logits[i])
      clean[i] = cleanRow[token] + e
      final[i] = noisyRow[token] + e
    }
    for penalised in scorer.window {
      guard let i = returned.index(of: penalised.token) else { continue }
      (clean[i], final[i]) = scorer.score(penalised, expert: returned.logits[i])
    }
  }

  /// The token with the largest final score, the lowest id on ties, if that is above `bound`.
  func best(above bound: Float) -> Token? {
    var best: Int?
    for i in tokens.indices where best.map({ final[i] > final[$0] }) ?? true { best = i }
    guard let best, final[best] > bound else { return nil }
    return tokens[best]
  }
}

public import Core

extension StepScorer {
  /// The token that the whole row of the expert gives.
  /// - Throws: `FusionRouteError.badInput` if the row is shorter than the vocabulary, has NaN or +∞, or leaves no token.
  public func decide(full row: LogitsRow) throws -> Choice {
    let expert = try row.prefix(vocabulary, of: "the expert's row")
    if window.isEmpty && filters.isEmpty {
      let scores = try noisy.prefix(vocabulary, of: "the router's row")
      guard let best = RowKernels.best.addArgmax(scores, expert) else { throw expert.fault(in: "the expert's row") }
      try checkBest(best.value, expert: expert)
      return choice(Token(best.index), expert: expert[best.index])
    }
    guard expert.isUsable else { throw expert.fault(in: "the expert's row") }
    let final = try sum(noisy, expert) { score($0, expert: expert[Int($0.token)]).final }
    let cleanScores =
      filters.isEmpty ? final : try sum(clean, expert) { score($0, expert: expert[Int($0.token)]).clean }
    let token = try decide(final: final, clean: cleanScores, expert: expert)
    return choice(token, expert: expert[Int(token)])
  }

  /// The token in router mode, without any expert.
  /// - Throws: `FusionRouteError.badInput` if no token is left.
  public func decideWithoutExpert() throws -> Choice {
    if window.isEmpty && filters.isEmpty {
      try checkBest(ranking.values[0], expert: nil)
      return choice(ranking.ids[0], expert: nil)
    }
    let final = try sum(noisy, nil) { score($0, expert: 0).final }
    let cleanScores = filters.isEmpty ? final : try sum(clean, nil) { score($0, expert: 0).clean }
    return choice(try decide(final: final, clean: cleanScores, expert: nil), expert: nil)
  }

  private func decide(final: LogitsRow, clean: LogitsRow, expert: UnsafeBufferPointer<Float>?) throws -> Token {
    let scores = try final.prefix(vocabulary, of: "the scores")
    if filters.isEmpty {
      guard let best = RowKernels.best.topK(scores, 1) else { throw Self.overflow }
      try checkBest(best.values[0], expert: expert)
      return best.ids[0]
    }
    let cleanScores = try clean.prefix(vocabulary, of: "the scores")
    try checkBest(RowKernels.best.maximum(cleanScores), expert: expert)
    let cut = try cut(cleanScores)
    guard let best = RowKernels.best.argmax(scores, within: cleanScores, cut: cut.score, cutIndex: cut.index) else {
      throw Self.nothingLeft
    }
    try checkBest(scores[best], expert: expert)
    return Token(best)
  }

  /// The last token, in order of clean score, then id, that the filters keep.
  private func cut(_ scores: UnsafeBufferPointer<Float>) throws -> (score: Float, index: Int) {
    let threshold = filters.threshold(best: RowKernels.best.maximum(scores))
    if filters.topK == nil && filters.topP == nil {
      // The least float32 at or above the threshold.
      let rounded = Float(threshold)
      return (Double(rounded) < threshold ? rounded.nextUp : rounded, .max)
    }
    // Ever longer prefixes of the ranking, until the filters end within one.
    var sizes = [256, 4_096, vocabulary]
    if let topK = filters.topK { sizes = [topK] }
    var normaliser: Double?
    for size in sizes where size <= vocabulary {
      guard let top = RowKernels.best.topK(scores, size) else { throw Self.overflow }
      var masses: [Double] = []
      if filters.topP != nil {
        masses = filters.masses(top.values, reference: top.values[0])
        if normaliser == nil {
          normaliser =
            filters.topK != nil
            ? masses.reduce(0, +)
            : RowKernels.best.expSums(
              scores, reference: top.values[0], inverseTemperature: filters.inverseTemperature
            ).total
        }
      }
      let limit = (filters.topP ?? 1) * (normaliser ?? 1)
      var before = 0.0
      for i in top.ids.indices {
        let ends = Double(top.values[i]) < threshold || (filters.topP != nil && before >= limit)
        if ends && i > 0 { return (top.values[i - 1], Int(top.ids[i - 1])) }
        if filters.topP != nil { before += masses[i] }
      }
      if filters.topK != nil || size == vocabulary { return (top.values[size - 1], Int(top.ids[size - 1])) }
    }
    return (-.infinity, .max)
  }

  /// fl(row + expert) with the tokens of the repetition window replaced.
  private func sum(
    _ row: LogitsRow, _ expert: UnsafeBufferPointer<Float>?, replacing score: (PenalisedToken) -> Float
  ) throws -> LogitsRow {
    let own = try row.prefix(vocabulary, of: "the router's row")
    if expert == nil && window.isEmpty { return row }
    return LogitsRow(count: vocabulary) { out in
      if let expert { RowKernels.best.add(own, expert, into: out) } else { _ = out.update(from: own) }
      for penalised in window { out[Int(penalised.token)] = score(penalised) }
    }
  }

  /// Throws unless the best score is a finite number.
  func checkBest(_ value: Float, expert: UnsafeBufferPointer<Float>?) throws {
    if value.isFinite { return }
    if let expert, !expert.isUsable { throw expert.fault(in: "the expert's row") }
    throw value == -.infinity ? Self.nothingLeft : Self.overflow
  }

  static var nothingLeft: FusionRouteError {
    .badInput("no token can be chosen: every token's score is minus infinity (logits, logit_bias and bans together)")
  }

  static var overflow: FusionRouteError {
    .badInput("a token's score overflows float32: the logits or logit_bias are too large")
  }
}

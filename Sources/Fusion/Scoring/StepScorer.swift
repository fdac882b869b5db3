public import Core

/// Scores one position on the coordinator's side and decides its token, from a partial or a full row of the expert.
///
/// For a token v with router logit r, expert logit e and Gumbel noise g, every operation rounded to float32 (fl):
///
///     b = fl(c·r) + bias − penalties         before the expert is known
///     s = fl(fl(c·r) + fl(T·g)) + bias − penalties
///     clean score q = fl(b + e)              what top-k, top-p and min-p look at, divided by T
///     final score   = fl(s + e)              the largest wins, the lowest id on ties
///
/// `penalties` is fl(presence + fl(frequency·count)) for generated tokens. A repetition penalty is not additive: tokens in
/// its window have q = pen(fl(fl(fl(c·r) + e) + bias)) − penalties and the final score fl(q + fl(T·g)). Adding is monotone
/// even rounded, so that a token not returned, whose e is at most the floor f, scores at most fl(s + f).
///
/// With T > 0 the argmax draws from softmax(q / T), cut by top-k, top-p (of what top-k left) and min-p (relative to the
/// best), which all keep a prefix of the tokens ranked by q, then id.
public struct StepScorer: Sendable {
  let vocabulary: Int
  let parameters: SamplingParameters
  let filters: TokenFilters
  private let router: LogitsRow?
  private let scale: Float
  /// b and s of every token, [vocabulary]; the same row at T = 0.
  let clean: LogitsRow
  let noisy: LogitsRow
  /// Tokens whose score is not additive, ascending.
  let window: [PenalisedToken]
  /// The best tokens by s, one more than is usually named.
  let ranking: (ids: [Token], values: [Float])

  /// - Parameters:
  ///   - router: r, at least [vocabulary]; nil where the expert alone decides.
  ///   - complementScale: c, finite and not negative; 1 in router mode.
  ///   - outputIndex: how many tokens this choice has generated before.
  ///   - banned: tokens that must not be chosen.
  /// - Throws: `FusionRouteError.badInput` for parameters out of range, tokens outside the vocabulary, and a router row that
  ///   is short or has NaN or +∞.
  public init(
    router: LogitsRow?, complementScale: Float, parameters: SamplingParameters, history: History, outputIndex: Int,
    choice: Int, vocabulary: Int, banned: [Token] = []
  ) throws {
    guard vocabulary > 0 else { throw FusionRouteError.badInput("the vocabulary is empty") }
    guard complementScale >= 0, complementScale < .infinity else {
      throw FusionRouteError.badInput("the complement scale is \(complementScale): it must be finite and not negative")
    }
    try parameters.validated(vocabularySize: vocabulary)
    self.vocabulary = vocabulary
    self.parameters = parameters
    self.router = router
    scale = complementScale
    filters = TokenFilters(parameters, vocabulary: vocabulary)

    let additive = try Adjustments(parameters, history: history, banned: banned, vocabulary: vocabulary)
    let base = try Self.scaled(router, by: complementScale, vocabulary: vocabulary)
    clean = additive.applied(to: base, vocabulary: vocabulary)
    let key = NoiseKey(seed: parameters.seed, choice: choice, outputIndex: outputIndex)
    let temperature = Double(parameters.temperature)
    if temperature > 0 {
      let row = try base.prefix(vocabulary, of: "the router's row")
      // Nothing else may hold `base`, and `row` points into it.
      noisy = withExtendedLifetime(base) {
        LogitsRow(count: vocabulary) { out in
          RowKernels.best.addNoise(row, temperature: temperature, key: key, into: out)
          additive.apply(to: out)
        }
      }
    } else {
      noisy = clean
    }
    window =
      parameters.repetitionPenalty == 1
      ? []
      : history.window.map { PenalisedToken($0, adjustments: additive, temperature: temperature, key: key) }

    let scores = try noisy.prefix(vocabulary, of: "the router's row")
    guard let top = RowKernels.best.topK(scores, CertificationLadder.firstCandidates + 1) else {
      if let row = try router?.prefix(vocabulary, of: "the router's row"), !row.isUsable {
        throw row.fault(in: "the router's row")
      }
      throw Self.overflow
    }
    ranking = top
  }

  /// What to name to the worker, ascending: the best `limit` tokens by s, and all that the repetition penalty looks at.
  /// With top-p also half as many of the best by b: the mass ahead of a token is bounded by what clean scores are left.
  public func candidates(limit: Int = CertificationLadder.firstCandidates) -> [Token] {
    var named =
      limit < ranking.ids.count || ranking.ids.count == vocabulary
      ? Self.best(limit, of: ranking) : best(limit, of: noisy)
    if window.isEmpty && filters.topP == nil {
      named.sort()
      return named
    }
    var all = Set(named).union(window.map(\.token))
    if filters.topP != nil { all.formUnion(best(limit / 2, of: clean)) }
    return all.sorted()
  }

  private func best(_ limit: Int, of row: LogitsRow) -> [Token] {
    let scores = UnsafeBufferPointer(rebasing: row.buffer[0..<vocabulary])
    return RowKernels.best.topK(scores, limit + 1).map { Self.best(limit, of: $0) } ?? []
  }

  /// The first `limit`, without those that tie with the next: naming some of a tie would not lower the bound.
  private static func best(_ limit: Int, of ranking: (ids: [Token], values: [Float])) -> [Token] {
    let outside = limit < ranking.values.count ? ranking.values[max(0, limit)] : -.infinity
    return zip(ranking.ids, ranking.values).prefix(max(0, limit)).filter { $0.1 > outside }.map(\.0)
  }

  // MARK: Scores of single tokens

  /// fl(c·r), 0 without a router.
  func scaledRouterLogit(_ token: Token) -> Float {
    guard let router else { return 0 }
    let r = router[token]
    return r == -.infinity ? r : scale * r
  }

  func choice(_ token: Token, expert: Float?) -> Choice {
    let score: Float =
      switch (router, expert) {
      case (nil, let e): e ?? 0
      case (_, nil): scaledRouterLogit(token)
      case (_, let e?): scaledRouterLogit(token) + e
      }
    return Choice(token: token, score: score, routerLogit: router?[token], expertLogit: expert)
  }

  /// Clean and final score of a token in the repetition window.
  func score(_ penalised: PenalisedToken, expert: Float) -> (clean: Float, final: Float) {
    penalised.score(scaledRouterLogit(penalised.token) + expert, penalty: parameters.repetitionPenalty)
  }

  private static func scaled(_ router: LogitsRow?, by scale: Float, vocabulary: Int) throws -> LogitsRow {
    // A new row is all zeros, and 0 + e is e.
    guard let router else { return LogitsRow(count: vocabulary) { _ in } }
    let row = try router.prefix(vocabulary, of: "the router's row")
    if scale == 1 { return router }
    var finite = true
    let scaled = LogitsRow(count: vocabulary) { out in finite = RowKernels.best.scale(row, by: scale, into: out) }
    if !finite {
      if !row.isUsable { throw row.fault(in: "the router's row") }
      throw FusionRouteError.badInput("the complement scale \(scale) makes a router logit overflow")
    }
    return scaled
  }
}

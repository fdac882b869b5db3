internal import Core

/// What is added to the scores of single tokens: logit bias, then presence and frequency penalties; banned tokens get −∞.
struct Adjustments {
  private let bias: [Token: Float]
  private let penalties: [Token: Float]
  /// Ascending: a grammar may ban nearly the whole vocabulary.
  private let banned: [Token]

  /// Throws `FusionRouteError.badInput` for a token outside the vocabulary.
  init(_ parameters: SamplingParameters, history: History, banned: [Token], vocabulary: Int) throws {
    func check(_ token: Token, _ what: String) throws {
      guard token >= 0, Int(token) < vocabulary else {
        throw FusionRouteError.badInput("\(what) has token \(token), outside the vocabulary of \(vocabulary)")
      }
    }
    self.banned = zip(banned, banned.dropFirst()).allSatisfy(<) ? banned : Set(banned).sorted()
    for end in [self.banned.first, self.banned.last] { if let end { try check(end, "the list of banned tokens") } }
    bias = parameters.logitBias
    var penalties: [Token: Float] = [:]
    if parameters.presencePenalty != 0 || parameters.frequencyPenalty != 0 {
      for (token, count) in history.counts {
        try check(token, "the generated text")
        penalties[token] = parameters.presencePenalty + parameters.frequencyPenalty * Float(count)
      }
    }
    self.penalties = penalties
    if parameters.repetitionPenalty != 1 {
      for token in history.window { try check(token, "the text") }
    }
  }

  func bias(of token: Token) -> Float? { isBanned(token) ? -.infinity : bias[token] }
  func penalty(of token: Token) -> Float? { penalties[token] }

  func apply(to row: UnsafeMutableBufferPointer<Float>) {
    for (token, value) in bias { row[Int(token)] += value }
    for (token, value) in penalties { row[Int(token)] -= value }
    for token in banned { row[Int(token)] = -.infinity }
  }

  private func isBanned(_ token: Token) -> Bool {
    var (low, high) = (0, banned.count)
    while low < high {
      let middle = (low + high) / 2
      if banned[middle] < token { low = middle + 1 } else { high = middle }
    }
    return low < banned.count && banned[low] == token
  }

  /// `row` itself if there is nothing to add.
  func applied(to row: LogitsRow, vocabulary: Int) -> LogitsRow {
    if bias.isEmpty && penalties.isEmpty && banned.isEmpty { return row }
    return LogitsRow(count: vocabulary) { out in
      _ = out.update(from: row.buffer.prefix(vocabulary))
      apply(to: out)
    }
  }
}

/// A token in the window of a repetition penalty.
struct PenalisedToken: Sendable {
  let token: Token
  private let bias: Float?
  private let penalty: Float?
  /// fl(T·g), nil at T = 0.
  private let noise: Float?

  init(_ token: Token, adjustments: Adjustments, temperature: Double, key: NoiseKey) {
    self.token = token
    bias = adjustments.bias(of: token)
    penalty = adjustments.penalty(of: token)
    noise =
      temperature > 0
      ? withUnsafeTemporaryAllocation(of: Float.self, capacity: 1) { cell in
        cell.initialize(repeating: 0)
        RowKernels.best.addNoise(
          UnsafeBufferPointer(cell), temperature: temperature, key: key, first: Int(token), into: cell)
        return cell[0]
      } : nil
  }

  /// From `raw` = fl(fl(c·r) + e).
  func score(_ raw: Float, penalty repetition: Float) -> (clean: Float, final: Float) {
    var q = raw
    if let bias { q += bias }
    q = q > 0 ? q / repetition : q * repetition
    if let penalty { q -= penalty }
    return (q, noise.map { q + $0 } ?? q)
  }
}

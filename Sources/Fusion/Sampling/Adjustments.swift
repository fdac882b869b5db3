internal import Core

/// What is added to the scores of single tokens: logit bias, then presence and frequency penalties.
struct Adjustments {
  private let bias: [Token: Float]
  private let penalties: [Token: Float]

  /// Throws `FusionRouteError.badInput` for a token outside the vocabulary.
  init(_ parameters: SamplingParameters, history: History, banned: [Token], vocabulary: Int) throws {
    func check(_ token: Token, _ what: String) throws {
      guard token >= 0, Int(token) < vocabulary else {
        throw FusionRouteError.badInput("\(what) has token \(token), outside the vocabulary of \(vocabulary)")
      }
    }
    var bias = parameters.logitBias
    for token in banned {
      try check(token, "the list of banned tokens")
      bias[token] = -.infinity
    }
    self.bias = bias
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

  func bias(of token: Token) -> Float? { bias[token] }
  func penalty(of token: Token) -> Float? { penalties[token] }

  func apply(to row: UnsafeMutableBufferPointer<Float>) {
    for (token, value) in bias { row[Int(token)] += value }
    for (token, value) in penalties { row[Int(token)] -= value }
  }

  /// `row` itself if there is nothing to add.
  func applied(to row: LogitsRow, vocabulary: Int) -> LogitsRow {
    if bias.isEmpty && penalties.isEmpty { return row }
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

public import Core

/// Log-probabilities of softmax(c·r + e), or of the one row there is: without temperature, bias and penalties.
public struct LogProbabilities: Sendable, Equatable {
  /// Of the token that was asked for.
  public var chosen: Float
  /// The most probable tokens, by descending probability, then ascending id.
  public var top: [(token: Token, logProbability: Float)] { zip(topIDs, topValues).map { ($0, $1) } }
  private var topIDs: [Token]
  private var topValues: [Float]

  /// - Parameters:
  ///   - router: r, nil where the expert alone decides.
  ///   - expert: e, nil in router mode.
  ///   - top: how many of the most probable tokens to list.
  /// - Throws: `FusionRouteError.badInput` if a row is short or has NaN or +∞, or `chosen` is outside the vocabulary.
  public init(
    router: LogitsRow?, complementScale: Float, expert: LogitsRow?, chosen token: Token, top count: Int, vocabulary: Int
  ) throws {
    guard token >= 0, Int(token) < vocabulary else {
      throw FusionRouteError.badInput("token \(token) is outside the vocabulary of \(vocabulary)")
    }
    let r = try router?.prefix(vocabulary, of: "the router's row")
    let e = try expert?.prefix(vocabulary, of: "the expert's row")
    let kernels = RowKernels.best
    let fused = LogitsRow(count: vocabulary) { out in
      if let r { _ = kernels.scale(r, by: complementScale, into: out) }
      if let e { kernels.add(UnsafeBufferPointer(out), e, into: out) }
    }
    guard let best = kernels.topK(fused.buffer, count) else { throw fused.buffer.fault(in: "the fused row") }
    let sum = kernels.logSumExp(fused.buffer)
    guard sum.isFinite else { throw StepScorer.nothingLeft }
    chosen = Float(Double(fused[token]) - sum)
    topIDs = best.ids
    topValues = best.values.map { Float(Double($0) - sum) }
  }
}

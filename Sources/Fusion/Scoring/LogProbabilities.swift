public import Core

/// Log-probabilities of softmax(c·r + e), or of the one row there is: without temperature, bias and penalties.
public struct LogProbabilities: Sendable, Equatable {
  /// A token with its probability and what it comes from.
  public struct Entry: Sendable, Equatable {
    public var token: Token
    /// Natural logarithm.
    public var logProbability: Float
    /// r and e of the token; nil for a row that was not given.
    public var routerLogit: Float?
    public var expertLogit: Float?
  }

  /// The token that was asked for.
  public var chosen: Entry
  /// The most probable tokens, by descending probability, then ascending id.
  public var top: [Entry]

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
    func entry(_ token: Token) -> Entry {
      Entry(
        token: token, logProbability: Float(Double(fused[token]) - sum), routerLogit: router?[token],
        expertLogit: expert?[token])
    }
    chosen = entry(token)
    top = best.ids.map(entry)
  }
}

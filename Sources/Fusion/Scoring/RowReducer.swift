public import Core

/// The worker's side of certified top-k: from a row of logits to the few that decide.
public enum RowReducer {
  /// - Parameters:
  ///   - row: the expert's logits; those at or above `vocabulary` are cut.
  ///   - topK: how many of the largest to return.
  ///   - named: tokens whose logits are returned in any case, ascending.
  ///   - logSumExp: also return log Σ exp of the row.
  /// - Throws: `FusionRouteError.badInput` if the row is shorter than `vocabulary` or has NaN or +∞ (−∞ is allowed), or
  ///   if `named` is not ascending within the vocabulary.
  public static func reduce(
    _ row: LogitsRow, vocabulary: Int, topK: Int, named: [Token], logSumExp: Bool
  ) throws -> PartialRow {
    let logits = try row.prefix(vocabulary, of: "the expert's row")
    guard topK >= 0 else { throw FusionRouteError.badInput("top_k is \(topK): it must be 0 or more") }
    try TokenList.check(named, vocabulary: vocabulary, called: "the named tokens")
    let kept = min(topK, vocabulary)
    // One more than is returned: the largest that is not returned is the tightest floor.
    guard let top = RowKernels.best.topK(logits, kept + 1) else {
      throw logits.fault(in: "the expert's row")
    }
    return PartialRow(
      topIDs: Array(top.ids.prefix(kept)), topLogits: Array(top.values.prefix(kept)),
      floor: top.values.count > kept ? top.values[kept] : -.infinity,
      namedIDs: named, namedLogits: named.map { logits[Int($0)] },
      logSumExp: logSumExp ? Float(RowKernels.best.logSumExp(logits)) : nil)
  }
}

extension LogitsRow {
  /// The first `vocabulary` logits.
  func prefix(_ vocabulary: Int, of name: String) throws -> UnsafeBufferPointer<Float> {
    guard vocabulary > 0, count >= vocabulary else {
      throw FusionRouteError.badInput(
        "\(name) has \(count) logits for a vocabulary of \(vocabulary): router and experts must share it")
    }
    return UnsafeBufferPointer(rebasing: buffer[0..<vocabulary])
  }
}

extension UnsafeBufferPointer<Float> {
  /// Whether no logit is NaN or +∞.
  var isUsable: Bool { RowKernels.best.topK(self, 0) != nil }

  /// Names the first logit that is NaN or +∞.
  func fault(in name: String) -> FusionRouteError {
    let index = firstIndex { !($0 < .infinity) }
    let value = index.map { self[$0].isNaN ? "NaN" : "+infinity" } ?? "NaN or +infinity"
    return .badInput(
      "\(name) has \(value) as the logit of token \(index ?? 0): the model's weights or its computation are broken")
  }
}

enum TokenList {
  /// Throws unless `tokens` are strictly ascending ids below `vocabulary`.
  static func check(_ tokens: [Token], vocabulary: Int, called name: String) throws {
    var previous: Token = -1
    for token in tokens {
      guard token > previous, Int(token) < vocabulary else {
        throw FusionRouteError.badInput(
          "\(name) have id \(token) after \(previous): they must ascend within the vocabulary of \(vocabulary)")
      }
      previous = token
    }
  }
}

public import Core

/// How a partial row disagrees with the full row that it claims to summarise.
public enum AuditFinding: Sendable, Equatable, CustomStringConvertible {
  /// A logit outside the returned top is above the floor.
  case understatedFloor(floor: Float, token: Token, logit: Float)
  /// A returned logit differs from the row's, bit for bit.
  case wrongLogit(token: Token, returned: Float, actual: Float)
  /// The returned top is not the row's: ids out of range or repeated, out of order, or too many.
  case malformedTop(String)
  case wrongLogSumExp(returned: Float, actual: Float)

  public var description: String {
    switch self {
    case .understatedFloor(let floor, let token, let logit):
      "the floor \(floor) is below the logit \(logit) of token \(token), which was not returned"
    case .wrongLogit(let token, let returned, let actual):
      "token \(token) was returned with logit \(returned), the full row has \(actual)"
    case .malformedTop(let why): why
    case .wrongLogSumExp(let returned, let actual):
      "log-sum-exp was returned as \(returned), the full row has \(actual)"
    }
  }
}

/// Compares what a worker returned with its full row, which the certificate alone cannot.
public enum RowAudit {
  /// The first disagreement, nil if there is none. Values compare bit for bit: a replica is asked for both rows in the
  /// same step. A floor above the truth is harmless and no finding.
  /// - Throws: `FusionRouteError.badInput` if the full row is shorter than `vocabulary` or has NaN or +∞.
  public static func check(partial: PartialRow, full: LogitsRow, vocabulary: Int) throws -> AuditFinding? {
    let logits = try full.prefix(vocabulary, of: "the full row")
    if let finding = malformed(partial, vocabulary: vocabulary) { return finding }
    for (ids, values) in [(partial.topIDs, partial.topLogits), (partial.namedIDs, partial.namedLogits)] {
      for (token, value) in zip(ids, values) where value.bitPattern != logits[Int(token)].bitPattern {
        return .wrongLogit(token: token, returned: value, actual: logits[Int(token)])
      }
    }
    guard let top = RowKernels.best.topK(logits, min(vocabulary, partial.topIDs.count + 1)) else {
      throw logits.fault(in: "the full row")
    }
    let returned = Set(partial.topIDs)
    // The best logit that was not returned is among the first count + 1.
    if let outside = top.ids.indices.first(where: { !returned.contains(top.ids[$0]) }),
      top.values[outside] > partial.floor
    {
      return .understatedFloor(floor: partial.floor, token: top.ids[outside], logit: top.values[outside])
    }
    if let sum = partial.logSumExp {
      let actual = Float(RowKernels.best.logSumExp(logits))
      if sum.bitPattern != actual.bitPattern { return .wrongLogSumExp(returned: sum, actual: actual) }
    }
    return nil
  }

  private static func malformed(_ partial: PartialRow, vocabulary: Int) -> AuditFinding? {
    do {
      _ = try ReturnedLogits(partial, vocabulary: vocabulary)
      return nil
    } catch let error as FusionRouteError {
      return .malformedTop(error.message)
    } catch {
      return .malformedTop("\(error)")
    }
  }
}

public import Core

/// What a worker returns of one row instead of all of it.
public struct PartialRow: Sendable, Equatable {
  /// The k largest logits' tokens, by descending logit, then ascending id.
  public var topIDs: [Token]
  public var topLogits: [Float]
  /// Every logit whose token is not in `topIDs` is at most this; −∞ if there is none.
  public var floor: Float
  /// The tokens that were asked for by name, ascending, and their logits.
  public var namedIDs: [Token]
  public var namedLogits: [Float]
  /// log Σ exp over the whole row, if asked for.
  public var logSumExp: Float?

  public init(
    topIDs: [Token], topLogits: [Float], floor: Float, namedIDs: [Token] = [], namedLogits: [Float] = [],
    logSumExp: Float? = nil
  ) {
    self.topIDs = topIDs
    self.topLogits = topLogits
    self.floor = floor
    self.namedIDs = namedIDs
    self.namedLogits = namedLogits
    self.logSumExp = logSumExp
  }

  /// Bytes of its values, asking and answering: 4 per id, 4 per logit, without the message around them.
  public var payloadBytes: Int {
    8 * topIDs.count + 8 * namedIDs.count + 4 + (logSumExp == nil ? 0 : 4)
  }

  /// Bytes of a full row.
  public static func fullRowBytes(vocabulary: Int) -> Int { 4 * vocabulary }
}

extension FusionRouteError.Code {
  /// A worker's row contradicts itself: the worker is faulty, the request is not.
  public static let contradictoryRow = Self(rawValue: "contradictory-row")
}

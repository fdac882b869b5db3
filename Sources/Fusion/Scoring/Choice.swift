public import Core

/// The token of one position.
public struct Choice: Sendable, Equatable {
  public var token: Token
  /// Its score in the mode, without noise, bias and penalties: fl(fl(c·r) + e), e or r.
  public var score: Float
  public var routerLogit: Float?
  public var expertLogit: Float?

  public init(token: Token, score: Float, routerLogit: Float?, expertLogit: Float?) {
    self.token = token
    self.score = score
    self.routerLogit = routerLogit
    self.expertLogit = expertLogit
  }
}

/// What a partial row decides.
public enum Verdict: Sendable, Equatable {
  /// The token that the full row gives, for certain.
  case chosen(Choice)
  /// Undecided: ask for `topK` logits and for as many named candidates.
  case needs(topK: Int)
  /// Undecided: ask for the whole row.
  case needsFullRow
}

/// How much of a row is asked for, step by step.
public enum CertificationLadder {
  /// Sizes of top-k asked for one after the other; after the last comes the full row.
  public static let topK = [32, 256, 2_048]
  /// Candidates named at the first step. At a later one as many as its top-k.
  public static let firstCandidates = 32

  /// What to ask for when `topK` logits did not decide. A step that would cost as much as the full row is left out.
  static func after(topK current: Int, vocabulary: Int) -> Verdict {
    guard let next = topK.first(where: { $0 > current }), 4 * next < vocabulary else { return .needsFullRow }
    return .needs(topK: next)
  }
}

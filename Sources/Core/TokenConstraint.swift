/// Which tokens may come next; a value that grows with the accepted tokens.
///
/// The decoder first takes the best token of all and asks ``allows(_:)`` for it alone: if it is allowed it is also the
/// best of the allowed ones. Only if not, the forbidden ones are masked and the position is decided again. Under top-k,
/// top-p or min-p they are masked from the start, since what these keep depends on every token. Either way the token is
/// drawn from the distribution over the allowed ones.
///
/// An end-of-generation token is a token like any other here: it comes only where it is allowed, is then accepted, and
/// ends the answer. Once ``isComplete`` is true, which may be before the first token, the answer ends without one. What
/// a member throws ends the answer with that error, and so does forbidding every token.
public protocol TokenConstraint: Sendable {
  /// Whether `token` may come next: whether ``forbidden()`` leaves it out.
  mutating func allows(_ token: Token) throws -> Bool
  /// Every token that must not come next, ascending.
  mutating func forbidden() throws -> [Token]
  /// `token` has come.
  mutating func accept(_ token: Token) throws
  /// Whether nothing but the end of the text may come next.
  var isComplete: Bool { get }
}

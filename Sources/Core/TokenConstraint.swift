/// Which tokens may come next; a value that grows with the accepted tokens.
///
/// The decoder first takes the best token of all and asks ``allows(_:)`` for it alone: if it is allowed it is also the
/// best of the allowed ones. Only if not, the forbidden ones are masked and the position is decided again.
public protocol TokenConstraint: Sendable {
  /// Whether `token` may come next.
  mutating func allows(_ token: Token) throws -> Bool
  /// Every token that must not come next, ascending.
  mutating func forbidden() throws -> [Token]
  /// `token` has come.
  mutating func accept(_ token: Token) throws
  /// Whether nothing but the end of the text may come next.
  var isComplete: Bool { get }
}

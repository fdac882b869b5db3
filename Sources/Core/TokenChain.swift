/// Identity of a token prefix: h₀ = SHA-256(domain), hᵢ₊₁ = SHA-256(hᵢ ‖ tokenᵢ as 4 little-endian bytes).
///
/// A length alone does not identify a prefix once a sequence has been rolled back; the chained hash does.
public struct PrefixHash: Hashable, Sendable {
  public let digest: SHA256Digest

  public init(_ digest: SHA256Digest) { self.digest = digest }

  /// The hash of no tokens.
  public static let empty = PrefixHash(SHA256Digest(hashing: Array("fusionroute/prefix/1".utf8)))

  public func appending(_ token: Token) -> PrefixHash {
    var hasher = SHA256Hasher()
    digest.withUnsafeBytes { hasher.update($0) }
    hasher.update(littleEndian: token)
    return PrefixHash(hasher.finalize())
  }
}

/// Tokens with the chained hash of every prefix of them.
public struct TokenChain: Sendable, Equatable {
  public private(set) var tokens: [Token] = []
  private var hashes: [PrefixHash] = [.empty]

  public init() {}

  public init(_ tokens: some Sequence<Token>) {
    append(contentsOf: tokens)
  }

  public var count: Int { tokens.count }

  /// Hash of the first `length` tokens; nil beyond the end.
  public func hash(at length: Int) -> PrefixHash? {
    hashes.indices.contains(length) ? hashes[length] : nil
  }

  public mutating func append(_ token: Token) {
    hashes.append(hashes[hashes.count - 1].appending(token))
    tokens.append(token)
  }

  public mutating func append(contentsOf tokens: some Sequence<Token>) {
    for token in tokens { append(token) }
  }

  /// Keeps the first `length` tokens (all, if there are fewer).
  public mutating func truncate(to length: Int) {
    guard length < count else { return }
    tokens.removeSubrange(max(0, length)...)
    hashes.removeSubrange((max(0, length) + 1)...)
  }
}

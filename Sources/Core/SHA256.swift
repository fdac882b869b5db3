internal import CSodium

/// 32 bytes of a SHA-256.
public struct SHA256Digest: Hashable, Sendable, CustomStringConvertible {
  /// Bytes in a digest.
  public static let byteCount = 32

  private let words: (UInt64, UInt64, UInt64, UInt64)

  /// From exactly 32 bytes; nil for any other count.
  public init?(_ bytes: some Collection<UInt8>) {
    guard bytes.count == Self.byteCount else { return nil }
    var words: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
    withUnsafeMutableBytes(of: &words) { $0.copyBytes(from: bytes) }
    self.words = words
  }

  /// The digest of `bytes`.
  public init(hashing bytes: some Collection<UInt8>) {
    var hasher = SHA256Hasher()
    hasher.update(bytes)
    self = hasher.finalize()
  }

  public var bytes: [UInt8] { withUnsafeBytes { Array($0) } }

  public func withUnsafeBytes<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
    try Swift.withUnsafeBytes(of: words) { try body($0) }
  }

  /// 64 lower-case hexadecimal digits.
  public var hex: String { bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined() }

  public var description: String { hex }

  public static func == (a: Self, b: Self) -> Bool {
    a.words.0 == b.words.0 && a.words.1 == b.words.1 && a.words.2 == b.words.2 && a.words.3 == b.words.3
  }

  public func hash(into hasher: inout Hasher) {
    hasher.combine(words.0)
    hasher.combine(words.1)
  }
}

/// Incremental SHA-256 over libsodium.
public struct SHA256Hasher: Sendable {
  private var state = crypto_hash_sha256_state()

  public init() { _ = crypto_hash_sha256_init(&state) }

  public mutating func update(_ bytes: UnsafeRawBufferPointer) {
    guard let base = bytes.baseAddress else { return }
    _ = crypto_hash_sha256_update(&state, base.assumingMemoryBound(to: UInt8.self), UInt64(bytes.count))
  }

  public mutating func update(_ bytes: some Collection<UInt8>) {
    if bytes.withContiguousStorageIfAvailable({ update(UnsafeRawBufferPointer($0)) }) == nil {
      Array(bytes).withUnsafeBytes { update($0) }
    }
  }

  public mutating func update(littleEndian value: some FixedWidthInteger) {
    withUnsafeBytes(of: value.littleEndian) { update($0) }
  }

  /// Length-prefixed text, so that adjacent fields cannot run into each other.
  public mutating func update(field text: String) {
    update(littleEndian: UInt64(text.utf8.count))
    update(text.utf8)
  }

  /// Ends the computation; the hasher must not be used afterwards.
  public mutating func finalize() -> SHA256Digest {
    var out = [UInt8](repeating: 0, count: SHA256Digest.byteCount)
    _ = crypto_hash_sha256_final(&state, &out)
    return SHA256Digest(out) ?? SHA256Digest(hashing: [])
  }
}

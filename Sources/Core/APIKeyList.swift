/// API keys by name, hashed: what a file of API keys holds.
///
/// One key a line, `NAME SHA256-HEX` with the hash of the whole key as it is sent; `#` begins a comment. Comments and
/// order are kept when keys are added and revoked.
public struct APIKeyList: Sendable, Equatable {
  public static let maximumNameLength = 64
  /// Keys that a file may hold.
  public static let maximumCount = 10_000

  private struct Line: Sendable, Equatable {
    var text: String
    var key: Key?
  }

  private struct Key: Sendable, Equatable {
    var name: String
    var digest: SHA256Digest
  }

  private var lines: [Line] = []

  public init() {}

  /// Throws `badInput` naming the line.
  public init(parsing text: String) throws {
    // By bytes: CR LF is one Character.
    let parts = text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    for (index, line) in parts.map(Substring.init).enumerated() {
      do {
        lines.append(Line(text: String(line), key: try Self.key(line)))
      } catch let error as FusionRouteError {
        throw FusionRouteError.badInput("line \(index + 1) \(error.message)")
      }
    }
    // What the last line feed leaves behind.
    if lines.last?.text.isEmpty == true { lines.removeLast() }
    var seen: Set<String> = []
    for (index, line) in lines.enumerated() {
      guard let name = line.key?.name else { continue }
      guard seen.insert(name).inserted else {
        throw FusionRouteError.badInput("line \(index + 1) has the name \"\(name)\" a second time")
      }
    }
    try checkCount()
  }

  /// In the order of the file.
  public var names: [String] { lines.compactMap { $0.key?.name } }

  /// Names by the SHA-256 of their keys.
  public var namesByDigest: [SHA256Digest: String] {
    Dictionary(lines.compactMap { $0.key }.map { ($0.digest, $0.name) }) { first, _ in first }
  }

  /// The file's text.
  public var text: String { lines.map { $0.text + "\n" }.joined() }

  /// Makes a new key and adds its hash. Returns the key, which is kept nowhere.
  ///
  /// Throws `badInput` if the name is taken or no name.
  public mutating func add(_ name: String) throws -> String {
    guard Self.isName(name) else {
      throw FusionRouteError.badInput(
        "\"\(name)\" cannot be the name of a key: use letters, digits, \".\", \"_\" and \"-\", at most "
          + "\(Self.maximumNameLength)")
    }
    guard !names.contains(name) else {
      throw FusionRouteError.badInput("there is a key named \"\(name)\" already: revoke it first, or take another name")
    }
    let secret = Self.makeSecret()
    let digest = SHA256Digest(hashing: secret.utf8)
    lines.append(Line(text: "\(name) \(digest.hex)", key: Key(name: name, digest: digest)))
    try checkCount()
    return secret
  }

  /// Throws `badInput` if there is no such name.
  public mutating func revoke(_ name: String) throws {
    guard let index = lines.firstIndex(where: { $0.key?.name == name }) else {
      let known = names.isEmpty ? "there is none" : "the keys are \(names.joined(separator: ", "))"
      throw FusionRouteError.badInput("there is no key named \"\(name)\": \(known)")
    }
    lines.remove(at: index)
  }

  private func checkCount() throws {
    guard names.count <= Self.maximumCount else {
      throw FusionRouteError.badInput("more than \(Self.maximumCount) keys")
    }
  }

  private static func key(_ line: Substring) throws -> Key? {
    let content = line.prefix { $0 != "#" }
    let words = content.split { $0 == " " || $0 == "\t" || $0 == "\r" }
    if words.isEmpty { return nil }
    guard words.count == 2, isName(words[0]), let digest = digest(words[1]) else {
      throw FusionRouteError.badInput("is not NAME and 64 hexadecimal digits (the SHA-256 of the key)")
    }
    return Key(name: String(words[0]), digest: digest)
  }

  private static func isName(_ name: some StringProtocol) -> Bool {
    (1...maximumNameLength).contains(name.utf8.count)
      && name.utf8.allSatisfy { byte in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
          UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"):
          true
        default: false
        }
      }
  }

  private static func digest(_ text: Substring) -> SHA256Digest? {
    let digits = text.utf8.compactMap { Character(UnicodeScalar($0)).hexDigitValue }
    guard digits.count == text.utf8.count, digits.count == 2 * SHA256Digest.byteCount else { return nil }
    return SHA256Digest(stride(from: 0, to: digits.count, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) })
  }

  /// `fr-` and 32 bytes of the system's randomness in base64url (RFC 4648), 43 characters.
  private static func makeSecret() -> String {
    let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    var random = SystemRandomNumberGenerator()
    let bytes = (0..<32).map { _ in UInt8.random(in: 0...255, using: &random) }
    var text = "fr-"
    for start in stride(from: 0, to: bytes.count, by: 3) {
      let group = bytes[start..<min(start + 3, bytes.count)]
      let bits = group.reduce(0) { $0 << 8 | Int($1) } << (8 * (3 - group.count))
      for index in 0...group.count { text.append(alphabet[bits >> (18 - 6 * index) & 63]) }
    }
    return text
  }
}

/// W3C trace context of a request: `traceparent` as it came in, or made here, and our own id for logs.
public struct TraceContext: Sendable, Hashable {
  /// Names the request in logs and in the answer; at most 64 characters of letters, digits, `-` and `_`.
  public var requestID: String
  /// 16 bytes as 32 lower-case hexadecimal digits, not all zero.
  public var traceID: String
  /// 8 bytes as 16 lower-case hexadecimal digits, not all zero: the span that this request's spans are children of.
  public var parentID: String
  public var isSampled: Bool

  public init(requestID: String, traceID: String, parentID: String, isSampled: Bool) {
    self.requestID = requestID
    self.traceID = traceID
    self.parentID = parentID
    self.isSampled = isSampled
  }

  /// Longest request id, in characters.
  public static let requestIDLimit = 64
  /// Bytes of a `traceparent` of version 00.
  public static let traceparentBytes = 55

  /// Nil unless every field keeps its rule; of `traceparent` any version is read as version 00, as the W3C's
  /// recommendation says.
  public init?(requestID: String, traceparent: String) {
    let text = Array(traceparent.utf8)
    guard text.count == Self.traceparentBytes || (text.count > Self.traceparentBytes && text[55] == UInt8(ascii: "-")),
      text[2] == UInt8(ascii: "-"), text[35] == UInt8(ascii: "-"), text[52] == UInt8(ascii: "-")
    else { return nil }
    func field(_ range: Range<Int>) -> String { String(decoding: text[range], as: UTF8.self) }
    let (version, flags) = (field(0..<2), field(53..<55))
    guard Self.isHexadecimal(version), version != "ff", version != "00" || text.count == Self.traceparentBytes,
      Self.isHexadecimal(flags), let bits = UInt8(flags, radix: 16)
    else { return nil }
    self.init(requestID: requestID, traceID: field(3..<35), parentID: field(36..<52), isSampled: bits & 1 == 1)
    guard isValid else { return nil }
  }

  /// As version 00 of the header.
  public var traceparent: String { "00-\(traceID)-\(parentID)-\(isSampled ? "01" : "00")" }

  /// Whether every field keeps its rule.
  public var isValid: Bool {
    (1...Self.requestIDLimit).contains(requestID.utf8.count) && requestID.utf8.allSatisfy(Self.isNameByte)
      && traceID.utf8.count == 32 && parentID.utf8.count == 16
      && [traceID, parentID].allSatisfy { Self.isHexadecimal($0) && $0.utf8.contains { $0 != UInt8(ascii: "0") } }
  }

  /// 8 random bytes for a span, not all zero.
  public static func randomSpanID() -> String {
    let digits = String(UInt64.random(in: 1...UInt64.max), radix: 16)
    return String(repeating: "0", count: 16 - digits.utf8.count) + digits
  }

  private static func isNameByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"):
      true
    default: false
    }
  }

  private static func isHexadecimal(_ text: String) -> Bool {
    text.utf8.allSatisfy {
      (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains($0)
    }
  }
}

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
}

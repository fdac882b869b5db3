/// Bounds that no configuration changes. Those of one request's JSON are `JSONParser`'s.
enum GatewayLimits {
  // MARK: One request

  /// Answers to one request: prompts times `n`.
  static let answers = 128
  static let stopStrings = 16
  /// Most probable tokens told with each token, `top_logprobs`.
  static let alternatives = 20
  /// Characters of `user` that tell clients apart.
  static let userLength = 128
  /// Characters of `x-request-id`.
  static let requestIDLength = 64
  /// Longest `x-request-timeout`, in seconds.
  static let requestTimeout = 86_400.0

  // MARK: Connections

  /// Bytes of one header field, of all of a request, and their number.
  static let headerField = 16 << 10
  static let headers = 64 << 10
  static let headerCount = 100
  /// How long what a refused client still sends is read and dropped, so that it finds the refusal.
  static let linger: Duration = .seconds(2)
  /// Connections waiting to be accepted.
  static let backlog: Int = 1024
  /// File descriptors left to models, workers' sockets and logs.
  static let reservedDescriptors = 256

  // MARK: All requests together

  /// Bytes of bodies read and not yet answered.
  static let bodies = 256 << 20
  /// A stream's head is sent after so long, even when there is no token yet: until then an error has its own status.
  static let headDelay: Duration = .seconds(5)
  /// Lines of the request log that wait to be written; more are dropped and counted.
  static let logQueue = 256
  /// Bytes of one line of the request log; a longer one leaves the request's body out.
  static let logLine = 4 << 20
  /// What remains open after the last answer is closed after so long.
  static let closing: Duration = .seconds(2)
}

internal import Core
internal import Journal
internal import Hummingbird

/// An error as a client of the API sees it: OpenAI's `{"error": {"message", "type", "param", "code"}}` and a status.
struct GatewayError: Error, Sendable, Equatable {
  var status: HTTPResponse.Status
  var message: String
  var type: String
  /// The field that was wrong, `messages[2].content`.
  var param: String?
  /// For programs to tell errors of one status apart.
  var code: String?
  /// Seconds after which trying again may help.
  var retryAfter: Int?
  /// Whether the connection cannot be used further: a body was left unread.
  var closes = false
  /// Methods of the route, for 405.
  var allow: [String] = []
  /// What only the log is told.
  var detail: String?

  init(
    _ status: HTTPResponse.Status, _ message: String, type: String? = nil, param: String? = nil, code: String? = nil,
    retryAfter: Int? = nil
  ) {
    self.status = status
    self.message = message
    self.type = type ?? (status.code < 500 ? "invalid_request_error" : "server_error")
    self.param = param
    self.code = code
    self.retryAfter = retryAfter
  }

  /// The field `param` is not acceptable: 400.
  static func invalid(_ param: String?, _ message: String, code: String? = nil) -> Self {
    Self(.badRequest, message, param: param, code: code)
  }

  static func closing(_ status: HTTPResponse.Status, _ message: String, code: String) -> Self {
    var error = Self(status, message, code: code)
    error.closes = true
    return error
  }

  static let shuttingDown = Self(
    .serviceUnavailable, "the server is shutting down; try again later", code: "shutting_down", retryAfter: 5)

  static let overloaded = Self(
    .serviceUnavailable, "the bodies of other requests fill the server's memory; try again later", code: "overloaded",
    retryAfter: 1)

  /// The client closed its connection: nobody reads this, but it is counted. The status is nginx's.
  static let clientGone = Self(
    .init(code: 499, reasonPhrase: "Client Closed Request"), "the client closed the connection", code: "client_gone")

  /// JSON text of the error.
  var body: [UInt8] {
    JSONWriter.object { json in
      json.object("error") { json in
        json.field("message", message)
        json.field("type", type)
        json.field("param", param)
        json.field("code", code)
      }
    }
  }
}

extension GatewayError {
  /// What a client is told of an error of the runtime's.
  ///
  /// - Parameters:
  ///   - param: the field that an unacceptable input came from.
  ///   - retryAfter: estimate of the coordinator's for a full queue.
  ///   - hiding: paths of this machine, which are nobody's business.
  init(_ error: any Error, param: String? = nil, retryAfter: Duration = .seconds(1), hiding paths: [String] = []) {
    if let error = error as? GatewayError {
      self = error
      return
    }
    guard let error = error as? FusionRouteError else {
      self = .internal(error)
      return
    }
    let message = paths.reduce(error.message) { $0.replacing($1, with: "the router") }
    let seconds = max(1, Int(retryAfter.components.seconds) + (retryAfter.components.attoseconds > 0 ? 1 : 0))
    switch error.code {
    case .badInput, .usage: self = .invalid(param, message)
    case .storageFull: self = Self(.contentTooLarge, message, code: "storage_full")
    case .overloaded:
      self = Self(
        .tooManyRequests, message, type: "rate_limit_error", code: "rate_limit_exceeded", retryAfter: seconds)
    case .unavailable: self = Self(.serviceUnavailable, message, code: "unavailable", retryAfter: seconds)
    case .deadlineExceeded: self = Self(.gatewayTimeout, message, code: "deadline_exceeded")
    case .interrupted: self = .shuttingDown
    default: self = .internal(error)
    }
  }

  private static func `internal`(_ error: any Error) -> Self {
    var told = Self(
      .internalServerError, "an internal error occurred; the server's log has more", code: "internal_error")
    told.detail = "\(error)"
    return told
  }
}

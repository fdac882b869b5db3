internal import Core
internal import Foundation

/// Why a service refused a prompt that does not fit into its context; the cause of a `.badInput`.
struct ContextLengthExceeded: Error, Equatable {}

/// Sentences for what goes wrong between this program and a service.
enum ServiceError {
  /// OpenAI's `{"error": {"message": …}}`.
  private struct Body: Decodable {
    struct Failure: Decodable {
      var message: String
      var code: String?
    }
    var error: Failure
  }

  /// The error behind a status other than 2xx.
  ///
  /// - Parameter hasKey: whether the request came with an API key.
  static func answered(_ status: Int, body: [UInt8], url: ServiceURL, hasKey: Bool) -> FusionRouteError {
    let failure = (try? JSONDecoder().decode(Body.self, from: Data(body)))?.error
    let told = failure?.message
    let said = told.map { ": " + clipped($0) } ?? ""
    switch status {
    case 401:
      return .badInput(
        hasKey
          ? "\(url) does not accept the API key: it is wrong or was revoked"
          : "\(url) wants an API key: set FUSIONROUTE_API_KEY, or name a file that holds it with --api-key-file")
    case 404 where told == nil:
      return .unavailable("\(url) answers, but is no FusionRoute service: check --url")
    case 408, 504: return FusionRouteError(.deadlineExceeded, "\(url) ran out of time\(said)")
    case 429: return FusionRouteError(.overloaded, "\(url) is too busy\(said)")
    case 409: return .unavailable("\(url) does not do that now\(said)")
    case 400..<500:
      return .badInput(
        "\(url) refused the request\(said.isEmpty ? " with status \(status)" : said)",
        cause: failure?.code == "context_length_exceeded" ? ContextLengthExceeded() : nil)
    case 502, 503: return .unavailable("\(url) cannot answer now\(said)")
    default: return .internal("\(url) failed with status \(status)\(said)")
    }
  }

  /// The error that a stream carries instead of its next chunk, nil if it carries none.
  static func inStream(_ data: String, url: ServiceURL) -> FusionRouteError? {
    guard data.contains("\"error\""), let body = try? JSONDecoder().decode(Body.self, from: Data(data.utf8)) else {
      return nil
    }
    let code: FusionRouteError.Code =
      switch body.error.code {
      case "deadline_exceeded": .deadlineExceeded
      case "internal_error": .internal
      default: .unavailable
      }
    return FusionRouteError(code, "\(url) ended the answer: \(clipped(body.error.message))")
  }

  /// The error behind a connection that could not be made or broke.
  static func connection(_ error: any Error, url: ServiceURL) -> any Error {
    if error is CancellationError || error is FusionRouteError { return error }
    if let reason = reason(error, refused: "nothing listens there; `fusionroute up` starts a service") {
      return FusionRouteError.unavailable("cannot reach \(url): \(reason)")
    }
    return FusionRouteError.unavailable("cannot reach \(url)", cause: error)
  }

  /// Why a connection could not be made or broke; nil if its error is none that people know.
  ///
  /// - Parameter refused: what to say where nothing listens.
  static func reason(_ error: any Error, refused: String) -> String? {
    let text = "\(error)"
    let known: [(String, String)] = [
      ("refused", refused),
      ("timeout", "it does not answer in time"), ("Timeout", "it does not answer in time"),
      ("certificate", "its TLS certificate is not trusted; --ca-file names the certificate to trust"),
      ("CERTIFICATE", "its TLS certificate is not trusted; --ca-file names the certificate to trust"),
      ("WRONG_VERSION", "it does not speak TLS: use http://"), ("dns", "there is no such host"),
      ("getaddrinfo", "there is no such host"), ("Name or service", "there is no such host"),
      ("unreachable", "there is no way to that host"), ("No route", "there is no way to that host"),
      ("Closed", "it closed the connection"), ("closed", "it closed the connection"),
      ("reset", "it closed the connection"),
    ]
    return known.first { text.contains($0.0) }?.1
  }

  /// The error behind a stream that ended before it was complete.
  static func brokenOff(_ error: (any Error)?, url: ServiceURL) -> any Error {
    if let error, error is CancellationError || error is FusionRouteError { return error }
    return FusionRouteError.unavailable("\(url) broke the answer off before it was complete", cause: error)
  }

  /// A service's own words, in one line that cannot steer a terminal and is not endless.
  static func clipped(_ text: String) -> String {
    let line = TokenPainter.printable(text).split(whereSeparator: \.isNewline).joined(separator: " ")
    return line.count > 1000 ? line.prefix(1000) + "…" : line
  }
}

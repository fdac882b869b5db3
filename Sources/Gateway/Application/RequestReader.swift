internal import Core
internal import HTTPTypes
internal import Hummingbird
internal import NIOCore

/// A request's body, read and parsed within its limits.
struct RequestBodyText: Sendable {
  let bytes: [UInt8]
  let fields: FieldReader
  /// Holds the body's share of memory.
  let share: BodyBudget.Share

  /// - Throws: ``GatewayError``: 400, 413, 415 or 503.
  static func read(_ request: Request, environment: GatewayEnvironment) async throws -> RequestBodyText {
    try checkHeaders(request)
    let (bytes, share) = try await Self.bytes(request, environment: environment)
    let body = bytes
    // Small bodies are parsed faster than another thread is reached.
    let value = try body.count < 16 << 10 ? parse(body) : await environment.offloading { try parse(body) }
    guard case .object(let object) = value else {
      throw GatewayError.invalid(nil, "the request's body must be a JSON object, not \(value.kind)")
    }
    return RequestBodyText(bytes: body, fields: FieldReader(object), share: share)
  }

  /// The body's bytes, within the limits of one request and of all.
  static func bytes(
    _ request: Request, environment: GatewayEnvironment
  ) async throws -> (bytes: [UInt8], share: BodyBudget.Share) {
    let limit = environment.configuration.maximumBody
    if let length = request.headers[.contentLength].flatMap({ Int($0) }), length > limit { throw tooLarge(limit) }
    let share = environment.bodies.share()
    var bytes: [UInt8] = []
    for try await chunk in request.body {
      guard bytes.count + chunk.readableBytes <= limit else { throw tooLarge(limit) }
      guard share.take(chunk.readableBytes) else {
        var error = GatewayError.overloaded
        error.closes = true
        throw error
      }
      bytes.append(contentsOf: chunk.readableBytesView)
    }
    return (bytes, share)
  }

  private static func checkHeaders(_ request: Request) throws {
    // A page of another origin can send any other type without asking the browser's leave.
    let type = request.headers[.contentType]?.lowercased().prefix { $0 != ";" } ?? ""
    guard type.filter({ $0 != " " }) == "application/json" else {
      throw GatewayError.closing(
        .unsupportedMediaType,
        "the request's content type must be application/json (curl: -H 'content-type: "
          + "application/json')", code: "unsupported_content_type")
    }
    guard ["", "identity"].contains(request.headers[.contentEncoding]?.lowercased() ?? "") else {
      throw GatewayError.closing(
        .unsupportedMediaType, "compressed bodies are not supported: send the JSON as it is",
        code: "unsupported_content_encoding")
    }
  }

  private static func tooLarge(_ limit: Int) -> GatewayError {
    .closing(.contentTooLarge, "the request's body is larger than \(limit) bytes", code: "request_too_large")
  }

  private static func parse(_ bytes: [UInt8]) throws -> JSONValue {
    do {
      return try JSONParser.parse(bytes)
    } catch let error as JSONParser.Failure {
      throw GatewayError.invalid(
        nil, "the request's body is not valid JSON: \(error.message), at byte \(error.offset)", code: "invalid_json")
    }
  }
}

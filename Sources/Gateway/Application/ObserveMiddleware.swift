internal import Core
internal import HTTPTypes
internal import Hummingbird
internal import Logging
internal import NIOCore
internal import NIOHTTP1

/// The outermost: names the request, turns errors into OpenAI's shape, counts and logs.
struct ObserveMiddleware: RouterMiddleware {
  let environment: GatewayEnvironment
  let routes: RouteTable

  func handle(
    _ request: Request, context: GatewayContext, next: (Request, GatewayContext) async throws -> Response
  ) async throws -> Response {
    var context = context
    context.trace = TraceContext(
      traceparent: request.headers[.traceparent], requestID: request.headers[.requestID])
    var response: Response
    do {
      response = try await next(request, context)
    } catch {
      response = answer(to: error, request: request, context: context)
    }
    // A body would be read as the next answer on the connection.
    if request.method == .head { response = response.createHeadResponse() }
    response.headers[.requestID] = context.requestID
    response.headers[.xContentTypeOptions] = "nosniff"
    if response.headers[.cacheControl] == nil { response.headers[.cacheControl] = "no-store" }
    // Those who are to leave do not send their next request here.
    if environment.gate.isDraining { response.headers[.connection] = "close" }
    let route = routes.label(context.endpointPath)
    environment.metrics.answered(
      route: route, method: request.method.rawValue, status: response.status.code,
      time: ContinuousClock.now - context.arrival)
    environment.logger.debug(
      "request answered",
      metadata: [
        "request": "\(context.requestID)", "method": "\(request.method)", "route": "\(route)",
        "status": "\(response.status.code)", "peer": "\(context.channel.remoteAddress?.ipAddress ?? "")",
      ])
    return response
  }

  private func answer(to error: any Error, request: Request, context: GatewayContext) -> Response {
    let told = environment.told(error, request: request, routes: routes)
    environment.report(told, of: context.requestID)
    return told.response
  }
}

extension GatewayEnvironment {
  /// An error of a request as its client may see it, those of Hummingbird and of the connection among them.
  func told(_ error: any Error, request: Request, routes: RouteTable) -> GatewayError {
    switch error {
    case is ConnectionHandler.BodyTimeout:
      return .closing(.requestTimeout, "the request's body did not come in time", code: "request_timeout")
    case is HTTPParserError: return .closing(.badRequest, "the request's body is not HTTP", code: "malformed_request")
    case let error as HTTPError where error.status == .notFound:
      let methods = routes.methods(for: request.uri.path)
      guard !methods.isEmpty else {
        return GatewayError(
          .notFound, "there is no \(request.method.rawValue.clipped) \(request.uri.path.clipped)", code: "unknown_route"
        )
      }
      var wrong = GatewayError(
        .methodNotAllowed,
        "\(request.uri.path.clipped) takes \(methods.joined(separator: ", ")), not "
          + "\(request.method.rawValue.clipped)", code: "method_not_allowed")
      wrong.allow = methods
      return wrong
    default: return told(error)
    }
  }
}

extension GatewayError {
  var response: Response {
    var headers: HTTPFields = [.contentType: "application/json"]
    if let retryAfter { headers[.retryAfter] = "\(retryAfter)" }
    if !allow.isEmpty { headers[.allow] = allow.joined(separator: ", ") }
    if status == .unauthorized { headers[.wwwAuthenticate] = "Bearer" }
    if closes { headers[.connection] = "close" }
    return Response(status: status, headers: headers, body: ResponseBody(byteBuffer: ByteBuffer(bytes: body)))
  }
}

extension HTTPField.Name {
  static let requestID = parsed("x-request-id")
  static let requestTimeout = parsed("x-request-timeout")
  static let accelBuffering = parsed("x-accel-buffering")

  /// Names that are written above; a wrong one would show in the first test of its header.
  static func parsed(_ name: String) -> HTTPField.Name { HTTPField.Name(name) ?? .via }
}

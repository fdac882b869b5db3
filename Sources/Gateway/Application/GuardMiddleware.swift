internal import HTTPTypes
internal import Hummingbird

/// Lets in whom the service is for: the right host, no stranger's web page, an API key where one is needed.
struct GuardMiddleware: RouterMiddleware {
  let environment: GatewayEnvironment
  let routes: RouteTable

  func handle(
    _ request: Request, context: GatewayContext, next: (Request, GatewayContext) async throws -> Response
  ) async throws -> Response {
    let authority = request.head.authority
    guard environment.policy.admits(authority: authority) else {
      throw GatewayError(
        .forbidden, "this service answers to names of this machine only, not to \"\((authority ?? "").clipped)\"",
        code: "host_not_allowed")
    }
    switch environment.policy.origin(request.headers[.origin], authority: authority) {
    case .refused:
      throw GatewayError(
        .forbidden,
        "pages of \"\((request.headers[.origin] ?? "").clipped)\" may not call this service; "
          + "gateway.allowed_origins lists those that may", code: "origin_not_allowed")
    case .own: return try await admitted(request, context: context, next: next)
    case .allowed(let origin):
      if request.method == .options, request.headers[.accessControlRequestMethod] != nil {
        return Response(
          status: .noContent, headers: preflight(origin, headers: request.headers[.accessControlRequestHeaders]))
      }
      var response: Response
      do {
        response = try await admitted(request, context: context, next: next)
      } catch {
        // The page is to read what was wrong.
        let told = environment.told(error, request: request, routes: routes)
        environment.report(told, of: context.requestID)
        response = told.response
      }
      response.headers[.accessControlAllowOrigin] = origin
      response.headers[.accessControlExposeHeaders] = "x-request-id, retry-after"
      response.headers[.vary] = "Origin"
      return response
    }
  }

  private func preflight(_ origin: String, headers: String?) -> HTTPFields {
    [
      .accessControlAllowOrigin: origin, .vary: "Origin, Access-Control-Request-Headers",
      .accessControlAllowMethods: "GET, POST, DELETE, OPTIONS",
      .accessControlAllowHeaders: CrossOriginHeaders.allowed(headers), .accessControlMaxAge: "600",
    ]
  }

  private func admitted(
    _ request: Request, context: GatewayContext, next: (Request, GatewayContext) async throws -> Response
  ) async throws -> Response {
    var context = context
    if let keys = environment.keys, !routes.isOpen(context.endpointPath) {
      context.keyName = try Self.keyName(request.headers[.authorization], keys: keys)
    }
    return try await next(request, context)
  }

  private static func keyName(_ authorization: String?, keys: APIKeys) throws -> String {
    let words = (authorization ?? "").split(separator: " ", maxSplits: 1)
    guard words.count == 2, words[0].lowercased() == "bearer" else {
      throw GatewayError(
        .unauthorized, "an API key is needed: send it as `Authorization: Bearer KEY`", code: "missing_api_key")
    }
    guard let name = keys.name(of: words[1].trimmingSpaces) else {
      throw GatewayError(.unauthorized, "the API key is wrong or was revoked", code: "invalid_api_key")
    }
    return name
  }
}

extension Substring {
  var trimmingSpaces: String { String(drop { $0 == " " }.reversed().drop { $0 == " " }.reversed()) }
}

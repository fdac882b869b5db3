internal import HTTPTypes
internal import Hummingbird

/// The page at `/`.
struct PageRoutes: Sendable {
  let environment: GatewayEnvironment

  /// Nothing from elsewhere, and in no other page's frame.
  static let policy =
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    + "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"

  func page(_ request: Request, context: GatewayContext) -> Response {
    let text = "<!doctype html><title>FusionRoute</title><p>FusionRoute is running."
    return Response(
      status: .ok,
      headers: [
        .contentType: "text/html; charset=utf-8", .contentSecurityPolicy: Self.policy, .referrerPolicy: "no-referrer",
      ],
      body: ResponseBody(byteBuffer: ByteBuffer(string: text)))
  }
}

extension HTTPField.Name {
  static let referrerPolicy = parsed("referrer-policy")
}

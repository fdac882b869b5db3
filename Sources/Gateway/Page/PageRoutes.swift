internal import HTTPTypes
internal import Hummingbird

/// The page at `/`, and the files it consists of under `/page`.
struct PageRoutes: Sendable {
  /// Nothing from elsewhere, no script and no style but those of the files, and in no other page's frame.
  static let policy =
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    + "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"

  func page(_ request: Request, context: GatewayContext) throws -> Response {
    try Self.answer(request, name: "index.html")
  }

  func file(_ request: Request, context: GatewayContext) throws -> Response {
    try Self.answer(request, name: context.parameters.get("file") ?? "")
  }

  private static func answer(_ request: Request, name: String) throws -> Response {
    guard let file = PageFile.all[name] else {
      throw GatewayError(.notFound, "the page has no file \"\(name.clipped)\"", code: "unknown_route")
    }
    var headers: HTTPFields = [
      .contentSecurityPolicy: policy, .referrerPolicy: "no-referrer", .eTag: file.tag,
      // Kept, but asked for each time: a new version of the program may have others.
      .cacheControl: "no-cache",
    ]
    let known = request.headers[.ifNoneMatch]?.split(separator: ",") ?? []
    guard !known.contains(where: { $0.filter { $0 != " " } == file.tag }) else {
      return Response(status: .notModified, headers: headers)
    }
    headers[.contentType] = file.type
    return Response(status: .ok, headers: headers, body: ResponseBody(byteBuffer: file.content))
  }
}

extension HTTPField.Name {
  static let referrerPolicy = parsed("referrer-policy")
}

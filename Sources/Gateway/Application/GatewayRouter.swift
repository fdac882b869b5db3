internal import HTTPTypes
internal import Hummingbird

/// Puts the routes and what stands before them together.
enum GatewayRouter {
  typealias Handler = @Sendable (Request, GatewayContext) async throws -> Response

  struct Entry {
    var method: HTTPRequest.Method
    var path: String
    /// Needs no API key.
    var isOpen = false
    var handler: Handler
  }

  static func build(_ environment: GatewayEnvironment) -> Router<GatewayContext> {
    let entries = entries(environment)
    var table = RouteTable()
    for entry in entries { table.add(.init(path: entry.path, method: entry.method, isOpen: entry.isOpen)) }
    let router = Router(context: GatewayContext.self, options: .autoGenerateHeadEndpoints)
    // Only what is added after them goes through them.
    router.add(middleware: ObserveMiddleware(environment: environment, routes: table))
    router.add(middleware: GuardMiddleware(environment: environment, routes: table))
    for entry in entries {
      router.on(RouterPath(entry.path), method: entry.method) { try await entry.handler($0, $1) }
    }
    return router
  }

  private static func entries(_ environment: GatewayEnvironment) -> [Entry] {
    let answers = AnswerRoutes(environment: environment)
    let service = ServiceRoutes(environment: environment)
    let tokens = TokenRoutes(environment: environment)
    let batches = BatchRoutes(environment: environment)
    let page = PageRoutes()
    let admin = AdminRoutes(environment: environment)
    return [
      Entry(method: .post, path: "/v1/chat/completions", handler: answers.chat),
      Entry(method: .post, path: "/v1/completions", handler: answers.completion),
      Entry(method: .get, path: "/v1/models", handler: service.models),
      Entry(method: .get, path: "/v1/models/{id}", handler: service.model),
      Entry(method: .post, path: "/v1/files", handler: batches.upload),
      Entry(method: .get, path: "/v1/files", handler: batches.files),
      Entry(method: .get, path: "/v1/files/{id}", handler: batches.file),
      Entry(method: .delete, path: "/v1/files/{id}", handler: batches.delete),
      Entry(method: .get, path: "/v1/files/{id}/content", handler: batches.content),
      Entry(method: .post, path: "/v1/batches", handler: batches.create),
      Entry(method: .get, path: "/v1/batches", handler: batches.batches),
      Entry(method: .get, path: "/v1/batches/{id}", handler: batches.batch),
      Entry(method: .post, path: "/v1/batches/{id}/cancel", handler: batches.cancel),
      Entry(method: .post, path: "/tokenize", handler: tokens.tokenize),
      Entry(method: .post, path: "/detokenize", handler: tokens.detokenize),
      Entry(method: .get, path: "/tokenizer_info", handler: tokens.information),
      Entry(method: .get, path: "/health", isOpen: true, handler: service.health),
      Entry(method: .get, path: "/ready", isOpen: true, handler: service.ready),
      Entry(method: .get, path: "/metrics", handler: service.metrics),
      Entry(method: .get, path: "/fusionroute/status", handler: service.status),
      Entry(method: .post, path: "/fusionroute/drain", handler: admin.drain),
      Entry(method: .post, path: "/fusionroute/scale", handler: admin.scale),
      Entry(method: .get, path: "/", isOpen: true, handler: page.page),
      Entry(method: .get, path: "/page/{file}", isOpen: true, handler: page.file),
    ]
  }
}

internal import Hummingbird

/// The service's routes: what they take, and who may use them without a key.
struct RouteTable: Sendable {
  struct Route: Sendable {
    var path: String
    var method: HTTPRequest.Method
    /// Needs no API key.
    var isOpen = false
  }

  private(set) var routes: [Route] = []

  mutating func add(_ route: Route) { routes.append(route) }

  /// A name of bounded kinds for metrics: the route's own path.
  func label(_ endpoint: String?) -> String {
    routes.first { $0.path == endpoint }?.path ?? "other"
  }

  func isOpen(_ endpoint: String?) -> Bool { routes.contains { $0.path == endpoint && $0.isOpen } }

  /// Methods that a path takes; empty if there is no such path.
  func methods(for path: String) -> [String] {
    let parts = path.split(separator: "/")
    var methods: [String] = []
    for route in routes {
      let own = route.path.split(separator: "/")
      guard own.count == parts.count, zip(own, parts).allSatisfy({ $0.hasPrefix("{") || $0 == $1 }) else { continue }
      methods.append(route.method.rawValue)
      if route.method == .get { methods.append("HEAD") }
    }
    return methods
  }
}

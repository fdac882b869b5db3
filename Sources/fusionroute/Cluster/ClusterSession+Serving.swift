internal import Core
internal import Gateway

extension ClusterSession {
  /// Runs `body` with an HTTP service of its own on a free port of loopback: without keys, and nothing is written down.
  func serving(log: LogSettings, _ body: @escaping @Sendable (ServiceURL) async throws -> Void) async throws {
    var configuration = GatewayConfiguration(host: "127.0.0.1", port: 0)
    configuration.maximumBody = cluster.gateway.maximumBody
    configuration.defaultMaximumTokens = cluster.gateway.defaultMaximumTokens
    let gateway = GatewayServer(configuration: configuration, coordinator: coordinator, logger: log.logger)
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await gateway.run() }
      group.addTask {
        let port = try await gateway.waitUntilServing()
        guard let url = ServiceURL("http://127.0.0.1:\(port)") else {
          throw FusionRouteError.internal("the service has no address")
        }
        try await body(url)
      }
      defer { group.cancelAll() }
      try await group.next()
    }
  }
}

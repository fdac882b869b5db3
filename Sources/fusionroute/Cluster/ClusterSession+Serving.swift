internal import Core
internal import Gateway
internal import ServiceLifecycle

extension ClusterSession {
  /// Runs `body` with an HTTP service of its own on a free port of loopback: without keys, and nothing is written down.
  func serving(log: LogSettings, _ body: (ServiceURL) async throws -> Void) async throws {
    var configuration = GatewayConfiguration(host: "127.0.0.1", port: 0)
    configuration.maximumBody = cluster.gateway.maximumBody
    configuration.defaultMaximumTokens = cluster.gateway.defaultMaximumTokens
    let gateway = GatewayServer(configuration: configuration, coordinator: coordinator, logger: log.logger)
    let group = ServiceGroup(configuration: .init(services: [gateway], logger: log.logger))
    try await withThrowingTaskGroup(of: Void.self) { tasks in
      tasks.addTask { try await group.run() }
      let port = try await gateway.waitUntilServing()
      guard let url = ServiceURL("http://127.0.0.1:\(port)") else {
        throw FusionRouteError.internal("the service has no address")
      }
      try await body(url)
      await group.triggerGracefulShutdown()
      try await tasks.waitForAll()
    }
  }
}

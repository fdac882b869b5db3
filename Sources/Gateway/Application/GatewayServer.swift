public import Coordinator
public import Logging
public import ServiceLifecycle

/// The HTTP service of a coordinator: OpenAI's API, the page, health, status and metrics.
public struct GatewayServer: Service {
  public let configuration: GatewayConfiguration
  public let coordinator: CoordinatorRuntime
  public let logger: Logger

  public init(configuration: GatewayConfiguration, coordinator: CoordinatorRuntime, logger: Logger) {
    self.configuration = configuration
    self.coordinator = coordinator
    self.logger = logger
  }

  /// Serves until the service group shuts down or the task is cancelled.
  public func run() async throws {}
}

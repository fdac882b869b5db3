public import Coordinator
public import Core
internal import Hummingbird
internal import HummingbirdCore
internal import HummingbirdTLS
public import Logging
internal import NIOCore
public import ServiceLifecycle

/// The HTTP service of a coordinator: OpenAI's API, the page, health, status and metrics.
public struct GatewayServer: Service {
  public let configuration: GatewayConfiguration
  public let coordinator: CoordinatorRuntime
  /// What `POST /fusionroute/scale` acts through; nil: it is refused.
  public let scaler: (any ReplicaScaler)?
  public let logger: Logger
  private let port = Announcement<Int>()

  public init(
    configuration: GatewayConfiguration, coordinator: CoordinatorRuntime, scaler: (any ReplicaScaler)? = nil,
    logger: Logger
  ) {
    self.configuration = configuration
    self.coordinator = coordinator
    self.scaler = scaler
    self.logger = logger
  }

  /// Waits until connections are accepted and returns the port.
  ///
  /// - Throws: what ``run()`` failed with, if it did.
  public func waitUntilServing() async throws -> Int { try await port.value() }

  /// Serves until the service group shuts down or the task is cancelled. To be called once.
  ///
  /// At a graceful shutdown `/ready` and new requests are answered with 503, answers under way may end within
  /// ``GatewayConfiguration/shutdownGrace``, and those that have not end with an error.
  ///
  /// - Throws: ``FusionRouteError``: `.badInput` for files that cannot be used, `.unavailable` for a port in use.
  public func run() async throws {
    do {
      try await serve()
    } catch {
      port.fail(error)
      throw error
    }
    port.fail(FusionRouteError.interrupted("the HTTP service has ended"))
  }

  private func serve() async throws {
    try configuration.validate()
    let environment = try GatewayEnvironment(
      configuration: configuration, coordinator: coordinator, scaler: scaler, logger: logger)
    let application = try application(environment)
    // A group of its own, detached from the one that runs us: its shutdown would close the listener at once.
    let group = ServiceGroup(configuration: .init(services: [application], logger: quietLogger))
    let background = try await startAccepted(environment)
    defer { background?.cancel() }
    let serving = Task.detached { try await group.run() }
    try await withTaskCancellationHandler {
      try await withGracefulShutdownHandler {
        try await Self.wait(for: serving, unavailable: "\(configuration.host):\(configuration.port)")
      } onGracefulShutdown: {
        Task.detached {
          logger.info("HTTP service shuts down", metadata: ["answers": "\(environment.gate.running)"])
          await environment.gate.drain(grace: configuration.shutdownGrace)
          await group.triggerGracefulShutdown()
          try? await Task.sleep(for: GatewayLimits.closing)
          serving.cancel()
        }
      }
    } onCancel: {
      environment.gate.close()
      environment.gate.endAll()
      serving.cancel()
    }
    background?.cancel()
    environment.accepted?.close()
    await background?.value
    environment.log?.flush()
  }

  /// Goes on with what a process before this one has left, and with what comes.
  private func startAccepted(_ environment: GatewayEnvironment) async throws -> Task<Void, Never>? {
    guard let accepted = environment.accepted else { return nil }
    try await accepted.resume(environment)
    let slots = coordinator.status().router.slots
    let concurrency = configuration.batchConcurrency ?? max(1, slots / 2)
    // Detached: the shutdown of the group that runs us is no reason to stop before the answers under way have ended.
    return Task.detached { await accepted.runner.run(environment, concurrency: concurrency) }
  }

  private static func wait(for serving: Task<Void, any Error>, unavailable address: String) async throws {
    do {
      try await serving.value
    } catch let error as IOError {
      throw FusionRouteError.unavailable(
        "the HTTP service cannot listen on \(address); is another program using the port?", cause: error)
    } catch is CancellationError {
      // Our own doing.
    }
  }

  private func application(_ environment: GatewayEnvironment) throws -> some ApplicationProtocol {
    let tls = try configuration.certificate.flatMap { certificate in
      try configuration.privateKey.map { try TLSFiles.configuration(certificate: certificate, privateKey: $0) }
    }
    let connections = environment.connections
    let timeout = configuration.clientTimeout
    let maximumBody = configuration.maximumBody
    let server = HTTPServerBuilder { [logger] responder in
      let http = HTTP1Channel(
        responder: responder,
        configuration: .init(
          additionalChannelHandlers: [ConnectionHandler(timeout: timeout, maximumBody: maximumBody)],
          idleTimeout: TimeAmount(timeout),
          httpDecoderConfiguration: .init(
            maxHeaderFieldSize: GatewayLimits.headerField, maxHeaderListSize: GatewayLimits.headers,
            maxHeaderFieldCount: GatewayLimits.headerCount)))
      guard let tls else {
        return LimitedChannel(base: http, connections: connections, isEncrypted: false, log: logger)
      }
      return LimitedChannel(
        base: try TLSChannel(http, tlsConfiguration: tls), connections: connections, isEncrypted: true, log: logger)
    }
    return Application(
      router: GatewayRouter.build(environment), server: server,
      configuration: ApplicationConfiguration(
        address: .hostname(configuration.host, port: configuration.port), serverName: "fusionroute",
        backlog: GatewayLimits.backlog),
      onServerRunning: { [configuration, logger, port] channel in
        let bound = channel.localAddress?.port ?? configuration.port
        logger.info("serving HTTP", metadata: ["address": "\(configuration.host):\(bound)"])
        port.succeed(bound)
      },
      logger: quietLogger)
  }

  /// What Hummingbird has to say is for its developers, except when something breaks.
  private var quietLogger: Logger {
    var quiet = logger
    quiet.logLevel = max(quiet.logLevel, .error)
    return quiet
  }
}

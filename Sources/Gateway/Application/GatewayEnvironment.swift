internal import Coordinator
internal import Core
internal import Fusion
internal import Journal
internal import Logging
internal import NIOPosix

/// What all requests of a server share.
final class GatewayEnvironment: Sendable {
  let configuration: GatewayConfiguration
  let coordinator: CoordinatorRuntime
  /// nil: the workers were started by others.
  let scaler: (any ReplicaScaler)?
  let logger: Logger
  let policy: HostPolicy
  /// nil: everybody may.
  let keys: APIKeys?
  let metrics = GatewayMetrics()
  let gate = DrainGate()
  let bodies = BodyBudget(limit: GatewayLimits.bodies)
  let connections: ConnectionCount
  let log: RequestLog?
  let texts: TokenTexts
  /// nil: nothing is written down before it runs.
  let accepted: AcceptedRequests?
  /// Unix time in seconds.
  let started = UnixTime.now.seconds

  /// Throws `badInput` for files that cannot be used.
  init(
    configuration: GatewayConfiguration, coordinator: CoordinatorRuntime, scaler: (any ReplicaScaler)? = nil,
    logger: Logger
  ) throws {
    self.configuration = configuration
    self.coordinator = coordinator
    self.scaler = scaler
    self.logger = logger
    policy = HostPolicy(configuration)
    keys = try configuration.apiKeys.map { try APIKeys(path: $0, logger: logger) }
    let descriptors = DescriptorLimit.raise()
    let limit = DescriptorLimit.connections(
      wanted: configuration.maximumConnections, descriptors: descriptors, reserved: GatewayLimits.reservedDescriptors)
    if limit < configuration.maximumConnections {
      logger.warning(
        "fewer connections than configured: the limit of open files is too low",
        metadata: ["connections": "\(limit)", "files": "\(descriptors)"])
    }
    connections = ConnectionCount(limit: limit)
    log = try configuration.requestLog.map { try RequestLog(path: $0, logger: logger) }
    texts = TokenTexts(vocabulary: coordinator.router.vocabulary)
    accepted = try configuration.journal.map { path in
      var limits = JournalLimits()
      limits.bytes = configuration.journalBytes
      limits.retention = Int(configuration.journalRetention.components.seconds)
      let journal = try Journal(path: path, limits: limits, logger: logger)
      return AcceptedRequests(journal: journal, runner: BatchRunner(journal: journal, logger: logger))
    }
  }

  /// Experts that requests may name, those of the head first.
  var experts: [String] { coordinator.status().experts.map(\.name) }

  /// Tokens that a sequence of a mode may have; nil while an expert that alone would limit it has no replica.
  func contextLimit(for mode: DecodingMode) -> Int? {
    let limit = coordinator.contextLimit(for: mode)
    return limit < Int.max ? limit : nil
  }

  /// Runs what takes long on a thread of its own pool: a text of some megabytes takes the tokeniser seconds.
  func offloading<R: Sendable>(_ work: @escaping @Sendable () throws -> R) async throws -> R {
    try await NIOThreadPool.singleton.runIfActive(work)
  }

  /// An error as clients may see it.
  func told(_ error: any Error, param: String? = nil) -> GatewayError {
    GatewayError(error, param: param, retryAfter: coordinator.retryAfter, hiding: [coordinator.router.path])
  }

  /// Logs what is the server's own fault, with what its client is not told.
  func report(_ error: GatewayError, of requestID: String) {
    guard error.status.code >= 500, error.status != .serviceUnavailable else { return }
    logger.error(
      "request failed", metadata: ["request": "\(requestID)", "error": "\(error.detail ?? error.message)"])
  }
}

internal import Core
internal import Logging
internal import ServiceLifecycle

/// A cluster among the services of a daemon: ends when the services that use it have.
struct ClusterService: Service {
  let session: ClusterSession
  let logger: Logger

  /// Throws the failure of a worker that gives up before every expert has a replica.
  func run() async throws {
    do {
      try await cancelWhenGracefulShutdown {
        try await session.orWorkerFailure { try await untilReady() }
        logger.notice("ready: every expert has a replica")
        try await gracefulShutdown()
      }
    } catch is CancellationError {
      // Told to end.
    }
  }

  /// Returns when every expert has a replica; throws when cancelled. A worker that is refused meanwhile harms nobody:
  /// another may come.
  private func untilReady() async throws {
    var told = ""
    while true {
      try Task.checkCancellation()
      do {
        return try await session.coordinator.waitUntilReady(timeout: .seconds(3600))
      } catch let error as FusionRouteError where error.code != .interrupted {
        if error.message != told { logger.warning("not ready", metadata: ["reason": "\(error.message)"]) }
        told = error.message
        try await Task.sleep(for: .seconds(1))
      } catch {
        // The end came first.
        throw CancellationError()
      }
    }
  }
}

package import Coordinator
import Core
import Foundation
import Fusion
import Inference
package import Logging
package import Worker

/// A coordinator and its workers in this process, talking over a real socket.
package final class InProcessCluster: Sendable {
  package let coordinator: CoordinatorRuntime
  package let endpoint: String
  package let scratch: Scratch
  private let workers = LockedBox<[(name: String, runtime: WorkerRuntime, task: Task<Void, any Error>)]>([])
  private let logger: Logger

  package init(
    _ models: TestModels, scratch: Scratch, context: Int = 512, slots: Int = 4, logLevel: Logger.Level = .error,
    configure: (inout CoordinatorConfiguration) -> Void = { _ in }
  ) throws {
    var logger = Logger(label: "test")
    logger.logLevel = logLevel
    self.logger = logger
    self.scratch = scratch
    endpoint = "ipc://\(scratch.path("c.sock"))"
    var configuration = CoordinatorConfiguration(
      routerModel: models.router, routerHead: models.head, endpoints: [endpoint])
    configuration.context = context
    configuration.slots = slots
    configure(&configuration)
    coordinator = try CoordinatorRuntime.start(configuration, logger: logger)
    self.context = context
    self.slots = slots
  }

  package let context: Int
  package let slots: Int

  /// Starts one replica of an expert.
  @discardableResult
  package func startWorker(
    _ name: String, model: String, configure: (inout WorkerConfiguration) -> Void = { _ in }
  ) throws -> WorkerRuntime {
    var configuration = WorkerConfiguration(expert: name, model: model, coordinators: [endpoint])
    configuration.context = context
    configuration.slots = slots
    configure(&configuration)
    let runtime = try WorkerRuntime.start(configuration, logger: logger)
    let task = Task { try await runtime.run() }
    workers.withValue { $0.append((name, runtime, task)) }
    return runtime
  }

  package func startAll(_ models: TestModels, replicas: Int = 1) async throws {
    for (name, path) in models.experts {
      for _ in 0..<replicas { try startWorker(name, model: path) }
    }
    try await coordinator.waitUntilReady(timeout: .seconds(60))
  }

  package var workerRuntimes: [WorkerRuntime] { workers.withValue { $0.map(\.runtime) } }

  package func drain(_ name: String) {
    workers.withValue { $0.first { $0.name == name } }?.runtime.drain()
  }

  package func stop() async {
    await coordinator.shutdown()
    for worker in workers.withValue({ $0 }) {
      worker.runtime.drain()
      _ = await worker.task.result
    }
  }

  /// The whole answer to one request.
  package func answer(_ request: GenerationRequest) async throws -> (
    tokens: [GeneratedToken], summary: GenerationSummary
  ) {
    var tokens: [GeneratedToken] = []
    var summary: GenerationSummary?
    for try await event in coordinator.generate(request) {
      switch event {
      case .token(let token): tokens.append(token)
      case .finished(let end): summary = end
      }
    }
    guard let summary else { throw FusionRouteError.internal("the stream ended without a summary") }
    return (tokens, summary)
  }
}

/// Runs `body` with a running cluster and stops it whatever happens.
package func withCluster<R>(
  _ models: TestModels, scratch: Scratch, context: Int = 512, slots: Int = 4, replicas: Int = 1,
  logLevel: Logger.Level = .error, configure: (inout CoordinatorConfiguration) -> Void = { _ in },
  _ body: (InProcessCluster) async throws -> R
) async throws -> R {
  let cluster = try InProcessCluster(
    models, scratch: scratch, context: context, slots: slots, logLevel: logLevel, configure: configure)
  do {
    try await cluster.startAll(models, replicas: replicas)
    let result = try await body(cluster)
    await cluster.stop()
    return result
  } catch {
    await cluster.stop()
    throw error
  }
}

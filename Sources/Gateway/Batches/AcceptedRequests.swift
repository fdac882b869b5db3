internal import Core
internal import Journal
internal import Logging
internal import Synchronization

/// Requests that are written down before they run, and so outlive this process: those with an idempotency key, and batches.
final class AcceptedRequests: Sendable {
  let journal: Journal
  let runner: BatchRunner
  private let tasks = Mutex<[UInt64: Task<Void, Never>]>([:])
  private let next = Atomic<UInt64>(0)

  init(journal: Journal, runner: BatchRunner) {
    self.journal = journal
    self.runner = runner
  }

  /// Answers a request with an idempotency key that is new. Goes on when its client leaves: it may ask again.
  ///
  /// - Parameters:
  ///   - deadline: as its headers or the configuration say.
  ///   - trace: of the request that waits for it.
  func answer(
    _ request: StoredRequest, deadline: Duration?, trace: TraceContext, environment: GatewayEnvironment
  ) async throws -> (status: Int, body: [UInt8]) {
    let (stream, continuation) = AsyncStream.makeStream(of: Result<(status: Int, body: [UInt8]), any Error>.self)
    start { [self] in
      do {
        continuation.yield(
          .success(try await run(request, deadline: deadline, trace: trace, environment: environment)))
      } catch {
        // It was not answered: the same key may be tried anew, and is told so once that is true.
        await forget(request, environment)
        continuation.yield(.failure(error))
      }
      continuation.finish()
    }
    var iterator = stream.makeAsyncIterator()
    guard let result = await iterator.next() else { throw CancellationError() }
    return try result.get()
  }

  private func run(
    _ request: StoredRequest, deadline: Duration?, trace: TraceContext, environment: GatewayEnvironment
  ) async throws -> (status: Int, body: [UInt8]) {
    guard let route = AnswerPlanner.Route(rawValue: request.route) else {
      throw FusionRouteError.internal("the journal has a request for \(request.route)")
    }
    let outcome: UnattendedAnswers.Outcome
    do {
      outcome = try await UnattendedAnswers(environment: environment).answer(
        route, body: request.body, client: request.client, deadline: deadline, trace: trace, priority: .interactive)
    } catch {
      throw error.reason
    }
    // What went wrong on our side, or took too long, is not the answer for ever.
    if case .failed(let error) = outcome, error.status.code >= 500 { throw error }
    let isCounted = try await BatchRunner.untilWritten(environment.logger) {
      try await journal.settle(
        owner: request.owner, key: request.key, status: outcome.status, answer: outcome.body)
    }
    if !isCounted,
      case .answered(let status, let body) = try await journal.claim(
        owner: request.owner, key: request.key, route: request.route, body: request.body, client: request.client,
        now: UnixTime.now.seconds)
    {
      // Another computation of it was faster, and counts.
      return (status, body)
    }
    return (outcome.status, outcome.body)
  }

  /// A key that nobody works for must not stay taken.
  private func forget(_ request: StoredRequest, _ environment: GatewayEnvironment) async {
    try? await BatchRunner.untilWritten(environment.logger) {
      try await journal.forget(owner: request.owner, key: request.key)
    }
  }

  /// What a process before this one has accepted and not answered.
  func resume(_ environment: GatewayEnvironment) async throws {
    for request in try await journal.unansweredRequests() {
      start { [self] in
        var pause = BatchRunner.firstPause
        while !Task.isCancelled, !environment.gate.isDraining {
          do {
            _ = try await run(
              request, deadline: environment.configuration.requestDeadline,
              trace: TraceContext(traceparent: nil, requestID: nil), environment: environment)
            return
          } catch let error as GatewayError where error.status.code == 503 || error.status.code == 429 {
            try? await Task.sleep(for: pause)
            pause = min(pause * 2, BatchRunner.longestPause)
          } catch is CancellationError {
            return
          } catch {
            environment.logger.warning(
              "accepted request not answered", metadata: ["key": "\(request.key)", "error": "\(error)"])
            await forget(request, environment)
            return
          }
        }
      }
    }
  }

  private func start(_ work: @escaping @Sendable () async -> Void) {
    let id = next.add(1, ordering: .relaxed).newValue
    tasks.withLock { tasks in
      tasks[id] = Task { [weak self] in
        await work()
        self?.tasks.withLock { $0[id] = nil }
      }
    }
  }

  /// Ends what still runs; it stays written down.
  func close() {
    let running = tasks.withLock { Array($0.values) }
    for task in running { task.cancel() }
  }
}

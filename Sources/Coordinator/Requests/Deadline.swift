internal import Core

/// Runs `body`, cancelled once `deadline` has passed since `arrival`.
///
/// - Throws: ``FusionRouteError`` `.deadlineExceeded` after `body` has stopped.
func withDeadline<R: Sendable>(
  _ deadline: Duration?, since arrival: ContinuousClock.Instant, _ body: @escaping @Sendable () async throws -> R
) async throws -> R {
  guard let deadline else { return try await body() }
  return try await withThrowingTaskGroup(of: R.self) { group in
    group.addTask { try await body() }
    group.addTask {
      try await Task.sleep(until: arrival + deadline, clock: .continuous)
      throw FusionRouteError(
        .deadlineExceeded, "the request was not done within its deadline of \(deadline), waiting included")
    }
    defer { group.cancelAll() }
    guard let first = try await group.next() else { throw CancellationError() }
    return first
  }
}

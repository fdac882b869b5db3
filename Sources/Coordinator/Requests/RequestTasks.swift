internal import Synchronization

/// The tasks of requests under way, so that a shutdown can end them.
final class RequestTasks: Sendable {
  private struct Entry: Sendable {
    var cancel: @Sendable () -> Void
    var ended: @Sendable () async -> Void
  }

  private struct State {
    var entries: [UInt64: Entry] = [:]
    var closed = false
  }

  private let state = Mutex(State())

  var count: Int { state.withLock { $0.entries.count } }
  var isClosed: Bool { state.withLock { $0.closed } }

  /// Starts `work` as a task of its own, already cancelled if the runtime is shutting down.
  func start<R: Sendable>(
    _ request: UInt64, _ work: @escaping @Sendable () async throws -> R
  ) -> Task<R, any Error> {
    // Made under the lock: the task takes itself off the list at its end, which must not come first.
    state.withLock { state in
      let task = Task {
        defer { remove(request) }
        return try await work()
      }
      if state.closed { task.cancel() }
      state.entries[request] = Entry(cancel: { task.cancel() }, ended: { _ = await task.result })
      return task
    }
  }

  private func remove(_ request: UInt64) { state.withLock { _ = $0.entries.removeValue(forKey: request) } }

  /// Cancels every task, now and later, and waits for those under way.
  func close() async {
    let entries = state.withLock { state in
      state.closed = true
      return Array(state.entries.values)
    }
    for entry in entries { entry.cancel() }
    for entry in entries { await entry.ended() }
  }
}

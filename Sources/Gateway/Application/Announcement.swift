internal import Synchronization

/// A value that comes once, for any number of waiters.
final class Announcement<Value: Sendable>: Sendable {
  private struct State {
    var result: Result<Value, any Error>?
    var next: UInt64 = 0
    var waiting: [UInt64: CheckedContinuation<Value, any Error>] = [:]
  }

  private let state = Mutex(State())

  /// Only the first result counts.
  func succeed(_ value: Value) { announce(.success(value)) }
  func fail(_ error: any Error) { announce(.failure(error)) }

  private func announce(_ result: Result<Value, any Error>) {
    let waiting = state.withLock { state -> [CheckedContinuation<Value, any Error>] in
      guard state.result == nil else { return [] }
      state.result = result
      defer { state.waiting = [:] }
      return Array(state.waiting.values)
    }
    for continuation in waiting { continuation.resume(with: result) }
  }

  /// Throws what was announced as a failure, or that the waiting task was cancelled.
  func value() async throws -> Value {
    let id = state.withLock { state in
      state.next += 1
      return state.next
    }
    return try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        let result: Result<Value, any Error>? = state.withLock { state in
          if let result = state.result { return result }
          if Task.isCancelled { return .failure(CancellationError()) }
          state.waiting[id] = continuation
          return nil
        }
        if let result { continuation.resume(with: result) }
      }
    } onCancel: {
      state.withLock { $0.waiting.removeValue(forKey: id) }?.resume(throwing: CancellationError())
    }
  }
}

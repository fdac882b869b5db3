internal import Synchronization

/// What has become of batches and their items since the start.
final class BatchCounts: Sendable {
  struct State: Equatable {
    var accepted: UInt64 = 0
    var finished: UInt64 = 0
    var failed: UInt64 = 0
    var running = 0
    /// As of the runner's last look.
    var open = 0
    /// Items of open batches without an answer, as of the last look, less those answered since.
    var waiting = 0
  }

  private let state = Mutex(State())

  var current: State { state.withLock { $0 } }

  func accepted() { state.withLock { $0.accepted += 1 } }

  func looked(open: Int, waiting: Int) {
    state.withLock { state in
      state.open = open
      state.waiting = waiting
    }
  }

  func started() { state.withLock { $0.running += 1 } }

  /// - Parameter succeeded: nil: it ends without an answer.
  func ended(succeeded: Bool?) {
    state.withLock { state in
      state.running -= 1
      guard let succeeded else { return }
      if succeeded { state.finished += 1 } else { state.failed += 1 }
      state.waiting = max(0, state.waiting - 1)
    }
  }
}

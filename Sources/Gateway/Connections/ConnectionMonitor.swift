internal import NIOCore
internal import Synchronization

/// Tells those who work for a connection when its client has gone.
final class ConnectionMonitor: Sendable {
  private struct State {
    var isGone = false
    var next: UInt64 = 0
    var actions: [UInt64: @Sendable () -> Void] = [:]
  }

  private let state = Mutex(State())

  /// Runs `action` once, when the client closes the connection or at once if it has.
  ///
  /// - Returns: takes the action back when let go.
  func onGone(_ action: @escaping @Sendable () -> Void) -> Watch {
    let id: UInt64? = state.withLock { state in
      guard !state.isGone else { return nil }
      state.next += 1
      state.actions[state.next] = action
      return state.next
    }
    if id == nil { action() }
    return Watch(self, id ?? 0)
  }

  final class Watch: Sendable {
    private let monitor: ConnectionMonitor
    private let id: UInt64

    fileprivate init(_ monitor: ConnectionMonitor, _ id: UInt64) {
      self.monitor = monitor
      self.id = id
    }

    deinit { _ = monitor.state.withLock { $0.actions.removeValue(forKey: id) } }
  }

  func gone() {
    let actions = state.withLock { state in
      state.isGone = true
      defer { state.actions = [:] }
      return Array(state.actions.values)
    }
    for action in actions { action() }
  }
}

internal import Synchronization

/// Knows the answers under way, admits none while the server shuts down, and ends those that take too long then.
final class DrainGate: Sendable {
  private struct State {
    var isDraining = false
    var next: UInt64 = 0
    var running: [UInt64: @Sendable () -> Void] = [:]
    var waiting: CheckedContinuation<Void, Never>?
  }

  private let state = Mutex(State())

  /// One answer under way, until it is let go.
  final class Pass: Sendable {
    private let gate: DrainGate
    private let id: UInt64

    fileprivate init(_ gate: DrainGate, _ id: UInt64) {
      self.gate = gate
      self.id = id
    }

    deinit { gate.leave(id) }
  }

  var isDraining: Bool { state.withLock { $0.isDraining } }
  var running: Int { state.withLock { $0.running.count } }

  /// - Parameter end: ends the answer, when shutting down has taken too long.
  /// - Throws: ``GatewayError/shuttingDown``.
  func enter(end: @escaping @Sendable () -> Void) throws -> Pass {
    let id: UInt64? = state.withLock { state in
      guard !state.isDraining else { return nil }
      state.next += 1
      state.running[state.next] = end
      return state.next
    }
    guard let id else { throw GatewayError.shuttingDown }
    return Pass(self, id)
  }

  private func leave(_ id: UInt64) {
    let waiting = state.withLock { state -> CheckedContinuation<Void, Never>? in
      state.running[id] = nil
      guard state.running.isEmpty else { return nil }
      defer { state.waiting = nil }
      return state.waiting
    }
    waiting?.resume()
  }

  /// Admits no more answers.
  func close() { state.withLock { $0.isDraining = true } }

  /// Waits for the answers under way, and ends them after `grace`. To be called once.
  func drain(grace: Duration) async {
    close()
    await withTaskGroup(of: Void.self) { group in
      group.addTask { await self.waitUntilEmpty() }
      group.addTask {
        try? await Task.sleep(for: grace)
        if !Task.isCancelled { self.endAll() }
      }
      await group.next()
      // Either nothing runs any more, or all was told to end: that is quick, and not waited for longer than it is.
      group.cancelAll()
    }
  }

  private func waitUntilEmpty() async {
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let isEmpty = state.withLock { state in
          if state.running.isEmpty || Task.isCancelled { return true }
          state.waiting = continuation
          return false
        }
        if isEmpty { continuation.resume() }
      }
    } onCancel: {
      let waiting = state.withLock { state in
        defer { state.waiting = nil }
        return state.waiting
      }
      waiting?.resume()
    }
  }

  func endAll() {
    let running = state.withLock { Array($0.running.values) }
    for end in running { end() }
  }
}

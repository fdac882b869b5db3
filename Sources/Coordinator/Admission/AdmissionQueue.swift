internal import Core
internal import Synchronization

/// Where requests wait for a slot; whose turn it is decides the ``AdmissionGate``.
final class AdmissionQueue: Sendable {
  private enum Outcome {
    case admitted
    case cancelled
    case refused(AdmissionGate.Decision)
  }

  private struct State {
    var gate: AdmissionGate
    var waiting: [UInt64: CheckedContinuation<Outcome, Never>] = [:]
    var closed = false
  }

  private let state: Mutex<State>

  init(limit: Int, limits: AdmissionGate.Limits) {
    state = Mutex(State(gate: AdmissionGate(limit: limit, limits: limits)))
  }

  /// Requests that run and that wait, and how many may run.
  var counts: (running: Int, waiting: Int, limit: Int) {
    state.withLock { ($0.gate.runningCount, $0.gate.waitingCount, $0.gate.limit) }
  }

  /// Waits for a slot, which the caller gives back with ``leave(_:used:)``.
  ///
  /// - Parameter cost: the request's tokens as far as they are known.
  /// - Throws: `CancellationError`; ``FusionRouteError`` `.overloaded` when the queue is full.
  func admit(_ request: UInt64, client: String, cost: Int) async throws {
    let outcome = await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let outcome: Outcome? = state.withLock { state in
          // Under the lock, which the handler of a cancellation takes too: one of the two sees the other.
          if Task.isCancelled { return .cancelled }
          switch state.gate.arrive(request, client: client, cost: cost) {
          case .start: return .admitted
          case .wait:
            state.waiting[request] = continuation
            return nil
          case .refuse: return .refused(.refuse)
          case .refuseClient: return .refused(.refuseClient)
          }
        }
        if let outcome { continuation.resume(returning: outcome) }
      }
    } onCancel: {
      giveUp(request)
    }
    switch outcome {
    case .admitted: return
    case .cancelled: throw CancellationError()
    case .refused(let decision):
      let limits = state.withLock { $0.gate.limits }
      throw FusionRouteError(
        .overloaded,
        decision == .refuseClient
          ? "\(limits.waitingPerClient) requests of this client are waiting already: send fewer at once, or try again later"
          : "\(limits.waiting) requests are waiting already: try again later")
    }
  }

  /// The request has ended, having taken `used` tokens beyond its cost.
  func leave(_ request: UInt64, used: Int = 0) { resume { $0.leave(request, used: used) } }

  /// Replicas came or went.
  func setLimit(_ limit: Int) { resume { $0.setLimit(limit) } }

  /// Nobody who waits gets a slot any more: a shutdown is about to cancel all requests, and those that it reaches last must
  /// not begin in the place of those that it reached first.
  func close() { state.withLock { $0.closed = true } }

  private func giveUp(_ request: UInt64) {
    let continuation = state.withLock { state in
      let continuation = state.waiting.removeValue(forKey: request)
      // One that runs gives its slot back itself, at its end.
      if continuation != nil { _ = state.gate.leave(request) }
      return continuation
    }
    continuation?.resume(returning: .cancelled)
  }

  private func resume(_ change: (inout AdmissionGate) -> [UInt64]) {
    let started = state.withLock { state in
      let started = change(&state.gate)
      return state.closed ? [] : started.compactMap { state.waiting.removeValue(forKey: $0) }
    }
    for continuation in started { continuation.resume(returning: .admitted) }
  }
}

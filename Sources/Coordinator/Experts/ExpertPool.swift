internal import Core
internal import Fusion
internal import Logging
internal import Messaging
internal import Synchronization
internal import Wire

/// The workers: who they are, what is under way with each, and the conversation with them.
///
/// Its callbacks run on the messaging thread and only touch state under one lock; decoding tasks await the answers.
/// Decisions are those of ``ReplicaRegistry``, ``PlacementPolicy``, ``HedgePolicy`` and ``StepAssembly``.
final class ExpertPool: Sendable {
  struct State {
    var registry: ReplicaRegistry<PeerID>
    var calls: [UInt64: Call] = [:]
    /// Steps that tasks wait for, by their first request.
    var steps: [UInt64: PendingStep] = [:]
    var hedging: [String: HedgePolicy] = [:]
    var counts = FaultCounts()
    var nextRequest: UInt64 = 1
    var comparisons: [ReplicaID: VocabularyComparison] = [:]
    var refusals: [String: String] = [:]
    var consumed: [ReplicaID: UInt64] = [:]
    var waiters: [UInt64: (deadline: UInt64, continuation: CheckedContinuation<Void, Never>)] = [:]
    var nextWaiter: UInt64 = 1
    /// How often replicas have come or gone.
    var changes: UInt64 = 0
    var lastHeartbeat: UInt64 = 0
    var lastTick: UInt64 = .max
    var heartbeats: UInt64 = 0
    var closed = false
    var doors = DoorLimits()
    var turnedAway = DoorCounts()
  }

  /// This coordinator's random incarnation; workers tell its sequences from those of others by it.
  let incarnation: UInt64
  let vocabulary: VocabularyTexts
  let heartbeatInterval: UInt64
  let hedgeLimits: HedgePolicy.Limits
  let logger: Logger
  let state: Mutex<State>
  /// Set by the server itself before its first callback, cleared at the end.
  let server = Mutex<MessageServer?>(nil)
  private let capacityChanged = Mutex<(@Sendable () -> Void)?>(nil)

  init(
    requirements: ReplicaRegistry<PeerID>.Requirements, limits: ReplicaRegistry<PeerID>.Limits,
    vocabulary: VocabularyTexts, heartbeatInterval: Duration, hedging: HedgePolicy.Limits = .init(), logger: Logger
  ) {
    incarnation = UInt64.random(in: 1...UInt64.max)
    self.vocabulary = vocabulary
    self.heartbeatInterval = heartbeatInterval.nanoseconds
    hedgeLimits = hedging
    self.logger = logger
    state = Mutex(State(registry: ReplicaRegistry(requirements: requirements, limits: limits)))
  }

  func onCapacityChange(_ body: @escaping @Sendable () -> Void) { capacityChanged.withLock { $0 = body } }

  /// Hands a message over and never waits, so that the lock of ``state`` may be held.
  func send(_ message: WireMessage, to peer: PeerID) {
    server.withLock { $0 }?.send(WireCodec.encode(message), to: peer)
  }

  // MARK: Waiting

  /// Wakes everyone who waits for replicas to come or go.
  func changed() {
    let waiters = state.withLock { state in
      state.changes += 1
      defer { state.waiters.removeAll() }
      return state.waiters.values.map(\.continuation)
    }
    for waiter in waiters { waiter.resume() }
    capacityChanged.withLock { $0 }?()
  }

  /// How often replicas have come or gone; to be read before one looks for what ``waitForChange(since:until:)`` is then
  /// to wait for.
  var changes: UInt64 { state.withLock { $0.changes } }

  /// Returns once there are more changes than `seen`, at `deadline` (nanoseconds) or on cancellation.
  func waitForChange(since seen: UInt64, until deadline: UInt64) async {
    let id = state.withLock { state in
      defer { state.nextWaiter += 1 }
      return state.nextWaiter
    }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let waits = state.withLock { state in
          guard !state.closed, !Task.isCancelled, state.changes == seen else { return false }
          state.waiters[id] = (deadline, continuation)
          return true
        }
        if !waits { continuation.resume() }
      }
    } onCancel: {
      state.withLock { $0.waiters.removeValue(forKey: id) }?.continuation.resume()
    }
  }

  /// Experts that no replica serves, and what was said to workers that were refused.
  func readiness() -> (missing: [String], refusals: [String: String]) {
    state.withLock { ($0.registry.missingExperts, $0.refusals) }
  }

  /// Sequences that may run at once, by the scarcest expert; nil while one is missing.
  func capacity(of experts: Set<String>) -> Int? {
    state.withLock { state in experts.map { state.registry.capacity($0) }.min() }
  }

  /// See ``ReplicaRegistry/contexts(of:)``.
  func contexts(of experts: Set<String>) -> [String: Int] {
    state.withLock { $0.registry.contexts(of: experts) }
  }

  func close() {
    let (calls, waiters, peers) = state.withLock { state in
      state.closed = true
      defer {
        state.calls.removeAll()
        state.waiters.removeAll()
      }
      return (
        Array(state.calls.values), state.waiters.values.map(\.continuation),
        state.registry.replicas.keys.compactMap { state.registry.peer(of: $0) }
      )
    }
    for call in calls { finish(call, with: .cancelled) }
    for waiter in waiters { waiter.resume() }
    for peer in peers { send(.goodbye(Goodbye(sender: incarnation, reason: "the coordinator stops")), to: peer) }
    // The last reference waits for a callback under way, which may want the lock.
    _ = server.withLock { server in
      defer { server = nil }
      return server
    }
  }
}

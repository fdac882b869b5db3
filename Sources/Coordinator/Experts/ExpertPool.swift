internal import Core
internal import Fusion
internal import Logging
internal import Messaging
internal import Synchronization
internal import Wire

/// The workers: who they are, what is under way with each, and the conversation with them.
///
/// Its callbacks run on the messaging thread and only touch state under one lock; decoding tasks await the answers.
/// Decisions are those of ``ReplicaRegistry`` and ``StepAssembly``.
final class ExpertPool: Sendable {
  struct Call {
    enum Kind {
      case step(StepAssembly, CheckedContinuation<CallOutcome, Never>)
      case score(AsyncThrowingStream<ScorePart, any Error>.Continuation)
    }
    var kind: Kind
    let replica: ReplicaID
    let sent: UInt64
    let timeout: UInt64
    var deadline: UInt64

    init(kind: Kind, replica: ReplicaID, now: UInt64, timeout: Duration) {
      self.kind = kind
      self.replica = replica
      self.timeout = timeout.nanoseconds
      sent = now
      deadline = now + self.timeout
    }
  }

  struct State {
    var registry: ReplicaRegistry<PeerID>
    var calls: [UInt64: Call] = [:]
    var nextRequest: UInt64 = 1
    var comparisons: [ReplicaID: VocabularyComparison] = [:]
    var refusals: [String: String] = [:]
    var consumed: [ReplicaID: UInt64] = [:]
    var waiters: [UInt64: (deadline: UInt64, continuation: CheckedContinuation<Void, Never>)] = [:]
    var nextWaiter: UInt64 = 1
    var lastHeartbeat: UInt64 = 0
    var lastTick: UInt64 = .max
    var heartbeats: UInt64 = 0
    var closed = false
    var doors = DoorLimits()
  }

  /// This coordinator's random incarnation; workers tell its sequences from those of others by it.
  let incarnation: UInt64
  let vocabulary: VocabularyTexts
  let heartbeatInterval: UInt64
  let logger: Logger
  let state: Mutex<State>
  /// Set by the server itself before its first callback, cleared at the end.
  let server = Mutex<MessageServer?>(nil)
  private let capacityChanged = Mutex<(@Sendable () -> Void)?>(nil)

  init(
    requirements: ReplicaRegistry<PeerID>.Requirements, limits: ReplicaRegistry<PeerID>.Limits,
    vocabulary: VocabularyTexts, heartbeatInterval: Duration, logger: Logger
  ) {
    incarnation = UInt64.random(in: 1...UInt64.max)
    self.vocabulary = vocabulary
    self.heartbeatInterval = heartbeatInterval.nanoseconds
    self.logger = logger
    state = Mutex(State(registry: ReplicaRegistry(requirements: requirements, limits: limits)))
  }

  func onCapacityChange(_ body: @escaping @Sendable () -> Void) { capacityChanged.withLock { $0 = body } }

  func send(_ message: WireMessage, to peer: PeerID) {
    server.withLock { $0 }?.send(WireCodec.encode(message), to: peer)
  }

  // MARK: Steps

  /// Sends one step to a replica and waits for its answer, its loss or the deadline.
  func step(
    _ step: PrefixStep, wants: [Step.Want], sequence: UInt64, replica: ReplicaID, timeout: Duration,
    trace: TraceContext?
  ) async -> CallOutcome {
    let request = state.withLock { state in
      defer { state.nextRequest += 1 }
      return state.nextRequest
    }
    return await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let message = Step(
          request: request, coordinator: incarnation, sequence: sequence, epoch: step.epoch,
          baseLength: step.baseLength, baseHash: step.baseHash, append: step.append, wants: wants,
          deadlineMilliseconds: timeout.milliseconds, trace: trace)
        start(message, replica: replica, timeout: timeout, continuation)
      }
    } onCancel: {
      cancel(request)
    }
  }

  private func start(
    _ step: Step, replica: ReplicaID, timeout: Duration, _ continuation: CheckedContinuation<CallOutcome, Never>
  ) {
    let assembly = StepAssembly(
      epoch: step.epoch, sequence: step.sequence, length: step.baseLength + step.append.count, wants: step.wants,
      vocabulary: vocabulary.size)
    let peer: PeerID? = state.withLock { state in
      guard !state.closed, !Task.isCancelled, let peer = state.registry.peer(of: replica) else { return nil }
      let now = MonotonicClock.now
      state.calls[step.request] = Call(
        kind: .step(assembly, continuation), replica: replica, now: now, timeout: timeout)
      state.registry.callStarted(replica, now: now)
      return peer
    }
    guard let peer else {
      continuation.resume(returning: Task.isCancelled ? .cancelled : .lost(reason: "it has left"))
      return
    }
    send(.step(step), to: peer)
    cancelIfGone(step.request, at: peer)
  }

  /// A request that was cancelled while its message was on its way out: the worker was told before it knew of it.
  func cancelIfGone(_ request: UInt64, at peer: PeerID) {
    if state.withLock({ $0.calls[request] == nil }) { send(.cancel(Cancel(request: request)), to: peer) }
  }

  /// Forgets a request and tells its worker to stop; its waiting task goes on with `.cancelled`.
  func cancel(_ request: UInt64) {
    guard let (call, peer) = take(request) else { return }
    if let peer { send(.cancel(Cancel(request: request)), to: peer) }
    finish(call, with: .cancelled)
  }

  /// Removes a call from the books.
  func take(_ request: UInt64) -> (Call, PeerID?)? {
    state.withLock { state in
      guard let call = state.calls.removeValue(forKey: request) else { return nil }
      state.registry.callEnded(call.replica)
      return (call, state.registry.peer(of: call.replica))
    }
  }

  func finish(_ call: Call, with outcome: CallOutcome) {
    switch call.kind {
    case .step(_, let continuation): continuation.resume(returning: outcome)
    case .score(let continuation):
      switch outcome {
      case .failure(_, let message): continuation.finish(throwing: FusionRouteError.unavailable(message))
      case .lost(let reason):
        continuation.finish(throwing: FusionRouteError.unavailable("a worker was lost while it scored: \(reason)"))
      case .cancelled: continuation.finish(throwing: CancellationError())
      case .reply, .missing: continuation.finish()
      }
    }
  }

  /// The sequence has ended: every replica that holds it may drop it.
  func release(_ sequence: UInt64, at replica: ReplicaID) {
    let peer = state.withLock { state in
      state.registry.unassign(sequence, from: replica)
      return state.registry.peer(of: replica)
    }
    if let peer { send(.release(Release(sequence: sequence)), to: peer) }
  }

  // MARK: Placement

  /// A replica for the sequence and the fingerprint of what it serves; nil when there is none now.
  func place(
    _ expert: String, sequence: UInt64, fingerprint: SHA256Digest?, excluding: Set<ReplicaID>
  ) -> (id: ReplicaID, offer: ReplicaOffer)? {
    state.withLock { state in
      guard
        let id = state.registry.place(expert, fingerprint: fingerprint, excluding: excluding)
          ?? state.registry.place(expert, fingerprint: fingerprint, excluding: []),
        let replica = state.registry.replicas[id]
      else { return nil }
      state.registry.assign(sequence, to: id)
      return (id, replica.offer)
    }
  }

  /// The same, waiting for one until `deadline` (nanoseconds) while there is none.
  func placeWaiting(
    _ expert: String, sequence: UInt64, fingerprint: SHA256Digest? = nil, excluding: Set<ReplicaID>,
    until deadline: UInt64
  ) async throws -> (id: ReplicaID, offer: ReplicaOffer)? {
    while true {
      try Task.checkCancellation()
      if let placed = place(expert, sequence: sequence, fingerprint: fingerprint, excluding: excluding) {
        return placed
      }
      guard MonotonicClock.now < deadline else { return nil }
      await waitForChange(until: deadline)
    }
  }

  /// Whether the replica still takes steps of sequences placed on it.
  func serves(_ replica: ReplicaID) -> Bool {
    state.withLock { state in
      guard let found = state.registry.replicas[replica] else { return false }
      switch found.state {
      case .serving: return true
      // Drained sequences move on as soon as there is another home for them.
      case .draining: return state.registry.serving(found.offer.expert).isEmpty
      case .verifying, .quarantined: return false
      }
    }
  }

  func quarantine(_ replica: ReplicaID, reason: String) {
    logger.error("replica quarantined", metadata: ["replica": "\(replica)", "reason": "\(reason)"])
    let calls = state.withLock { state in
      state.registry.quarantine(replica)
      return Self.takeCalls(of: replica, from: &state)
    }
    for call in calls { finish(call, with: .lost(reason: reason)) }
    changed()
  }

  static func takeCalls(of replica: ReplicaID, from state: inout State) -> [Call] {
    let requests = state.calls.filter { $0.value.replica == replica }.map(\.key)
    return requests.compactMap { request in
      state.registry.callEnded(replica)
      return state.calls.removeValue(forKey: request)
    }
  }

  /// Drops what is kept of a replica beside the registry.
  static func forget(_ replica: ReplicaID, _ state: inout State) {
    state.comparisons[replica] = nil
    state.consumed[replica] = nil
    state.doors.unasked.forget(replica)
  }

  /// A replica is gone: its calls end as lost, and whoever waits for a change looks again.
  func lose(_ replica: ReplicaID, reason: String) {
    let (calls, known) = state.withLock { state -> ([Call], Bool) in
      guard !state.closed, state.registry.replicas[replica] != nil else { return ([], false) }
      let calls = Self.takeCalls(of: replica, from: &state)
      state.registry.remove(replica)
      Self.forget(replica, &state)
      return (calls, true)
    }
    guard known else { return }
    logger.warning("replica lost", metadata: ["replica": "\(replica)", "reason": "\(reason)"])
    for call in calls { finish(call, with: .lost(reason: reason)) }
    changed()
  }

  // MARK: Waiting

  /// Wakes everyone who waits for replicas to come or go.
  func changed() {
    let waiters = state.withLock { state in
      defer { state.waiters.removeAll() }
      return state.waiters.values.map(\.continuation)
    }
    for waiter in waiters { waiter.resume() }
    capacityChanged.withLock { $0 }?()
  }

  /// Returns at the next change, at `deadline` (nanoseconds) or on cancellation.
  func waitForChange(until deadline: UInt64) async {
    let id = state.withLock { state in
      defer { state.nextWaiter += 1 }
      return state.nextWaiter
    }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let waits = state.withLock { state in
          guard !state.closed, !Task.isCancelled else { return false }
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
    server.withLock { $0 = nil }
  }
}

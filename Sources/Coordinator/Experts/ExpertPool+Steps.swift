internal import Core
internal import Fusion
internal import Messaging
internal import Wire

/// A step, whoever computes it.
struct StepOrder: Sendable {
  let expert: String
  let sequence: UInt64
  /// The whole prefix; what the first replica lacks of it stands in the plan, a second one is sent all of it.
  let chain: TokenChain
  let wants: [Step.Want]
  let pin: ReplicaPin
  let timeout: Duration
  let trace: TraceContext?

  var hasFullRow: Bool { wants.contains(where: \.fullRow) }
}

extension ExpertPool {
  /// One request under way with one replica.
  struct Call {
    enum Kind {
      /// `step` is the first request of the step that it belongs to: its own number unless it is a hedge.
      case step(StepAssembly, step: UInt64)
      case score(AsyncThrowingStream<ScorePart, any Error>.Continuation, fullRows: Bool)
    }
    var kind: Kind
    let request: UInt64
    let replica: ReplicaID
    /// Tokens that were sent along.
    let tokens: Int
    let sent: UInt64
    let timeout: UInt64
    var deadline: UInt64

    init(kind: Kind, request: UInt64, replica: ReplicaID, tokens: Int, now: UInt64, timeout: Duration) {
      self.kind = kind
      self.request = request
      self.replica = replica
      self.tokens = tokens
      self.timeout = timeout.nanoseconds
      sent = now
      deadline = now + self.timeout
    }
  }

  /// A step that a task waits for: one request, or two once it was hedged.
  struct PendingStep {
    let order: StepOrder
    let continuation: CheckedContinuation<CallOutcome, Never>
    /// What a hedge is sent under; the sequence goes on with it if it moves.
    let hedgeEpoch: UInt32
    var open: Set<UInt64>
    var hedgeAt: UInt64
    /// How the first request ended, while the hedge is still under way.
    var outcome: CallOutcome?
  }

  /// What is to be done, outside the lock, once a request has ended.
  struct Settlement {
    var resume: (continuation: CheckedContinuation<CallOutcome, Never>, outcome: CallOutcome)?
    var messages: [(WireMessage, PeerID)] = []
  }

  // MARK: Sending

  /// Sends one step to a replica and waits for its answer, its loss or the deadline. A step that takes unusually long is
  /// sent to a second replica too, and the first valid answer counts: the result says whose it is.
  func step(_ plan: PrefixStep, _ order: StepOrder, replica: ReplicaID) async -> CallOutcome {
    let request = state.withLock { state in
      defer { state.nextRequest += 1 }
      return state.nextRequest
    }
    return await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in start(request, plan, order, replica: replica, continuation) }
    } onCancel: {
      cancel(request)
    }
  }

  private func message(_ request: UInt64, _ plan: PrefixStep, _ order: StepOrder) -> Step {
    Step(
      request: request, coordinator: incarnation, sequence: order.sequence, epoch: plan.epoch,
      baseLength: plan.baseLength, baseHash: plan.baseHash, append: plan.append, wants: order.wants,
      deadlineMilliseconds: order.timeout.milliseconds, trace: order.trace)
  }

  private func call(_ step: Step, _ order: StepOrder, first: UInt64, replica: ReplicaID, now: UInt64) -> Call {
    let assembly = StepAssembly(
      epoch: step.epoch, sequence: step.sequence, length: step.baseLength + step.append.count, wants: step.wants,
      vocabulary: vocabulary.size)
    return Call(
      kind: .step(assembly, step: first), request: step.request, replica: replica, tokens: step.append.count, now: now,
      timeout: order.timeout)
  }

  private func start(
    _ request: UInt64, _ plan: PrefixStep, _ order: StepOrder, replica: ReplicaID,
    _ continuation: CheckedContinuation<CallOutcome, Never>
  ) {
    let step = message(request, plan, order)
    let peer: PeerID? = state.withLock { state in
      guard !state.closed, !Task.isCancelled, let peer = state.registry.peer(of: replica) else { return nil }
      let now = MonotonicClock.now
      let budget = state.hedging[order.expert, default: HedgePolicy(limits: hedgeLimits)].began(
        tokens: plan.append.count, fullRow: order.hasFullRow)
      state.steps[request] = PendingStep(
        order: order, continuation: continuation, hedgeEpoch: plan.epoch &+ 1, open: [request],
        hedgeAt: budget.map { now + $0 } ?? .max)
      state.calls[request] = call(step, order, first: request, replica: replica, now: now)
      state.registry.callStarted(replica, now: now)
      return peer
    }
    guard let peer else {
      continuation.resume(returning: Task.isCancelled ? .cancelled : .lost(reason: "it has left"))
      return
    }
    send(.step(step), to: peer)
    cancelIfGone(request, at: peer)
  }

  /// A request that was cancelled while its message was on its way out: the worker was told before it knew of it.
  func cancelIfGone(_ request: UInt64, at peer: PeerID) {
    if state.withLock({ $0.calls[request] == nil }) { send(.cancel(Cancel(request: request)), to: peer) }
  }

  // MARK: Hedging

  /// Sends steps that are over their budget to a second replica each, where one has room and the share allows it.
  func hedge(now: UInt64) {
    let hedged = state.withLock { state in
      state.steps.filter { $0.value.hedgeAt <= now }.keys.sorted().compactMap { first in
        hedge(first, now: now, in: &state)
      }
    }
    for (step, peer, from, to) in hedged {
      logger.info(
        "slow step sent to a second replica",
        metadata: ["sequence": "\(step.sequence)", "replica": "\(from)", "second": "\(to)"])
      send(.step(step), to: peer)
      cancelIfGone(step.request, at: peer)
    }
  }

  private func hedge(
    _ first: UInt64, now: UInt64, in state: inout State
  ) -> (Step, PeerID, from: ReplicaID, to: ReplicaID)? {
    guard var pending = state.steps[first], let slow = state.calls[first]?.replica else { return nil }
    let order = pending.order
    guard
      let second = state.registry.place(
        order.expert, pin: order.pin, excluding: [slow], prefix: PrefixBlocks(order.chain), needsRoom: true, now: now),
      let peer = state.registry.peer(of: second),
      state.hedging[order.expert]?.spend() == true
    else { return nil }
    let request = state.nextRequest
    state.nextRequest += 1
    let whole = PrefixStep(
      epoch: pending.hedgeEpoch, baseLength: 0, baseHash: .empty, append: order.chain.tokens)
    let step = message(request, whole, order)
    state.calls[request] = call(step, order, first: first, replica: second, now: now)
    state.registry.callStarted(second, now: now)
    state.registry.assign(order.sequence, to: second)
    pending.open.insert(request)
    pending.hedgeAt = .max
    state.steps[first] = pending
    state.counts.hedges += 1
    return (step, peer, slow, second)
  }

  // MARK: Ending

  /// Forgets a request and tells its worker to stop; its waiting task goes on with `.cancelled`.
  func cancel(_ request: UInt64) {
    guard let (call, peer) = take(request) else {
      // The first request of a hedged step may be over while the second is not.
      let second = state.withLock { $0.steps[request]?.open.first { $0 != request } }
      if let second { cancel(second) }
      return
    }
    if let peer { send(.cancel(Cancel(request: request)), to: peer) }
    finish(call, with: .cancelled)
  }

  /// Removes a call from the books.
  func take(_ request: UInt64) -> (Call, PeerID?)? { state.withLock { Self.take(request, from: &$0) } }

  private static func take(_ request: UInt64, from state: inout State) -> (Call, PeerID?)? {
    guard let call = state.calls.removeValue(forKey: request) else { return nil }
    state.registry.callEnded(call.replica)
    return (call, state.registry.peer(of: call.replica))
  }

  /// A call that has been taken from the books has ended so.
  func finish(_ call: Call, with outcome: CallOutcome) {
    switch call.kind {
    case .step:
      let settlement = state.withLock { Self.settle(call, outcome, in: &$0) }
      for (message, peer) in settlement.messages { send(message, to: peer) }
      if let (continuation, outcome) = settlement.resume { continuation.resume(returning: outcome) }
    case .score(let continuation, _):
      switch outcome {
      case .failure(_, let message): continuation.finish(throwing: FusionRouteError.unavailable(message))
      case .lost(let reason):
        continuation.finish(throwing: FusionRouteError.unavailable("a worker was lost while it scored: \(reason)"))
      case .cancelled: continuation.finish(throwing: CancellationError())
      case .reply, .missing: continuation.finish()
      }
    }
  }

  /// One of a step's requests has ended. An answer ends the step, and the other request with it; a failure ends it when
  /// no other is under way, and then it ends as its first request did.
  private static func settle(_ call: Call, _ outcome: CallOutcome, in state: inout State) -> Settlement {
    guard case .step(_, let first) = call.kind, var pending = state.steps[first] else { return Settlement() }
    let isHedge = call.request != first
    pending.open.remove(call.request)
    let decides =
      switch outcome {
      case .reply, .cancelled: true
      case .missing: !isHedge
      case .failure, .lost: false
      }
    var settlement = Settlement()
    func abandonHedge(at replica: ReplicaID) {
      state.registry.unassign(pending.order.sequence, from: replica)
      guard let peer = state.registry.peer(of: replica) else { return }
      settlement.messages.append((.release(Release(sequence: pending.order.sequence)), peer))
    }
    if isHedge {
      if case .reply = outcome { state.counts.hedgesWon += 1 } else { abandonHedge(at: call.replica) }
    } else if !decides {
      pending.outcome = outcome
    }
    guard decides || pending.open.isEmpty else {
      state.steps[first] = pending
      return settlement
    }
    state.steps[first] = nil
    for request in pending.open {
      guard let (other, peer) = take(request, from: &state) else { continue }
      if let peer { settlement.messages.append((.cancel(Cancel(request: request)), peer)) }
      if request != first {
        abandonHedge(at: other.replica)
      } else if case .reply = outcome {
        // Overtaken: what it took so far is the least that it would have taken.
        let now = MonotonicClock.now
        state.registry.fault(other.replica, weight: FaultCounts.slowness, now: now)
        state.registry.stepped(other.replica, tokens: other.tokens, nanoseconds: now &- other.sent, now: now)
      }
    }
    settlement.resume = (pending.continuation, decides ? outcome : pending.outcome ?? outcome)
    return settlement
  }

  static func takeCalls(of replica: ReplicaID, from state: inout State) -> [Call] {
    let requests = state.calls.filter { $0.value.replica == replica }.map(\.key)
    return requests.sorted().compactMap { take($0, from: &state)?.0 }
  }
}

internal import Core
internal import Fusion
internal import Logging
internal import Messaging
internal import Wire

/// What faults came to, since the start.
struct FaultCounts: Sendable, Equatable {
  /// What a slow step counts against its replica, where a loss counts 1.
  static let slowness = 0.25

  var lost: UInt64 = 0
  var hedges: UInt64 = 0
  var hedgesWon: UInt64 = 0
}

/// Homes of sequences, and replicas that leave.
extension ExpertPool {
  // MARK: Placement

  /// A replica for the sequence and what it offers; nil when there is none now.
  func place(
    _ expert: String, sequence: UInt64, pin: ReplicaPin?, prefix: PrefixBlocks, excluding: Set<ReplicaID>
  ) -> (id: ReplicaID, offer: ReplicaOffer)? {
    let now = MonotonicClock.now
    return state.withLock { state in
      guard
        let id = state.registry.place(expert, pin: pin, excluding: excluding, prefix: prefix, now: now)
          ?? state.registry.place(expert, pin: pin, excluding: [], prefix: prefix, now: now),
        let replica = state.registry.replicas[id]
      else { return nil }
      state.registry.assign(sequence, to: id)
      return (id, replica.offer)
    }
  }

  /// The same, waiting for one until `deadline` (nanoseconds) while there is none.
  func placeWaiting(
    _ expert: String, sequence: UInt64, pin: ReplicaPin? = nil, prefix: PrefixBlocks = .none,
    excluding: Set<ReplicaID>, until deadline: UInt64
  ) async throws -> (id: ReplicaID, offer: ReplicaOffer)? {
    while true {
      try Task.checkCancellation()
      let seen = changes
      if let placed = place(expert, sequence: sequence, pin: pin, prefix: prefix, excluding: excluding) {
        return placed
      }
      guard MonotonicClock.now < deadline else { return nil }
      await waitForChange(since: seen, until: deadline)
    }
  }

  func pin(of offer: ReplicaOffer) -> ReplicaPin { state.withLock { $0.registry.pin(of: offer) } }

  /// Whether a sequence placed there is to stay.
  enum Standing: Sendable {
    case stays
    /// It holds more than its cache does, and another has room.
    case crowded
    case leaves
  }

  func standing(of replica: ReplicaID, pin: ReplicaPin?) -> Standing {
    state.withLock { state in
      guard let found = state.registry.replicas[replica] else { return .leaves }
      switch found.state {
      case .serving: return state.registry.isCrowded(replica, pin: pin) ? .crowded : .stays
      // Drained sequences move on as soon as there is another home for them.
      case .draining:
        let other = state.registry.place(found.offer.expert, pin: pin, excluding: [replica])
        return other == nil ? .stays : .leaves
      case .verifying, .quarantined: return .leaves
      }
    }
  }

  /// The replica has read this much of the sequence: whoever comes with the same beginning is best sent there.
  func note(_ sequence: UInt64, _ prefix: PrefixBlocks, at replica: ReplicaID) {
    state.withLock { $0.registry.note(sequence, prefix, at: replica) }
  }

  /// The sequence has ended or moved: the replica may drop it.
  func release(_ sequence: UInt64, at replica: ReplicaID) {
    let peer = state.withLock { state in
      state.registry.unassign(sequence, from: replica)
      return state.registry.peer(of: replica)
    }
    if let peer { send(.release(Release(sequence: sequence)), to: peer) }
  }

  // MARK: Leaving

  /// Has replicas finish what they have and leave; they get no new sequences from now on.
  ///
  /// - Parameter force: also if an expert is left without a replica, whose requests then wait.
  /// - Throws: `.badInput` if there is no such replica, `.unavailable` naming an expert that would be left without one.
  func drain(_ selection: DrainSelection, force: Bool) throws -> [Replica] {
    let (drained, peers) = try state.withLock { state in
      let meant = state.registry.replicas.values.filter { selection.contains($0) }.sorted { $0.id < $1.id }
      guard !meant.isEmpty else { throw FusionRouteError.badInput(selection.nothingMeant) }
      if !force, let expert = state.registry.abandoned(without: Set(meant.map(\.id))).first {
        throw FusionRouteError.unavailable(
          "expert \"\(expert)\" would be left without a replica: start another first, or use force to let its requests wait"
        )
      }
      for replica in meant { state.registry.drain(replica.id) }
      return (
        meant.compactMap { state.registry.replicas[$0.id] }, meant.compactMap { state.registry.peer(of: $0.id) }
      )
    }
    for replica in drained {
      logger.notice("replica drains", metadata: ["replica": "\(replica.id)", "expert": "\(replica.offer.expert)"])
    }
    for peer in peers { send(.drain, to: peer) }
    changed()
    return drained
  }

  /// Sequences that sit on a draining replica without a step under way: it need not wait for them, since their next step
  /// finds another home.
  func releaseIdle() {
    let released = state.withLock { state -> [(UInt64, PeerID)] in
      let draining = state.registry.replicas.values.filter { $0.state == .draining && !$0.assigned.isEmpty }
      guard !draining.isEmpty else { return [] }
      var busy: [ReplicaID: Set<UInt64>] = [:]
      for call in state.calls.values {
        if case .step(let assembly, _) = call.kind { busy[call.replica, default: []].insert(assembly.sequence) }
      }
      return draining.flatMap { replica -> [(UInt64, PeerID)] in
        guard let peer = state.registry.peer(of: replica.id),
          state.registry.place(
            replica.offer.expert, pin: state.registry.pin(of: replica.offer), excluding: [replica.id])
            != nil
        else { return [] }
        let idle = replica.assigned.subtracting(busy[replica.id] ?? [])
        for sequence in idle { state.registry.unassign(sequence, from: replica.id) }
        return idle.map { ($0, peer) }
      }
    }
    for (sequence, peer) in released { send(.release(Release(sequence: sequence)), to: peer) }
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

  /// Drops what is kept of a replica beside the registry.
  static func forget(_ replica: ReplicaID, _ state: inout State) {
    state.comparisons[replica] = nil
    state.consumed[replica] = nil
    state.doors.unasked.forget(replica)
  }

  /// A replica is gone: its calls end as lost, and whoever waits for a change looks again.
  ///
  /// - Parameter isFault: it did not leave in order, and is avoided for a while should it come back.
  func lose(_ replica: ReplicaID, reason: String, isFault: Bool = true) {
    let (calls, known) = state.withLock { state -> ([Call], Bool) in
      guard !state.closed, state.registry.replicas[replica] != nil else { return ([], false) }
      let calls = Self.takeCalls(of: replica, from: &state)
      if isFault {
        state.registry.fault(replica, now: MonotonicClock.now)
        state.counts.lost += 1
      }
      state.registry.remove(replica)
      Self.forget(replica, &state)
      return (calls, true)
    }
    guard known else { return }
    logger.log(
      level: isFault ? .warning : .info, isFault ? "replica lost" : "replica left",
      metadata: ["replica": "\(replica)", "reason": "\(reason)"])
    for call in calls { finish(call, with: .lost(reason: reason)) }
    changed()
  }
}

internal import Core
internal import Logging
internal import Messaging
internal import Wire

/// Rates at which peers are heard.
struct DoorLimits: Sendable {
  /// Messages of a peer that is not registered, which are not read, only answered with RegisterAgain.
  var strangers = TokenBuckets<PeerID>(burst: 20, perSecond: 10)
  /// A worker tries once a second, and once more for each change of its slots.
  var registrations = TokenBuckets<PeerID>(burst: 8, perSecond: 2)
  /// All workers of a host may share a key, and come all at once after a restart.
  var registrationsPerUser = TokenBuckets<String>(burst: 512, perSecond: 64)
  /// Messages of a registered worker that nobody asked for: heartbeats, and answers that come too late.
  var unasked = TokenBuckets<ReplicaID>(burst: 4_000, perSecond: 1_000)
}

/// What was turned away at the doors since the start.
struct DoorCounts: Sendable, Equatable {
  /// Messages beyond a rate of ``DoorLimits``.
  var limitedMessages: UInt64 = 0
  /// Messages that were no messages.
  var malformedMessages: UInt64 = 0
  var refusedWorkers: UInt64 = 0
}

/// Who may say what. Everything here runs on the messaging thread, before a message is read or acted on.
extension ExpertPool {
  /// The peer's key, if it is a worker's; nil without security.
  ///
  /// - Throws: a sentence for the peer.
  func worker(_ user: String?, for expert: String) throws(FusionRouteError) -> AllowedKey? {
    guard let server = server.withLock({ $0 }), server.isSecured else { return nil }
    guard let user, let key = server.allowedKey(user: user) else {
      throw .unavailable("its key is not in the allow-list")
    }
    guard key.role == .worker else {
      throw .unavailable("the key \"\(user)\" is a \(key.role.rawValue)'s, not a worker's")
    }
    guard key.mayServe(expert) else {
      throw .unavailable(
        "the key \"\(user)\" may not serve expert \"\(expert)\": it may serve "
          + (key.experts ?? []).sorted().joined(separator: ", "))
    }
    return key
  }

  /// Whether a registration may be looked at.
  func admitsRegistration(from peer: PeerID, user: String?) -> Bool {
    let now = MonotonicClock.now
    return state.withLock { state in
      let isWithin =
        state.doors.registrations.take(peer, now: now)
        && user.map { state.doors.registrationsPerUser.take($0, now: now) } ?? true
      if !isWithin { state.turnedAway.limitedMessages += 1 }
      return isWithin
    }
  }

  /// A message from a peer that is not registered: it is asked to, no more often than it needs to be told.
  func heardStranger(_ frames: [[UInt8]], from peer: PeerID, user: String?) {
    let now = MonotonicClock.now
    let isWithin = state.withLock { state in
      let isWithin = state.doors.strangers.take(peer, now: now)
      if !isWithin { state.turnedAway.limitedMessages += 1 }
      return isWithin
    }
    guard isWithin else { return }
    if let server = server.withLock({ $0 }), server.isSecured,
      user.flatMap({ server.allowedKey(user: $0) })?.role != .worker
    {
      return
    }
    send(.registerAgain, to: peer)
  }

  /// Whether a registered worker stays within what it may send unasked.
  static func isWithin(_ message: WireMessage, from replica: ReplicaID, state: inout State, now: UInt64) -> Bool {
    if let answered = message.answered, state.calls[answered.request]?.replica == replica { return true }
    if state.doors.unasked.take(replica, now: now) { return true }
    state.turnedAway.limitedMessages += 1
    return false
  }

  /// Replicas whose key was revoked, replaced or may serve their expert no longer are given up at once.
  func accessChanged() {
    guard let server = server.withLock({ $0 }), server.isSecured else { return }
    let replicas = state.withLock { state in
      state.registry.replicas.values.map { ($0.id, $0.offer, state.registry.peer(of: $0.id)) }
    }
    for (id, offer, peer) in replicas {
      do {
        let key = try worker(offer.key?.name, for: offer.expert)
        guard key?.key != offer.key?.key else { continue }
        shutOut(id, at: peer, reason: "its key was replaced")
      } catch {
        shutOut(id, at: peer, reason: error.message)
      }
    }
  }

  /// Gives a replica up and tells its worker why.
  func shutOut(_ replica: ReplicaID, at peer: PeerID?, reason: String) {
    lose(replica, reason: reason)
    if let peer { send(.refused(Refused(code: .authorisation, message: reason)), to: peer) }
  }
}

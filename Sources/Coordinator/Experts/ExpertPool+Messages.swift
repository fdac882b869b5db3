internal import Core
internal import Fusion
internal import Logging
internal import Messaging
internal import Wire

/// What arrives from workers. Runs on the messaging thread.
extension ExpertPool: ServerHandler {
  func started(_ server: MessageServer) { self.server.withLock { $0 = server } }

  func received(_ frames: [[UInt8]], from peer: PeerID, user: String?) {
    let known = state.withLock { state in
      state.registry.replica(of: peer).flatMap { id in state.registry.replicas[id].map { (id, $0.offer.expert) } }
    }
    guard known != nil || WireCodec.isRegistration(frames) else { return heardStranger(frames, from: peer, user: user) }
    guard known != nil || admitsRegistration(from: peer, user: user) else { return }
    if let (replica, expert) = known {
      do throws(FusionRouteError) { _ = try worker(user, for: expert) } catch {
        return shutOut(replica, at: peer, reason: error.message)
      }
    }
    let message: WireMessage
    do {
      message = try WireCodec.decode(frames, from: .worker)
    } catch {
      state.withLock { $0.turnedAway.malformedMessages += 1 }
      malformed(error, from: peer)
      return
    }
    if case .register(let register) = message {
      if known == nil || admitsRegistration(from: peer, user: user) { joined(register, from: peer, user: user) }
      return
    }
    guard let (replica, _) = known else { return }
    let now = MonotonicClock.now
    let isWithin = state.withLock { state in
      state.registry.sawFrame(from: replica, now: now)
      return Self.isWithin(message, from: replica, state: &state, now: now)
    }
    guard isWithin else { return lose(replica, reason: "it sends more than anyone asked it for") }
    receive(message, from: replica, at: peer, payload: frames.dropFirst().reduce(0) { $0 + $1.count }, now: now)
  }

  private func receive(_ message: WireMessage, from replica: ReplicaID, at peer: PeerID, payload: Int, now: UInt64) {
    // Request numbers start anew with each coordinator: an answer to the one before must not pass for one to us.
    if let answered = message.answered, answered.coordinator != incarnation { return }
    switch message {
    case .heartbeat(let beat):
      let drains = state.withLock { state in
        let before = state.registry.replicas[replica]?.state
        state.registry.heartbeat(
          from: replica, progress: beat.progress ?? 0,
          batchBudget: UInt64(beat.batchBudgetMilliseconds ?? 0) * 1_000_000,
          draining: beat.draining,
          report: Replica.Report(
            queued: beat.queued ?? 0, residentSequences: beat.residentSequences ?? 0, kvTokens: beat.kvTokens ?? 0,
            evaluatedTokens: beat.evaluatedTokens ?? 0), now: now)
        return before == .serving && state.registry.replicas[replica]?.state == .draining
      }
      if drains { changed() }
    case .vocabularyPage(let page): compare(page, of: replica, at: peer)
    case .stepReply(let reply):
      advance(reply.request, from: replica, now: now) { try $0.accept(reply) }
    case .rowChunk(let chunk): receive(chunk, from: replica, at: peer, payload: payload, now: now)
    case .prefixMissing(let missing):
      end(
        missing.request, from: replica, with: .missing(HeldPrefix(length: missing.haveLength, hash: missing.haveHash)))
    case .failure(let failure):
      end(failure.request, from: replica, with: .failure(failure.code, message: failure.message))
    case .scoreReply(let reply): receive(reply, from: replica, now: now)
    case .drain:
      state.withLock { $0.registry.drain(replica) }
      changed()
    case .goodbye(let goodbye): lose(replica, reason: "it said goodbye: \(goodbye.reason)", isFault: false)
    default: logger.warning("a worker sent a message of the coordinator's", metadata: ["replica": "\(replica)"])
    }
  }

  private func malformed(_ error: WireError, from peer: PeerID) {
    if let versions = error.peerProtocols {
      let served = WireCodec.servedProtocols
      send(
        .refused(
          Refused(
            code: .protocolVersion,
            message:
              "this coordinator serves protocol versions \(served.lowerBound) to \(served.upperBound), the worker "
              + "speaks \(versions.lowerBound) to \(versions.upperBound): install the same release on both")), to: peer)
      return
    }
    // Rubbish costs the sender its registration, never us: what it owed is retried elsewhere.
    logger.warning("malformed message", metadata: ["error": "\(error)"])
    if let replica = state.withLock({ $0.registry.replica(of: peer) }) {
      lose(replica, reason: "it sent a malformed message: \(error)")
    }
  }

  // MARK: Registration

  private func joined(_ register: Register, from peer: PeerID, user: String?) {
    var offer = ReplicaOffer(
      expert: register.expert, incarnation: register.incarnation, protocolRange: register.protocols,
      modelFingerprint: register.modelFingerprint, vocabularyFingerprint: register.vocabularyFingerprint,
      vocabularySize: register.vocabularySize, numericsLabel: register.numerics.label,
      numericsHash: register.numerics.probeHash, batchInvariant: register.numerics.batchInvariant,
      slots: register.slots, context: register.context, maximumPositions: register.maximumPositions,
      host: register.host, pid: register.pid)
    do throws(FusionRouteError) { offer.key = try worker(user, for: register.expert) } catch {
      if let former = state.withLock({ $0.registry.replica(of: peer) }) { lose(former, reason: error.message) }
      return refuse(offer, code: Refused.Code.authorisation.rawValue, message: error.message, at: peer)
    }
    let (decision, calls) = state.withLock { state in
      let (decision, former) = state.registry.register(offer, from: peer, now: MonotonicClock.now)
      // Only of experts that there are: a peer may name any.
      if case .refused(let code, let message) = decision, code != "capacity",
        state.registry.requirements.experts.contains(offer.expert)
      {
        state.refusals[offer.expert] = message
      }
      if case .accepted = decision { admit(offer, at: peer, &state) }
      // Their peer is no longer in the books; the calls are.
      let calls = former.map { Self.takeCalls(of: $0, from: &state) } ?? []
      if let former { Self.forget(former, &state) }
      return (decision, calls)
    }
    for call in calls { finish(call, with: .lost(reason: "it registered anew")) }
    switch decision {
    case .accepted(let id): welcome(id, offer: offer)
    case .renewed(let id):
      logger.info("worker registered again", metadata: ["replica": "\(id)", "slots": "\(offer.slots)"])
      confirm(offer, credit: renewedCredit(of: id), at: peer)
      changed()
    case .compareVocabulary(let id):
      let query = state.withLock { state in
        // One that is under way goes on; the page it waits for is asked for again, since it may have been lost.
        let comparison = state.comparisons[id] ?? VocabularyComparison(router: vocabulary)
        state.comparisons[id] = comparison
        return comparison.query
      }
      ask(query, at: peer)
    case .refused(let code, let message): refuse(offer, code: code, message: message, at: peer)
    }
  }

  private func ask(_ query: (first: Int, count: Int), at peer: PeerID) {
    send(.vocabularyQuery(VocabularyQuery(first: query.first, count: query.count)), to: peer)
  }

  private func refuse(_ offer: ReplicaOffer, code: String, message: String, at peer: PeerID) {
    logger.warning(
      "worker refused", metadata: ["expert": "\(offer.expert)", "host": "\(offer.host)", "reason": "\(message)"])
    state.withLock { $0.turnedAway.refusedWorkers += 1 }
    send(.refused(Refused(code: Refused.Code(rawValue: code), message: message)), to: peer)
    changed()
  }

  /// Lets a worker know that it serves, under the lock that makes it serve: it takes no step before, and the step of
  /// whoever finds it there comes after.
  private func admit(_ offer: ReplicaOffer, at peer: PeerID, _ state: inout State) {
    confirm(offer, credit: Self.creditBytes, at: peer)
    state.refusals[offer.expert] = nil
  }

  private func welcome(_ id: ReplicaID, offer: ReplicaOffer) {
    logger.info(
      "worker registered",
      metadata: [
        "expert": "\(offer.expert)", "replica": "\(id)", "host": "\(offer.host)", "pid": "\(offer.pid)",
        "slots": "\(offer.slots)", "numerics": "\(offer.numericsLabel)",
      ])
    if !offer.batchInvariant {
      logger.warning(
        "this expert's logits depend on how its work is batched; answers may differ between runs",
        metadata: ["expert": "\(offer.expert)"])
    }
    changed()
  }

  /// What a worker that registers again gets: nothing on top of what it has. One that has never beaten may have missed
  /// the answer to its first registration, and its credit with it.
  private func renewedCredit(of id: ReplicaID) -> Int {
    state.withLock { state in
      guard state.registry.replicas[id]?.hasBeaten == false else { return 0 }
      state.consumed[id] = nil
      return Self.creditBytes
    }
  }

  /// - Parameter credit: 0 for a worker that keeps what it has.
  private func confirm(_ offer: ReplicaOffer, credit: Int, at peer: PeerID) {
    send(
      .registered(
        Registered(
          coordinator: incarnation, leasedSlots: offer.slots,
          heartbeatMilliseconds: Int(heartbeatInterval / 1_000_000), creditBytes: credit,
          commonVocabulary: vocabulary.size)), to: peer)
  }

  private func compare(_ page: VocabularyPage, of replica: ReplicaID, at peer: PeerID) {
    let (verdict, offer) = state.withLock { state -> (VocabularyComparison.Verdict?, ReplicaOffer?) in
      let verdict = state.comparisons[replica]?.receive(
        first: page.first, total: page.total, texts: page.texts)
      return (verdict, state.registry.replicas[replica]?.offer)
    }
    guard let verdict, let offer else { return }
    switch verdict {
    case .next(let first, let count): ask((first, count), at: peer)
    case .same:
      state.withLock { state in
        state.comparisons[replica] = nil
        state.registry.verified(replica)
        admit(offer, at: peer, &state)
      }
      welcome(replica, offer: offer)
    case .different(let sentence):
      state.withLock { state in
        Self.forget(replica, &state)
        state.registry.remove(replica)
        state.refusals[offer.expert] = sentence
      }
      refuse(offer, code: "vocabulary", message: sentence, at: peer)
    }
  }

  // MARK: Answers

  /// Payload bytes a worker may have under way; it is granted more as they are taken in.
  static let creditBytes = 8 << 20

  /// Counts consumed payload and grants it again once enough has come together.
  func credit(_ bytes: Int, replica: ReplicaID, peer: PeerID? = nil) {
    guard bytes > 0 else { return }
    let (grant, address) = state.withLock { state -> (Int?, PeerID?) in
      // Its consumer may be slower than its end.
      guard state.registry.replicas[replica] != nil else { return (nil, nil) }
      let total = state.consumed[replica, default: 0] + UInt64(bytes)
      let ready = total >= UInt64(Self.creditBytes / 8)
      state.consumed[replica] = ready ? 0 : total
      return (ready ? Int(total) : nil, state.registry.peer(of: replica))
    }
    if let grant, let address { send(.credit(Credit(bytes: grant)), to: address) }
  }

  private func advance(
    _ request: UInt64, from replica: ReplicaID, now: UInt64, _ change: (inout StepAssembly) throws -> Void
  ) {
    enum Ended {
      case done(Call, CallOutcome)
      case broken(any Error)
    }
    let ended: Ended? = state.withLock { state in
      guard var call = state.calls[request], call.replica == replica,
        case .step(var assembly, let first) = call.kind
      else { return nil }
      do { try change(&assembly) } catch { return .broken(error) }
      guard let result = assembly.result else {
        call.kind = .step(assembly, step: first)
        state.calls[request] = call
        return nil
      }
      state.calls[request] = nil
      state.registry.callEnded(replica)
      let took = now &- call.sent
      state.registry.stepped(replica, tokens: call.tokens, nanoseconds: took, now: now)
      if let order = state.steps[first]?.order {
        state.hedging[order.expert]?.observed(took, tokens: call.tokens, fullRow: order.hasFullRow)
      }
      let step = StepResult(
        replica: replica, rows: result.rows, evaluatedTokens: result.reply.evaluated,
        queueNanoseconds: UInt64(result.reply.queueMicroseconds) * 1_000,
        computeNanoseconds: UInt64(result.reply.computeMicroseconds) * 1_000, roundTripNanoseconds: took)
      return .done(call, .reply(step))
    }
    switch ended {
    case .done(let call, let outcome): finish(call, with: outcome)
    case .broken(let error): lose(replica, reason: "\(error)")
    case nil: break
    }
  }

  private func end(_ request: UInt64, from replica: ReplicaID, with outcome: CallOutcome) {
    guard state.withLock({ $0.calls[request]?.replica == replica }), let (call, _) = take(request) else { return }
    finish(call, with: outcome)
  }

  private func receive(_ chunk: RowChunk, from replica: ReplicaID, at peer: PeerID, payload: Int, now: UInt64) {
    if let (stream, fullRows) = scoring(chunk.request, from: replica, now: now) {
      guard fullRows else { return lose(replica, reason: "it sent a part of a row that nobody asked for") }
      stream.yield(.chunk(chunk, payload: payload))
      return
    }
    credit(payload, replica: replica, peer: peer)
    advance(chunk.request, from: replica, now: now) { try $0.accept(chunk) }
  }

  private func receive(_ reply: ScoreReply, from replica: ReplicaID, now: UInt64) {
    guard let (stream, _) = scoring(reply.request, from: replica, now: now) else { return }
    stream.yield(.scores(reply))
    if reply.last, take(reply.request) != nil { stream.finish() }
  }

  /// The consumer of a scoring request under way, whose time starts anew: its worker gets on.
  private func scoring(
    _ request: UInt64, from replica: ReplicaID, now: UInt64
  ) -> (stream: AsyncThrowingStream<ScorePart, any Error>.Continuation, fullRows: Bool)? {
    state.withLock { state in
      guard var call = state.calls[request], call.replica == replica, case .score(let stream, let fullRows) = call.kind
      else { return nil }
      call.deadline = now + call.timeout
      state.calls[request] = call
      return (stream, fullRows)
    }
  }

  // MARK: Life

  func unreachable(_ peer: PeerID) {
    if let replica = state.withLock({ $0.registry.replica(of: peer) }) {
      lose(replica, reason: "its connection is gone")
    }
  }

  /// Says why it is no longer heard, or a worker would wait for ever on a connection that stands.
  func disallowed(_ peer: PeerID) {
    let reason = "its key is not in the allow-list"
    if let replica = state.withLock({ $0.registry.replica(of: peer) }) {
      shutOut(replica, at: peer, reason: reason)
    } else if state.withLock({ $0.doors.strangers.take(peer, now: MonotonicClock.now) }) {
      logger.warning("message dropped: its key is no longer allowed", metadata: ["peer": "\(peer)"])
      send(.refused(Refused(code: .authorisation, message: reason)), to: peer)
    }
  }

  /// A connection broke, and the socket does not say whose: whoever cannot be reached any more is the one.
  func peerDisconnected() { beat() }

  /// A pause between two ticks, in nanoseconds, that means that this process was not running.
  private static let suspension: UInt64 = 1_000_000_000

  func tick() {
    let now = MonotonicClock.now
    let (overdue, expired, waiters, beats) = state.withLock { state in
      if now > state.lastTick, now - state.lastTick > Self.suspension { state.registry.resumed(now: now) }
      state.lastTick = now
      let expired = state.calls.filter { $0.value.deadline < now }.map(\.key)
      let waiters = state.waiters.filter { $0.value.deadline < now }
      for id in waiters.keys { state.waiters[id] = nil }
      let beats = now &- state.lastHeartbeat >= heartbeatInterval
      if beats { state.lastHeartbeat = now }
      return (state.registry.overdue(now: now), expired, waiters.values.map(\.continuation), beats)
    }
    for (replica, reason) in overdue { lose(replica, reason: reason) }
    for request in expired {
      guard let (call, peer) = take(request) else { continue }
      if let peer { send(.cancel(Cancel(request: request)), to: peer) }
      state.withLock { $0.registry.fault(call.replica, weight: FaultCounts.slowness, now: now) }
      finish(call, with: .lost(reason: "it did not answer in time"))
    }
    hedge(now: now)
    releaseIdle()
    for waiter in waiters { waiter.resume() }
    if beats { beat() }
  }

  private func beat() {
    let (peers, count) = state.withLock { state in
      state.heartbeats += 1
      return (state.registry.replicas.keys.compactMap { state.registry.peer(of: $0) }, state.heartbeats)
    }
    for peer in peers { send(.heartbeat(Heartbeat(sender: incarnation, count: count)), to: peer) }
  }
}

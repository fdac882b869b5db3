internal import Core
internal import Inference
internal import Logging
internal import Messaging
internal import Synchronization
internal import Wire

/// The worker's side of the conversation with one coordinator: registers, beats, hands requests to the service, and
/// lets answers out under the coordinator's byte credits.
final class CoordinatorLink: Sendable {
  /// What the runtime must know.
  enum Event: Sendable {
    case refused(Refused)
    /// The connection itself was refused; a full sentence.
    case notLetIn(FusionRouteError)
    case registered
    /// The coordinator wants this worker to finish what it has and leave.
    case drain
  }

  private struct State {
    var registered: Registered?
    var gate = CreditGate<WireMessage>(credit: 0)
    /// Scoring requests that go on once nothing is held back; each ends if the connection does before.
    var drained: [@Sendable (Bool) -> Void] = []
    var lastFrame = ContinuousClock.now
    /// When the coordinator last gave a sign of life, the connection itself included; nil: it has none any more.
    var heard: ContinuousClock.Instant?
    var lastBeat = ContinuousClock.now
    var lastRegistration: ContinuousClock.Instant?
    var offeredSlots = 0
    var beats: UInt64 = 0
    var refused = false
    /// The incarnation that answers go to, also while this worker registers with it again; nil: there is none any more.
    var coordinator: UInt64?
    /// The incarnation that let this worker in last, also when it has gone since.
    var lastCoordinator: UInt64?

    /// Forgets what is held back. The caller tells what is returned that it need not go on, outside the lock.
    mutating func resetGate(credit: Int) -> [@Sendable (Bool) -> Void] {
      gate.reset(credit: credit)
      defer { drained.removeAll() }
      return drained
    }
  }

  /// Between attempts to register while no answer comes.
  private static let registrationInterval = Duration.seconds(1)

  let endpoint: String
  private let offer: Register
  private let service: ExpertService
  private let page: @Sendable (VocabularyQuery) -> VocabularyPage
  private let leases: SlotLeases
  private let isDraining: @Sendable () -> Bool
  private let notify: @Sendable (Event) -> Void
  private let logger: Logger
  /// In tests, what is sent in place of the client.
  private let outbound: (@Sendable (WireMessage) -> Void)?
  private let state = Mutex(State())
  private let client = Mutex<MessageClient?>(nil)

  init(
    endpoint: String, offer: Register, service: ExpertService, leases: SlotLeases,
    page: @escaping @Sendable (VocabularyQuery) -> VocabularyPage, isDraining: @escaping @Sendable () -> Bool,
    logger: Logger, outbound: (@Sendable (WireMessage) -> Void)? = nil, notify: @escaping @Sendable (Event) -> Void
  ) {
    self.endpoint = endpoint
    self.offer = offer
    self.service = service
    self.page = page
    self.leases = leases
    self.isDraining = isDraining
    self.notify = notify
    self.logger = logger
    self.outbound = outbound
  }

  var silence: Duration { state.withLock { ContinuousClock.now - $0.lastFrame } }

  /// Only queues the message and calls nobody back, so the state may be locked meanwhile.
  private func transmit(_ message: WireMessage) {
    if let outbound { return outbound(message) }
    client.withLock { $0 }?.send(WireCodec.encode(message))
  }

  private func register() {
    // For one that does not answer nothing is kept free.
    let isHeard = state.withLock { $0.heard != nil }
    let slots = isHeard ? leases.offer(to: endpoint) : leases.due(to: endpoint)
    state.withLock { state in
      state.lastRegistration = .now
      state.offeredSlots = slots
    }
    var offer = offer
    offer.slots = slots
    transmit(.register(offer))
  }

  /// The coordinator does not know this worker any more. It says so once for every message that was under way, and
  /// each registration ends what the one before has begun: one is enough.
  private func registerAgain() {
    let isDue = state.withLock { state in
      if let last = state.lastRegistration, ContinuousClock.now - last < Self.registrationInterval { return false }
      // Until the answer comes, `tick` repeats the attempt.
      state.registered = nil
      return true
    }
    if isDue { register() }
  }

  /// Tells the coordinator at once that this worker drains.
  func beat() {
    let load = service.engine.load
    let count = state.withLock { state in
      state.beats += 1
      state.lastBeat = .now
      return state.beats
    }
    transmit(
      .heartbeat(
        Heartbeat(
          sender: offer.incarnation, count: count, progress: load.progress,
          batchBudgetMilliseconds: Int(clamping: min(load.batchBudgetMilliseconds, 86_400_000)),
          queued: load.queued, residentSequences: load.residentSequences, kvTokens: UInt64(load.kvTokens),
          evaluatedTokens: load.evaluatedTokens, draining: isDraining())))
  }

  func close(reason: String) {
    transmit(.goodbye(Goodbye(sender: offer.incarnation, reason: reason)))
    let client = client.withLock { client in
      defer { client = nil }
      return client
    }
    client?.shutdown(flushing: .milliseconds(200))
  }
}

// MARK: - Messages

extension CoordinatorLink: ClientHandler {
  func started(_ client: MessageClient) { self.client.withLock { $0 = client } }

  func refused(_ reason: FusionRouteError) {
    logger.error("not let in", metadata: ["endpoint": "\(endpoint)", "reason": "\(reason)"])
    // One that was let in before may be dealing with a coordinator that hangs or restarts: it goes on trying, and the
    // orphan timeout ends it.
    guard !state.withLock({ $0.lastCoordinator != nil }) else { return }
    notify(.notLetIn(reason))
  }

  func connected() {
    state.withLock { $0.heard = .now }
    register()
  }

  func disconnected() {
    // Should it come back, this worker registers anew, and nothing that was placed here before counts.
    if endCoordinator() { logger.warning("coordinator lost", metadata: ["endpoint": "\(endpoint)"]) }
  }

  /// The coordinator has gone, or wants nothing of this worker any more: nobody takes its answers or releases its
  /// sequences. False if there was none.
  @discardableResult
  private func endCoordinator() -> Bool {
    let (former, bodies) = state.withLock { state -> (UInt64?, [@Sendable (Bool) -> Void]) in
      defer {
        state.registered = nil
        state.coordinator = nil
        state.heard = nil
      }
      return (state.coordinator, state.resetGate(credit: 0))
    }
    for body in bodies { body(false) }
    leases.end(endpoint)
    guard let former else { return false }
    service.forget(coordinator: former)
    return true
  }

  func received(_ frames: [[UInt8]]) {
    let message: WireMessage
    do { message = try WireCodec.decode(frames, from: .coordinator) } catch {
      logger.warning("malformed message from the coordinator", metadata: ["error": "\(error)"])
      return
    }
    state.withLock { state in
      state.lastFrame = .now
      state.heard = .now
    }
    switch message {
    case .registered(let registered): accept(registered)
    case .registerAgain: registerAgain()
    case .refused(let refused):
      logger.error("refused by the coordinator", metadata: ["endpoint": "\(endpoint)", "reason": "\(refused.message)"])
      state.withLock { $0.refused = true }
      endCoordinator()
      notify(.refused(refused))
    case .vocabularyQuery(let query):
      // The registration is being dealt with: another would begin the comparison anew.
      state.withLock { $0.lastRegistration = .now }
      transmit(.vocabularyPage(page(query)))
    case .step(let step):
      guard let common = commonVocabulary else { return registerAgain() }
      service.step(step, vocabulary: common) { [self] in send($0) }
    case .score(let score):
      guard let common = commonVocabulary else { return registerAgain() }
      service.score(score, vocabulary: common, outlet: self)
    case .credit(let credit): release(credit.bytes)
    case .cancel(let cancel): self.cancel(cancel.request)
    case .release(let release):
      if let coordinator { service.release(coordinator: coordinator, sequence: release.sequence) }
    case .drain: notify(.drain)
    case .goodbye: endCoordinator()
    default: break
    }
  }

  var isRegistered: Bool { state.withLock { $0.registered != nil } }
  private var commonVocabulary: Int? { state.withLock { $0.registered?.commonVocabulary } }
  private var coordinator: UInt64? { state.withLock { $0.coordinator } }

  private func accept(_ registered: Registered) {
    // Rows are cut at that length, and read up to it.
    guard registered.commonVocabulary >= 1, registered.commonVocabulary <= offer.vocabularySize else {
      logger.error(
        "the coordinator's vocabulary is larger than this model's",
        metadata: [
          "endpoint": "\(endpoint)", "common": "\(registered.commonVocabulary)", "own": "\(offer.vocabularySize)",
        ])
      return
    }
    let (former, bodies) = state.withLock { state -> (UInt64?, [@Sendable (Bool) -> Void]) in
      defer {
        state.registered = registered
        state.coordinator = registered.coordinator
        state.lastCoordinator = registered.coordinator
        state.refused = false
      }
      // To it this worker was known: what is held back, and the credit for it, stay.
      if registered.creditBytes == 0, state.lastCoordinator == registered.coordinator { return (nil, []) }
      return (state.lastCoordinator, state.resetGate(credit: registered.creditBytes))
    }
    for body in bodies { body(false) }
    leases.lease(registered.leasedSlots, to: endpoint)
    // Whoever it was, and if it is the same: what was placed here before has moved or ended, and nobody releases it.
    if let former { service.forget(coordinator: former) }
    logger.info("registered", metadata: ["endpoint": "\(endpoint)", "slots": "\(registered.leasedSlots)"])
    notify(.registered)
    // Says that the credit has come: until then the coordinator sends it anew with each answer, which would end what is
    // under way here.
    if registered.creditBytes > 0 { beat() }
  }

  private func cancel(_ request: UInt64) {
    state.withLock { $0.gate.drop(request: request) }
    if let coordinator { service.cancel(coordinator: coordinator, request: request) }
    release(0)
  }

  /// Heartbeats of the coordinator that may be missing before its slots go to others; the connection may still stand.
  private static let missedHeartbeats = 6

  /// A coordinator that is silent has no claim to slots. What it asks is answered, should it speak again.
  private func endSilentLease(now: ContinuousClock.Instant) {
    let isSilent = state.withLock { state in
      let limit = Duration.milliseconds(max(500, state.registered?.heartbeatMilliseconds ?? 0)) * Self.missedHeartbeats
      guard let heard = state.heard, now - heard > limit else { return false }
      state.heard = nil
      // Whatever there is then is offered as soon as it speaks again.
      state.offeredSlots = -1
      return true
    }
    guard isSilent else { return }
    leases.end(endpoint)
    logger.warning("coordinator is silent", metadata: ["endpoint": "\(endpoint)"])
  }

  func tick() { tick(now: .now) }

  func tick(now: ContinuousClock.Instant) {
    service.expire(now: now)
    endSilentLease(now: now)
    enum Due { case register, beat, nothing }
    let due: Due = state.withLock { state in
      if let registered = state.registered {
        // Another coordinator has come or gone: offer what there is now.
        if state.heard != nil, leases.due(to: endpoint) != state.offeredSlots { return .register }
        return now - state.lastBeat >= .milliseconds(registered.heartbeatMilliseconds) ? .beat : .nothing
      }
      guard !state.refused, let last = state.lastRegistration else { return .nothing }
      return now - last >= Self.registrationInterval ? .register : .nothing
    }
    switch due {
    case .register: register()
    case .beat: beat()
    case .nothing: break
    }
  }
}

// MARK: - Answers

extension CoordinatorLink: Outlet {
  func send(_ message: WireMessage) {
    state.withLock { state in
      // Who asked has gone: nobody waits for it, and its rows would spend the credit of whoever is there now.
      if let answered = message.answered, answered.coordinator != state.coordinator { return }
      // Within the lock, here and in `release`: what is decided first leaves first.
      if let passes = state.gate.offer(message, request: message.answered?.request ?? 0, bytes: message.creditBytes) {
        transmit(passes)
      }
    }
  }

  func whenDrained(for coordinator: UInt64, _ body: @escaping @Sendable (Bool) -> Void) {
    let goesOn = state.withLock { state -> Bool? in
      guard state.coordinator == coordinator else { return false }
      if state.gate.isEmpty { return true }
      state.drained.append(body)
      return nil
    }
    if let goesOn { body(goesOn) }
  }

  private func release(_ bytes: Int) {
    let bodies = state.withLock { state -> [@Sendable (Bool) -> Void] in
      for message in state.gate.grant(bytes) { transmit(message) }
      guard state.gate.isEmpty else { return [] }
      defer { state.drained.removeAll() }
      return state.drained
    }
    for body in bodies { body(true) }
  }
}

extension WireMessage {
  /// Payload that counts against the coordinator's credit: only rows do.
  var creditBytes: Int {
    if case .rowChunk(let chunk) = self { chunk.values.count * MemoryLayout<Float>.size } else { 0 }
  }
}

// `@testable` exists in debug builds only.
#if DEBUG
  import Core
  import Fusion
  import Logging
  import TestSupport

  @testable import Coordinator
  @testable import Messaging
  @testable import Wire

  /// A coordinator's side, with steps under way, and workers that send anything: honest messages, damaged ones, and those
  /// of others.
  package final class CoordinatorFuzz {
    private static let vocabulary = 600
    private static let peers = 6
    private static let underWay = 12
    private static let experts = ["math", "code"]

    private let pool: ExpertPool
    private var generator: SplitMix64
    private var samples: Samples
    private var mutator: Mutator
    private var peers: [PeerID] = []
    private var nextPeer: UInt32 = 1
    private var started = 0
    private let ended = LockedBox<[String: Int]>([:])
    private var report = FuzzReport()

    package init(seed: UInt64) {
      var logger = Logger(label: "fuzz")
      logger.logLevel = .critical
      let fingerprint = SHA256Digest(hashing: Array("vocabulary".utf8))
      pool = ExpertPool(
        requirements: .init(
          experts: Set(Self.experts), vocabularyFingerprint: fingerprint, vocabularySize: Self.vocabulary,
          protocolRange: 1...1, reproducible: true),
        limits: .init(), vocabulary: VocabularyTexts(size: Self.vocabulary) { Array("token \($0)".utf8) },
        heartbeatInterval: .milliseconds(500), logger: logger)
      generator = SplitMix64(seed: seed)
      mutator = Mutator(generator: SplitMix64(seed: seed ^ 0xF1))
      var limits = WireLimits()
      limits.vocabulary = Self.vocabulary
      limits.context = 400
      limits.positions = 5
      limits.topK = 50
      limits.named = 50
      limits.slots = 8
      samples = Samples(seed: seed ^ 0xF2, limits: limits)
      for _ in 0..<Self.peers { peers.append(newPeer()) }
    }

    private func newPeer() -> PeerID {
      defer { nextPeer += 1 }
      return PeerID(number: nextPeer)
    }

    package func run(messages: Int) async -> FuzzReport {
      while report.messages < messages {
        await startSteps()
        for _ in 0..<32 { feed() }
        if report.messages % 4_096 < 32 { checkSizes() }
      }
      pool.close()
      while endings.values.reduce(0, +) < started { await Task.yield() }
      for (outcome, count) in endings { report.count("steps \(outcome)", count) }
      report.require(pool.state.withLock { $0.calls.isEmpty && $0.waiters.isEmpty }, "calls are left over")
      return report
    }

    private var endings: [String: Int] { ended.withValue { $0 } }

    private func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &generator) < percent }

    // MARK: Steps under way

    private func startSteps() async {
      let replicas = pool.state.withLock { state in
        state.registry.replicas.values.filter { $0.state == .serving }.sorted { $0.id < $1.id }
      }
      guard let replica = replicas.randomElement(using: &generator) else { return }
      let lacking = Self.underWay - pool.state.withLock { $0.calls.count }
      guard lacking > 0 else { return }
      for _ in 0..<lacking {
        started += 1
        let sequence = UInt64(started)
        let base = Int.random(in: 0...200, using: &generator)
        let tokens = samples.tokens(base + Int.random(in: 1...8, using: &generator))
        let step = PrefixStep(
          epoch: UInt32.random(in: 0...3, using: &generator), baseLength: base, baseHash: .empty,
          append: Array(tokens[base...]))
        let last = step.length - 1
        let wants: [Step.Want] = [
          chance(25)
            ? .init(position: last, fullRow: true)
            : .init(
              position: last, topK: Int.random(in: 1...20, using: &generator), named: samples.ascendingTokens(4),
              logSumExp: chance(30))
        ]
        let order = StepOrder(
          expert: replica.offer.expert, sequence: sequence, chain: TokenChain(tokens), wants: wants,
          pin: pool.pin(of: replica.offer), timeout: .seconds(600), trace: nil)
        Self.start(step, order, at: replica.id, of: pool, ended)
      }
      // Each is in the books, or has ended.
      while pool.state.withLock({ $0.nextRequest }) <= UInt64(started) { await Task.yield() }
    }

    private static func start(
      _ step: PrefixStep, _ order: StepOrder, at replica: ReplicaID, of pool: ExpertPool,
      _ ended: LockedBox<[String: Int]>
    ) {
      Task {
        let outcome = await pool.step(step, order, replica: replica)
        ended.withValue { $0[name(outcome), default: 0] += 1 }
      }
    }

    private static func name(_ outcome: CallOutcome) -> String {
      switch outcome {
      case .reply: "answered"
      case .missing: "missing"
      case .failure: "failed"
      case .lost: "lost"
      case .cancelled: "cancelled"
      }
    }

    // MARK: Messages

    private func feed() {
      if chance(1) { return mishap() }
      let (messages, peer) = next()
      for message in messages {
        var frames = WireCodec.encode(message)
        if chance(40) {
          frames = mutator.mutate(frames)
          report.damaged += 1
        }
        report.messages += 1
        pool.received(frames, from: peer, user: nil)
      }
      // A peer that lost its registration comes back as a new connection.
      if pool.state.withLock({ $0.registry.replica(of: peer) }) == nil, chance(30),
        let index = peers.firstIndex(of: peer)
      {
        peers[index] = newPeer()
        report.count("connections")
      }
    }

    private func mishap() {
      let peer = peers.randomElement(using: &generator) ?? peers[0]
      switch Int.random(in: 0..<4, using: &generator) {
      case 0: pool.tick()
      case 1: pool.unreachable(peer)
      case 2: pool.peerDisconnected()
      default: pool.accessChanged()
      }
    }

    /// What some peer sends next.
    private func next() -> ([WireMessage], PeerID) {
      let calls = pool.state.withLock { state in
        state.calls.sorted { $0.key < $1.key }.map {
          ($0.key, $0.value.kind, state.registry.peer(of: $0.value.replica))
        }
      }
      if chance(50), let (request, kind, peer) = calls.randomElement(using: &generator), let peer,
        case .step(let assembly, _) = kind
      {
        return (answer(request, assembly), peer)
      }
      let peer = peers.randomElement(using: &generator) ?? peers[0]
      if pool.state.withLock({ $0.registry.replica(of: peer) }) == nil, chance(70) { return ([registration()], peer) }
      if let query = pool.state.withLock({ state in
        state.registry.replica(of: peer).flatMap { state.comparisons[$0]?.query }
      }) {
        return ([page(query)], peer)
      }
      var message = samples.message(MessageKind.allCases.randomElement(using: &generator) ?? .heartbeat)
      if let (request, _, _) = calls.randomElement(using: &generator), chance(50) {
        message = message.answering(request)
      }
      return ([message], peer)
    }

    private func registration() -> WireMessage {
      var register = samples.register()
      register.protocols = 1...1
      register.expert = Self.experts[Int.random(in: 0...1, using: &generator)]
      register.modelFingerprint = SHA256Digest(hashing: Array(register.expert.utf8))
      register.vocabularySize = Self.vocabulary
      register.vocabularyFingerprint = SHA256Digest(hashing: Array((chance(80) ? "vocabulary" : "another").utf8))
      register.numerics.probeHash = SHA256Digest(hashing: Array("probe".utf8))
      return .register(register)
    }

    private func page(_ query: (first: Int, count: Int)) -> WireMessage {
      let tokens = (query.first..<min(query.first + query.count, Self.vocabulary)).map { $0 }
      return .vocabularyPage(
        VocabularyPage(
          first: query.first, total: Self.vocabulary, texts: tokens.map { Array("token \($0)".utf8) },
          attributes: tokens.map { _ in 0 }))
    }

    /// An answer that fits.
    private func answer(_ request: UInt64, _ assembly: StepAssembly) -> [WireMessage] {
      if chance(5) {
        return [
          .prefixMissing(
            PrefixMissing(
              request: request, coordinator: pool.incarnation, sequence: assembly.sequence, epoch: assembly.epoch,
              haveLength: 3, haveHash: .empty))
        ]
      }
      var chunks: [WireMessage] = []
      let rows = assembly.wants.filter(\.isAnswered).map { want -> StepReply.Row in
        if want.fullRow {
          for offset in stride(from: 0, to: Self.vocabulary, by: 200) {
            chunks.append(
              .rowChunk(
                RowChunk(
                  request: request, coordinator: pool.incarnation, position: want.position, offset: offset,
                  total: Self.vocabulary, values: (0..<200).map { _ in samples.logit() })))
          }
          return .init(position: want.position, fullCount: Self.vocabulary)
        }
        let ids = (0..<want.topK).map { Token($0) }
        return .init(
          position: want.position, topIDs: ids, topLogits: ids.map { 20 - Float($0) },
          namedLogits: want.named.map { _ in samples.logit() }, floor: -30, logSumExp: want.logSumExp ? 21 : nil)
      }
      let reply = StepReply(
        request: request, coordinator: pool.incarnation, sequence: assembly.sequence, epoch: assembly.epoch,
        length: assembly.length, rows: rows, evaluated: 1, queueMicroseconds: 1, computeMicroseconds: 1)
      return [.stepReply(reply)] + chunks
    }

    /// Nothing that messages leave behind grows.
    private func checkSizes() {
      let sizes = pool.state.withLock { state in
        (
          replicas: state.registry.replicas.count, calls: state.calls.count, comparisons: state.comparisons.count,
          consumed: state.consumed.count, refusals: state.refusals.count,
          buckets: max(state.doors.strangers.count, state.doors.registrations.count, state.doors.unasked.count)
        )
      }
      let messages = report.messages
      report.require(
        sizes.replicas <= nextPeer && sizes.calls <= 2 * Self.underWay && sizes.comparisons <= sizes.replicas
          && sizes.consumed <= sizes.replicas && sizes.refusals <= Self.experts.count && sizes.buckets <= 8_192,
        "after \(messages) messages: \(sizes)")
    }
  }

  extension WireMessage {
    /// The same, as an answer to another request.
    func answering(_ request: UInt64) -> WireMessage {
      switch self {
      case .stepReply(var message):
        message.request = request
        return .stepReply(message)
      case .prefixMissing(var message):
        message.request = request
        return .prefixMissing(message)
      case .rowChunk(var message):
        message.request = request
        return .rowChunk(message)
      case .scoreReply(var message):
        message.request = request
        return .scoreReply(message)
      case .failure(var message):
        message.request = request
        return .failure(message)
      default: return self
      }
    }
  }
#endif

import Core
import Foundation
import Fusion
import Inference
import Logging
import Messaging
import Wire

@testable import Coordinator
@testable import Worker

/// One expert with several replicas, each behind a ``FaultProxy``, and the coordinator's side of the protocol without a
/// router: what drafting will ask of it.
final class SeamCluster: Sendable {
  static let expert = "math"

  let pool: ExpertPool
  let proxies: [FaultProxy]
  let workers: [WorkerRuntime]
  private let server: MessageServer
  /// Kept: it holds the coordinator's socket.
  private let scratch: Scratch
  private let tasks: [Task<Void, any Error>]
  let logger: Logger
  let vocabulary: Int
  private let link: ExpertLink.Settings

  struct Options {
    var replicas = 2
    var slots = 2
    var stepTimeout = Duration.milliseconds(400)
    var heartbeat = Duration.milliseconds(50)
    var silence = Duration.seconds(3)
    var hang = Duration.seconds(5)
    /// 0: no hedges.
    var hedgeShare = 0.0
  }

  init(model path: String, scratch: Scratch, _ options: Options = Options()) throws {
    var logger = Logger(label: "seam")
    logger.logLevel = .critical
    self.logger = logger
    self.scratch = scratch
    let model = try Model.load(path: path, options: ModelLoadOptions(vocabularyOnly: true))
    let words = model.vocabulary
    vocabulary = words.size
    var limits = ReplicaRegistry<PeerID>.Limits()
    limits.silence = options.silence.nanoseconds
    limits.hang = options.hang.nanoseconds
    var hedging = HedgePolicy.Limits()
    hedging.share = options.hedgeShare
    hedging.minimum = 20_000_000
    pool = ExpertPool(
      requirements: .init(
        experts: [Self.expert], vocabularyFingerprint: words.fingerprint, vocabularySize: words.size,
        protocolRange: WireCodec.oldestProtocol...WireCodec.currentProtocol, reproducible: true),
      limits: limits, vocabulary: VocabularyTexts(size: words.size) { words.text($0) },
      heartbeatInterval: options.heartbeat, hedging: hedging, logger: logger)
    link = ExpertLink.Settings(stepTimeout: options.stepTimeout, expertWait: .seconds(20))
    let endpoint = "ipc://\(scratch.path("pool.sock"))"
    var messaging = MessagingOptions(logger: logger)
    messaging.tickInterval = .milliseconds(10)
    server = try MessageServer(endpoints: [endpoint], options: messaging, handler: pool)
    proxies = try (0..<options.replicas).map { _ in try FaultProxy(coordinator: endpoint) }
    workers = try proxies.map { proxy in
      var configuration = WorkerConfiguration(expert: Self.expert, model: path, coordinators: [proxy.endpoint])
      configuration.context = 256
      configuration.slots = options.slots
      configuration.drainTimeout = .seconds(2)
      return try WorkerRuntime.start(configuration, logger: logger)
    }
    tasks = workers.map { worker in Task { try await worker.run() } }
  }

  /// Waits until `condition` holds; false if it does not within some seconds.
  func until(_ condition: () -> Bool) async -> Bool {
    for _ in 0..<4_000 {
      if condition() { return true }
      try? await Task.sleep(for: .milliseconds(5))
    }
    return false
  }

  var serving: Int { pool.state.withLock { $0.registry.serving(Self.expert).count } }

  func newLink(_ sequence: UInt64) -> ExpertLink {
    ExpertLink(expert: Self.expert, sequence: sequence, pool: pool, settings: link, logger: logger)
  }

  /// Tokens that went through the workers' models.
  var evaluated: UInt64 { workers.reduce(0) { $0 + $1.service.engine.load.evaluatedTokens } }

  /// Has every worker forget a sequence that goes on: the next step finds its prefix missing.
  func forget(_ sequence: UInt64) {
    for worker in workers { worker.service.release(coordinator: pool.incarnation, sequence: sequence) }
  }

  /// What is left of sequences anywhere: nothing, once all have ended.
  var leftovers: [String] {
    var found: [String] = []
    pool.state.withLock { state in
      if !state.calls.isEmpty { found.append("\(state.calls.count) calls") }
      if !state.steps.isEmpty { found.append("\(state.steps.count) steps") }
      for replica in state.registry.replicas.values {
        if !replica.assigned.isEmpty { found.append("\(replica.id) has \(replica.assigned)") }
        if replica.pending != 0 { found.append("\(replica.id) has \(replica.pending) pending") }
      }
    }
    for (index, worker) in workers.enumerated() {
      if worker.service.openSequences != 0 {
        found.append("worker \(index): \(worker.service.openSequences) sequences")
      }
      if worker.service.pending != 0 { found.append("worker \(index): \(worker.service.pending) requests") }
    }
    return found
  }

  func stop() async {
    for worker in workers { worker.drain() }
    pool.close()
    server.shutdown(flushing: .milliseconds(100))
    for task in tasks { _ = await task.result }
    for proxy in proxies { proxy.close() }
  }
}

/// A client that drafts: it asks for two positions ahead of what is certain, on guesses of its own, and rolls back where
/// a guess was wrong. Greedy, so the text is a function of the prompt.
struct DraftingClient {
  let link: ExpertLink
  /// Answers guesses: right, or not.
  var guess: (_ position: Int, _ ahead: Int) -> Token
  private(set) var chain: TokenChain
  private(set) var rollBacks = 0
  /// Tokens sent that turned out wrong.
  private(set) var wasted = 0
  private(set) var steps = 0

  init(_ prompt: [Token], link: ExpertLink, guess: @escaping (_ position: Int, _ ahead: Int) -> Token) {
    self.link = link
    self.guess = guess
    chain = TokenChain(prompt)
  }

  /// Decodes until the chain has `length` tokens; `before` is called with each step's number and whether it follows a
  /// roll-back.
  mutating func run(to length: Int, before: (Int, Bool) -> Void = { _, _ in }) async throws -> [Token] {
    var follows = false
    while chain.count < length {
      let known = chain.count
      let guesses = [guess(known, 0), guess(known + 1, 1)]
      chain.append(contentsOf: guesses)
      let wants = (0...2).map { Step.Want(position: known - 1 + $0, topK: 1) }
      before(steps, follows)
      steps += 1
      let (result, _) = try await link.step(chain, wants: wants)
      let best = try result.rows.map { row throws -> Token in
        guard case .partial(let partial) = row, let token = partial.topIDs.first else {
          throw FusionRouteError.internal("no row")
        }
        return token
      }
      guard best.count == 3 else { throw FusionRouteError.internal("\(best.count) rows for 3 positions") }
      let right = zip(guesses, best).prefix { $0 == $1 }.count
      follows = right < 2
      if follows {
        rollBacks += 1
        wasted += 2 - right
        chain.truncate(to: known + right)
        await link.rollBack(to: known + right)
      }
      chain.append(best[right])
    }
    return Array(chain.tokens.prefix(length))
  }
}

/// Counts what passes a proxy, and says when it is a rule's turn.
final class Turn: Sendable {
  private let left: LockedBox<Int>
  private let hits = LockedBox(0)

  /// - Parameter after: occasions that pass before the one that counts.
  init(after: Int) { left = LockedBox(after) }

  /// True once.
  func comes() -> Bool {
    left.withValue { left in
      defer { left -= 1 }
      guard left == 0 else { return false }
      hits.withValue { $0 += 1 }
      return true
    }
  }

  var came: Bool { hits.withValue { $0 > 0 } }
}

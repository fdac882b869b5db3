internal import Core
internal import Fusion
internal import Logging
internal import Wire

/// One sequence's line to one expert: it knows where the prefix is, sends what is missing, and moves to another replica
/// when the present one is lost.
///
/// Requests on one link run one after another; a step waits for a catch-up that is under way.
actor ExpertLink {
  /// No replica of the expert is left, and none came within the time allowed.
  struct Unavailable: Error {
    let expert: String
    let reason: String
  }

  struct Settings: Sendable {
    var stepTimeout: Duration
    var expertWait: Duration
  }

  /// Attempts at one step before it is given up.
  private static let maximumAttempts = 12
  /// Times in a row that a replica may lack the prefix: once when it has lost it, once more when it had to make room.
  private static let maximumMisses = 2

  let expert: String
  private let sequence: UInt64
  private let pool: ExpertPool
  private let settings: Settings
  private let logger: Logger
  private var ledger = PrefixLedger()
  private var replica: ReplicaID?
  /// What binds the sequence since its first step.
  private var pin: ReplicaPin?
  /// Whole blocks of the prefix that `replica` was told of in the pool's directory.
  private var notedBlocks = 0
  private var excluded: Set<ReplicaID> = []
  /// The whole wait for a replica has passed in vain: it is not spent again at every further token.
  private var hasWaitedInVain = false
  private var background: Task<Void, Never>?
  private(set) var evaluatedTokens = 0
  private(set) var failovers = 0

  init(expert: String, sequence: UInt64, pool: ExpertPool, settings: Settings, logger: Logger) {
    self.expert = expert
    self.sequence = sequence
    self.pool = pool
    self.settings = settings
    self.logger = logger
  }

  /// Starts to bring the expert up to `chain` without waiting; nothing happens while an earlier start is under way.
  func prepare(_ chain: TokenChain, keepingRowAt position: Int? = nil, trace: TraceContext? = nil) {
    guard background == nil, ledger.held < chain.count || position != nil else { return }
    let wants = position.map { [Step.Want(position: $0)] } ?? []
    background = Task {
      // Its failure shows again, and is answered, when the expert is next needed.
      _ = try? await perform(chain, wants: wants, trace: trace)
      background = nil
    }
  }

  /// Rows of the wanted positions on exactly `chain`, and who computed them.
  func step(
    _ chain: TokenChain, wants: [Step.Want], trace: TraceContext? = nil
  ) async throws -> (result: StepResult, replica: ReplicaID) {
    await backgroundEnded()
    return try await perform(chain, wants: wants, trace: trace)
  }

  /// Waits for a catch-up that is under way. Cancelling the waiting task stops it: a request that was given up does not
  /// hold its slot until an expert has read the whole prompt.
  private func backgroundEnded() async {
    while let background {
      await withTaskCancellationHandler {
        await background.value
      } onCancel: {
        background.cancel()
      }
    }
  }

  private func perform(
    _ chain: TokenChain, wants: [Step.Want], trace: TraceContext?
  ) async throws -> (result: StepResult, replica: ReplicaID) {
    var misses = 0
    // Who has refused the step, which may be for want of context, that another replica has.
    var refused: Set<ReplicaID> = []
    var refusal = ""
    for _ in 0..<Self.maximumAttempts {
      try Task.checkCancellation()
      let replica = try await home(for: chain)
      guard !refused.contains(replica) else {
        throw FusionRouteError.badInput("expert \"\(expert)\" refused the prompt: \(refusal)")
      }
      guard let pin else { throw FusionRouteError.internal("a sequence without a numerics class") }
      let order = StepOrder(
        expert: expert, sequence: sequence, chain: chain, wants: wants, pin: pin, timeout: settings.stepTimeout,
        trace: trace)
      let plan = ledger.plan(chain, through: chain.count)
      switch await pool.step(plan, order, replica: replica) {
      case .reply(let result):
        evaluatedTokens += result.evaluatedTokens
        excluded.removeAll()
        if result.replica != replica { follow(to: result.replica, from: replica, chain) }
        note(chain, at: result.replica)
        return (result, result.replica)
      case .missing(let held):
        misses += 1
        if misses > Self.maximumMisses {
          leave(replica, reason: "it lacks the prefix whatever it is sent")
          misses = 0
        } else {
          ledger.missing(held, chain: chain)
        }
      case .failure(let code, let message):
        if code == .context || code == .invalid {
          refused.insert(replica)
          refusal = message
        }
        leave(replica, reason: "\(code.rawValue): \(message)")
      case .lost(let reason): leave(replica, reason: reason)
      case .cancelled: throw CancellationError()
      }
    }
    throw Unavailable(expert: expert, reason: "\(Self.maximumAttempts) attempts at one step failed")
  }

  /// The replica that serves this sequence, placed anew when there is none.
  private func home(for chain: TokenChain) async throws -> ReplicaID {
    if let replica {
      switch pool.standing(of: replica, pin: pin) {
      case .stays: return replica
      case .crowded: move(from: replica, reason: "another replica has a free slot")
      case .leaves: leave(replica, reason: "it no longer takes steps")
      }
    }
    let deadline = MonotonicClock.now + (hasWaitedInVain ? 0 : settings.expertWait.nanoseconds)
    let placed = try await pool.placeWaiting(
      expert, sequence: sequence, pin: pin, prefix: PrefixBlocks(chain), excluding: excluded, until: deadline)
    hasWaitedInVain = placed == nil
    guard let (id, offer) = placed else {
      throw Unavailable(
        expert: expert,
        reason: pin == nil
          ? "no replica came within \(settings.expertWait)"
          : "no replica that could go on with the answer exactly came within \(settings.expertWait)")
    }
    replica = id
    pin = pool.pin(of: offer)
    return id
  }

  private func leave(_ replica: ReplicaID, reason: String) {
    excluded.insert(replica)
    failovers += 1
    move(from: replica, reason: reason)
  }

  private func move(from replica: ReplicaID, reason: String) {
    logger.info(
      "sequence moves to another replica",
      metadata: ["expert": "\(expert)", "sequence": "\(sequence)", "replica": "\(replica)", "reason": "\(reason)"])
    pool.release(sequence, at: replica)
    self.replica = nil
    notedBlocks = 0
    ledger.moved()
  }

  /// A second replica answered first: the sequence goes on there.
  private func follow(to second: ReplicaID, from first: ReplicaID, _ chain: TokenChain) {
    leave(first, reason: "another replica was faster")
    replica = second
    // What the second was sent: everything, in the epoch that begins with a move.
    _ = ledger.plan(chain, through: chain.count)
  }

  /// Lets others with the same beginning find the replica, once for every block of the prefix.
  private func note(_ chain: TokenChain, at replica: ReplicaID) {
    let blocks = chain.count / PrefixBlocks.tokensPerBlock
    guard blocks != notedBlocks else { return }
    notedBlocks = blocks
    pool.note(sequence, PrefixBlocks(chain), at: replica)
  }

  /// The chain was cut to `length` tokens: what was sent beyond is void.
  func rollBack(to length: Int) async {
    await backgroundEnded()
    ledger.rollBack(to: length)
  }

  /// Waits until the expert has read `chain`: what was started in the background, and what that left out.
  func settle(_ chain: TokenChain) async {
    await backgroundEnded()
    guard replica != nil, ledger.held < chain.count else { return }
    _ = try? await perform(chain, wants: [], trace: nil)
  }

  /// A wrong number was caught: the replica is never used again.
  func quarantine(_ replica: ReplicaID, reason: String) {
    pool.quarantine(replica, reason: reason)
    if self.replica == replica { leave(replica, reason: reason) }
  }

  /// The sequence has ended. Whatever is under way is over before the replica is told: it would take the sequence up
  /// again.
  func end() async {
    background?.cancel()
    await background?.value
    if let replica { pool.release(sequence, at: replica) }
    replica = nil
  }
}

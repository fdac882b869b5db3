internal import Core
internal import Foundation
internal import Synchronization

/// The decoder's thread: takes requests, finds them a slot, and decides what the model runs on next.
///
/// One turn of the loop: single steps of all sequences together, then one budget of prefill (``runPrefill()``). So a step
/// waits for at most one budget.
final class DecoderCore {
  struct Pending {
    let request: DecodeRequest
    let submitted: DecoderMailbox.Moment
    /// Whether it had to wait for a slot, for an earlier request of its sequence, or for what another one reads.
    var wasHeldBack = false

    var heldBack: Pending { Pending(request: request, submitted: submitted, wasHeldBack: true) }
  }

  /// A request that has a slot.
  struct Active {
    let request: DecodeRequest
    let slot: Int
    let submitted: DecoderMailbox.Moment
    let wasHeldBack: Bool
    /// Order of arrival; also names the entry while indices shift.
    let serial: UInt64
    /// Next position to evaluate.
    var next: Int
    /// Index into `request.wanted` of the next row to deliver.
    var wantedIndex = 0
    let reused: Int
    var evaluated = 0
    var firstCompute: UInt64?
    var computeNanoseconds: UInt64 = 0
    var failures = 0

    var remaining: Int { request.tokens.count - next }
    var nextWanted: Int? { wantedIndex < request.wanted.count ? request.wanted[wantedIndex] : nil }
  }

  /// A request survives so many failed computations.
  static let failureLimit = 2
  /// A hidden state forces an output for every token of its batch: longer leads are evaluated without one first.
  static let hiddenLead = 4

  let model: Model
  let configuration: DecoderConfiguration
  let context: LlamaContext
  let monitor: DecoderMonitor
  let mailbox: DecoderMailbox
  var table: SlotTable
  var waiting: [Pending] = []
  var active: [Active] = []
  var costs: StepCosts
  var gathering = GatherPolicy()
  var prefills = PrefillPolicy()
  /// Measured milliseconds per prefill token; nil before the first chunk.
  var prefillTokenMilliseconds: Double?
  private var serial: UInt64 = 0
  private var releasedWhilePinned: Set<UInt64> = []
  private let copyMilliseconds: Double

  init(
    model: Model, configuration: DecoderConfiguration, context: LlamaContext, monitor: DecoderMonitor,
    mailbox: DecoderMailbox
  ) {
    self.model = model
    self.configuration = configuration
    self.context = context
    self.monitor = monitor
    self.mailbox = mailbox
    costs = StepCosts(fixedShare: configuration.fixedStepShare)
    table = SlotTable(count: context.slots)
    let bytes = MemoryForecast.kvBytes(
      information: model.information, tokens: context.contextPerSequence,
      type: configuration.resolvedKVType(model: model), model: model)
    // Read and written at a cautious 4 GB/s.
    copyMilliseconds = Double(bytes) / 4e6
  }

  func run() {
    while absorb(mailbox.take(wait: active.isEmpty && waiting.isEmpty)) {
      gather()
      publish()
      runSteps()
      if hasPrefill {
        // Steps that came meanwhile need not wait for a chunk; those that come meanwhile again do, or prefill would
        // not get on.
        guard absorb(mailbox.take(wait: false)) else { break }
        runSteps()
        runPrefill()
      }
    }
    shutDown()
  }

  /// Takes messages in and finds places for requests; false once the decoder is to stop.
  func absorb(_ messages: [DecoderMailbox.Message]?) -> Bool {
    guard let messages else { return false }
    for message in messages { handle(message) }
    placeWaiting()
    return true
  }

  /// Waits a moment for steps that are likely to come, so that they are decoded with those that are here.
  private func gather() {
    let ready = active.count { stepWidth($0) != nil }
    guard ready > 0 else { return }
    let start = monotonicNanoseconds()
    let others = gathering.expected(besides: Set(active.map(\.request.sequence)), now: start)
    let expected = min(others, groupLimit() - ready)
    let wait = gathering.wait(
      ready: ready, expected: expected, cost: { self.costs.milliseconds(sequences: $0) })
    guard wait > 0 else { return }
    var now = start
    while active.count(where: { stepWidth($0) != nil }) < ready + expected, now < start + wait {
      guard absorb(mailbox.take(nanoseconds: start + wait - now)) else { return }
      now = monotonicNanoseconds()
    }
    gathering.record(gathered: active.count { stepWidth($0) != nil } > ready)
  }

  func publish() {
    monitor.residentSequences.store(table.resident, ordering: .relaxed)
    monitor.kvTokens.store(table.residentTokens, ordering: .relaxed)
    monitor.evictions.store(table.evictions, ordering: .relaxed)
  }

  // MARK: - Taking requests

  private func handle(_ message: DecoderMailbox.Message) {
    switch message {
    case .request(let request, let submitted):
      releasedWhilePinned.remove(request.sequence)
      table.pin(request.sequence)
      waiting.append(Pending(request: request, submitted: submitted))
    case .cancel(let id):
      _ = monitor.cancelled.compareExchange(expected: id, desired: 0, ordering: .relaxed)
      let error = FusionRouteError.interrupted("the request was cancelled")
      if let index = waiting.firstIndex(where: { $0.request.id == id }) {
        let pending = waiting.remove(at: index)
        conclude(pending.request, .failure(error))
      } else if let index = active.firstIndex(where: { $0.request.id == id }) {
        finish(at: index, .failure(error))
      }
    case .release(let sequence):
      // Requests of it that are still under way keep it until they are done.
      gathering.forget(sequence)
      if table.isPinned(sequence) { releasedWhilePinned.insert(sequence) } else { table.release(sequence) }
    }
  }

  /// Gives slots to waiting requests in order; a request whose sequence has a slot already need not wait for others.
  private func placeWaiting() {
    guard !waiting.isEmpty else { return }
    var left: [Pending] = []
    // Sequences whose later requests must wait for an earlier one.
    var busy = Set(active.map(\.request.sequence))
    var full = false
    // Copies take time in which nothing is computed: no more of them at once than a chunk takes.
    var copies = max(1, Int(min(configuration.prefillMilliseconds / max(copyMilliseconds, 1e-3), 1e6)))
    for pending in waiting {
      let sequence = pending.request.sequence
      if busy.contains(sequence) || (full && table.slot(of: sequence) == nil) {
        left.append(pending.heldBack)
        busy.insert(sequence)
        continue
      }
      if isBeingRead(pending.request) || (copies == 0 && table.slot(of: sequence) == nil) {
        left.append(pending.heldBack)
        busy.insert(sequence)
        continue
      }
      switch place(pending, copies: &copies) {
      case .placed: busy.insert(sequence)
      case .concluded: break
      case .noRoom:
        full = true
        left.append(pending.heldBack)
        busy.insert(sequence)
      }
    }
    waiting = left
  }

  /// Whether another request is about to compute much of this one's prefix: it is copied then, not computed twice.
  ///
  /// Only behind one that `PrefillPolicy` serves before this one: the first, or one with no more left.
  private func isBeingRead(_ request: DecodeRequest) -> Bool {
    guard hasPrefill, !model.information.isRecurrent else { return false }
    let reusable = request.wanted.first ?? request.tokens.count
    // Steps need not be compared with every slot.
    let own = table.slot(of: request.sequence).map { commonPrefix(table.tokens(of: $0), request.tokens) } ?? 0
    guard reusable - own > copyCost else { return false }
    let held = table.longestPrefix(of: request.tokens)
    let left = request.tokens.count - held
    // What one computation reads waits for nobody.
    guard reusable - held > copyCost, left > max(configuration.stepTokens, timedChunk) else { return false }
    let prefills = active.filter { stepWidth($0) == nil }
    let first = prefills.map(\.serial).min()
    return prefills.contains { other in
      guard other.serial == first || other.remaining <= left else { return false }
      let shared = min(commonPrefix(other.request.tokens, request.tokens), reusable)
      return shared > other.next && shared - held > copyCost
    }
  }

  private enum Attempt { case placed, concluded, noRoom }

  private func place(_ pending: Pending, copies: inout Int) -> Attempt {
    let request = pending.request
    let placement = table.place(
      request.sequence, tokens: request.tokens, reusable: request.wanted.first ?? request.tokens.count,
      copyCost: model.information.isRecurrent ? Int.max : copyCost)
    guard let placement else { return .noRoom }
    if case .copy = placement { copies = max(0, copies - 1) }
    let (slot, reused) = carryOut(placement)
    guard request.tokens[reused...].allSatisfy({ $0 >= 0 && Int($0) < model.vocabulary.size }) else {
      let size = model.vocabulary.size
      conclude(request, .failure(.badInput("a prefix holds a token outside the vocabulary of \(size) tokens")))
      return .concluded
    }
    serial += 1
    active.append(
      Active(
        request: request, slot: slot, submitted: pending.submitted, wasHeldBack: pending.wasHeldBack, serial: serial,
        next: reused, reused: reused))
    guard reused == request.tokens.count else { return .placed }
    finish(at: active.count - 1, success: ())
    return .concluded
  }

  /// Tokens that could be evaluated in the time of one copy of a slot.
  private var copyCost: Int {
    let perToken = prefillTokenMilliseconds ?? 3
    return Int((copyMilliseconds / max(perToken, 0.001)).rounded(.up)) + 4
  }

  /// Brings the KV cache to what the table says; returns the slot and the tokens it holds.
  private func carryOut(_ placement: SlotTable.Placement) -> (slot: Int, kept: Int) {
    switch placement {
    case .inPlace(let slot, let keep, let rollBack):
      return (slot, rollBack ? cut(slot, to: keep) : keep)
    case .copy(let source, let target, let keep):
      context.clear(slot: target)
      context.copy(from: source, to: target)
      return (target, cut(target, to: keep))
    }
  }

  /// Rolls `slot` back to `count` tokens, or to none where that cannot be done exactly.
  private func cut(_ slot: Int, to count: Int) -> Int {
    if count > 0, context.remove(slot: slot, from: count) {
      // A window that has moved on lacks the keys that position `count` sees.
      let window = model.information.slidingWindow ?? Int.max
      let first = context.firstPosition(of: slot)
      if first >= 0, first <= max(0, count - window), context.lastPosition(of: slot) == count - 1 { return count }
    }
    context.clear(slot: slot)
    table.truncate(slot, to: 0)
    return 0
  }

  // MARK: - Finishing requests

  func finish(at index: Int, success: Void) {
    let entry = active[index]
    let now = monotonicNanoseconds()
    finish(
      at: index,
      .success(
        DecodeSummary(
          evaluatedTokens: entry.evaluated, reusedTokens: entry.reused,
          queueNanoseconds: (entry.firstCompute ?? now) - entry.submitted.nanoseconds,
          computeNanoseconds: entry.computeNanoseconds)))
  }

  func finish(at index: Int, _ result: Result<DecodeSummary, FusionRouteError>) {
    let entry = active.remove(at: index)
    conclude(entry.request, result)
  }

  private func conclude(_ request: DecodeRequest, _ result: Result<DecodeSummary, FusionRouteError>) {
    table.unpin(request.sequence)
    if !table.isPinned(request.sequence), releasedWhilePinned.remove(request.sequence) != nil {
      table.release(request.sequence)
    }
    monitor.queued.wrappingSubtract(1, ordering: .relaxed)
    request.completion(result)
  }

  private func shutDown() {
    let error = FusionRouteError.interrupted("the decoder was shut down")
    for entry in active { conclude(entry.request, .failure(error)) }
    for pending in waiting { conclude(pending.request, .failure(error)) }
    for case .request(let request, _) in mailbox.leftovers() { conclude(request, .failure(error)) }
    active = []
    waiting = []
  }
}

internal import Core
internal import Synchronization

extension DecoderCore {
  private static let firstChunk = 32
  /// llama.cpp's kernels take tokens in blocks: a chunk a little wider than a whole number of them costs one more.
  private static let block = 16
  /// Where a block takes too long. Blocks of so many cost some types a little more per token, and others nothing.
  private static let smallestChunk = 8
  private static let smoothing = 0.3
  /// Where no other sequence is alive, whose next step would have to wait for it, a chunk may take so many times as long:
  /// wide chunks cost less per token.
  private static let aloneFactor = 20.0
  /// A chunk may have so many tokens for each sequence that steps, which takes about as long as a step of all of them, ...
  private static let chunkPerStep = 2
  /// ... and so many for each prompt that is waiting. With fewer, sequences would wait for their prompts one after the other,
  /// and the few that are past theirs would step in small batches.
  private static let chunkPerPrompt = 4

  /// Evaluates one chunk of one prefill; see ``PrefillPolicy``.
  func runPrefillChunk() {
    guard !monitor.abort.load(ordering: .relaxed) else { return }
    let waiting = active.indices.filter { stepWidth(active[$0]) == nil }
    let next = prefills.next(
      waiting.map { PrefillPolicy.Candidate(remaining: active[$0].remaining, serial: active[$0].serial) },
      chunk: timedChunk)
    guard let index = next.map({ waiting[$0] }) else { return }
    let entry = active[index]
    let lead = entry.nextWanted.map { $0 - entry.next } ?? Int.max
    let hiddenNow = entry.request.wantsHidden && lead <= Self.hiddenLead
    let width = chunkWidth(entry, hiddenNow: hiddenNow)
    context.begin(hidden: hiddenNow)
    addTokens(of: entry, count: width)
    let expected = Double(width) * (prefillTokenMilliseconds ?? 1000)
    let (outcome, nanoseconds) = compute(expectedMilliseconds: expected, members: [index])
    monitor.prefillChunks.wrappingAdd(1, ordering: .relaxed)
    if case .done = outcome, width >= Self.smallestChunk { record(width: width, nanoseconds: nanoseconds) }
    settle(outcome, members: [(index, 0)], width: width, nanoseconds: nanoseconds)
  }

  /// Whether anything is left that is not a step.
  var hasPrefill: Bool { active.contains { stepWidth($0) == nil } }

  /// Tokens that a chunk may have by its time.
  var timedChunk: Int {
    let isAlone = active.count == 1 && waiting.isEmpty && table.owners == 1
    let milliseconds = configuration.prefillMilliseconds * (isAlone ? Self.aloneFactor : 1)
    let timed = prefillTokenMilliseconds.map { Int(milliseconds / max($0, 0.0001)) } ?? Self.firstChunk
    let tokens = max(
      timed, Self.chunkPerStep * gathering.stepping(now: monotonicNanoseconds()),
      Self.chunkPerPrompt * active.count { stepWidth($0) == nil })
    let whole = tokens < Self.block ? Self.smallestChunk : tokens / Self.block * Self.block
    return min(whole, context.batchLimit)
  }

  private func chunkWidth(_ entry: Active, hiddenNow: Bool) -> Int {
    var width = timedChunk
    // No small remainder, which would cost a call of its own.
    if entry.remaining <= width + width / 4 { width = min(entry.remaining, context.batchLimit) }
    width = min(width, entry.remaining)
    if entry.request.wantsHidden, !hiddenNow, let wanted = entry.nextWanted { width = min(width, wanted - entry.next) }
    if hiddenNow { return min(width, context.outputLimit) }
    // Rows of logits per call are bounded too.
    let beyond = entry.wantedIndex + context.outputLimit
    if beyond < entry.request.wanted.count { width = min(width, entry.request.wanted[beyond] - entry.next) }
    return max(1, width)
  }

  private func record(width: Int, nanoseconds: UInt64) {
    let perToken = Double(nanoseconds) / 1e6 / Double(width)
    if let old = prefillTokenMilliseconds {
      prefillTokenMilliseconds = old + Self.smoothing * (min(perToken, 3 * old) - old)
    } else {
      prefillTokenMilliseconds = perToken
    }
  }
}

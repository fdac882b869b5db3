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

  /// Evaluates a chunk of one prefill, and where that one ends early, of the next ones, each in a call of its own.
  func runPrefill() {
    defer { monitor.prefillTurns.wrappingAdd(1, ordering: .relaxed) }
    let most = timedChunk
    var left = most
    repeat {
      let width = runChunk(most: left)
      guard width > 0 else { return }
      left -= width
    } while left >= max(Self.block, most / 4) && hasPrefill
  }

  /// Evaluates up to so many tokens (and a small remainder) of the prefill whose turn it is; see ``PrefillPolicy``.
  ///
  /// - Returns: how many tokens; 0 if there was nothing to do or it failed.
  private func runChunk(most: Int) -> Int {
    guard !monitor.abort.load(ordering: .relaxed) else { return 0 }
    let waiting = active.indices.filter { stepWidth(active[$0]) == nil }
    let next = prefills.next(
      waiting.map { PrefillPolicy.Candidate(remaining: active[$0].remaining, serial: active[$0].serial) },
      chunk: most)
    guard let index = next.map({ waiting[$0] }) else { return 0 }
    let entry = active[index]
    let lead = entry.nextWanted.map { $0 - entry.next } ?? Int.max
    let hiddenNow = entry.request.wantsHidden && lead <= Self.hiddenLead
    let width = chunkWidth(entry, most: most, hiddenNow: hiddenNow)
    context.begin(hidden: hiddenNow)
    addTokens(of: entry, count: width)
    let expected = Double(width) * (prefillTokenMilliseconds ?? 1000)
    let (outcome, nanoseconds) = compute(expectedMilliseconds: expected, members: [index])
    monitor.prefillChunks.wrappingAdd(1, ordering: .relaxed)
    if case .done = outcome, width >= Self.smallestChunk { record(width: width, nanoseconds: nanoseconds) }
    settle(outcome, members: [(index, 0)], width: width, nanoseconds: nanoseconds)
    if case .done = outcome { return width } else { return 0 }
  }

  /// Whether anything is left that is not a step.
  var hasPrefill: Bool { active.contains { stepWidth($0) == nil } }

  /// Tokens that a chunk may have by its time.
  var timedChunk: Int {
    let isAlone = active.count == 1 && waiting.isEmpty && table.owners == 1
    let milliseconds = configuration.prefillMilliseconds * (isAlone ? Self.aloneFactor : 1)
    let timed = prefillTokenMilliseconds.map { Int(milliseconds / max($0, 0.0001)) } ?? Self.firstChunk
    let tokens = PrefillPolicy.tokens(
      timed: timed, prompts: active.count { stepWidth($0) == nil },
      stepping: gathering.stepping(now: monotonicNanoseconds()))
    let whole = tokens < Self.block ? Self.smallestChunk : tokens / Self.block * Self.block
    return min(whole, context.batchLimit)
  }

  private func chunkWidth(_ entry: Active, most: Int, hiddenNow: Bool) -> Int {
    var width = most
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

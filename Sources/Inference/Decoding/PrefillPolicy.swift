/// Whose prefill gets the next chunk, and how long that is.
///
/// What a chunk ends (an answer's catch-up, a short prompt) goes before what takes many, so that no running answer waits
/// for another's whole prompt; but every other chunk is for the long ones while there are any, so that these get on
/// whatever comes. Among the short ones the one that came first is next.
///
/// Among the long ones, turn by turn: the one with the least left, so that prompts that came together end one after the
/// other and not all at the end; and the one that came first, so that none waits for ever behind shorter ones.
struct PrefillPolicy {
  struct Candidate {
    /// Tokens left.
    var remaining: Int
    /// Order of arrival.
    var serial: UInt64
  }

  private static let tokensPerStep = 2
  private static let tokensPerPrompt = 4
  private static let mostTokensPerStep = 8

  /// Tokens that a chunk may have.
  ///
  /// By time alone, prompts wait for each other as soon as many come: the few sequences that are past theirs step in small
  /// batches, which take longer per token, and it stays so. So a chunk grows with the sequences that step, which it then
  /// delays about as long as their own step takes, and with the prompts that wait, up to some times as long.
  ///
  /// - Parameters:
  ///   - timed: what may be read in the time that a step of one sequence may wait.
  ///   - prompts: how many wait to be read.
  ///   - stepping: sequences that have stepped lately.
  static func tokens(timed: Int, prompts: Int, stepping: Int) -> Int {
    let crowded = tokensPerPrompt * prompts
    return max(
      timed, tokensPerStep * stepping, stepping == 0 ? crowded : min(crowded, mostTokensPerStep * stepping))
  }

  private var lastWasShort = false
  private var lastWasFirst = false

  /// Index of the candidate that is next; nil if there is none.
  ///
  /// - Parameter chunk: tokens of one chunk.
  mutating func next(_ candidates: [Candidate], chunk: Int) -> Int? {
    let indices = candidates.indices
    let long = indices.filter { candidates[$0].remaining > chunk }
    let short = indices.filter { candidates[$0].remaining <= chunk }
    lastWasShort = !short.isEmpty && (long.isEmpty || !lastWasShort)
    let first = { (list: [Int]) in list.min { candidates[$0].serial < candidates[$1].serial } }
    if lastWasShort { return first(short) }
    lastWasFirst.toggle()
    guard !lastWasFirst else { return first(long) }
    return long.min {
      (candidates[$0].remaining, candidates[$0].serial) < (candidates[$1].remaining, candidates[$1].serial)
    }
  }
}

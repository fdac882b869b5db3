/// Whose prefill gets the next chunk.
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

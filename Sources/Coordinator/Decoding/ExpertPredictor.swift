/// Guesses which expert follows another within one answer, by counting the switches so far.
struct ExpertPredictor: Sendable {
  private var switches: [[Int]]
  private var previous: Int?

  init(experts: Int) {
    switches = Array(repeating: Array(repeating: 0, count: experts), count: experts)
  }

  mutating func observe(_ expert: Int) {
    if let previous, previous != expert { switches[previous][expert] += 1 }
    previous = expert
  }

  /// The expert most often switched to from `expert`, lowest index on ties; the next in order before any switch.
  func likelyNext(after expert: Int) -> Int? {
    guard switches.count > 1 else { return nil }
    let row = switches[expert]
    guard let most = row.max(), most > 0 else { return (expert + 1) % switches.count }
    return row.firstIndex(of: most)
  }
}

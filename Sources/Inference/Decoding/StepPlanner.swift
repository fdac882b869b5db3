/// Measured duration of one call of llama.cpp for k sequences of one token each, in milliseconds.
struct StepCosts {
  /// Before anything is measured: each further sequence costs this share of the first. CPUs are near it, GPUs far below.
  private static let assumedShare = 0.7
  private static let leastShare = 0.02
  private static let smoothing = 0.2
  /// Two groups may take so much longer than one, together.
  private static let splitAllowance = 1.3

  private var measured: [Int: Double] = [:]
  private let share: Double
  private let isFixed: Bool

  /// - Parameter fixedShare: what each further sequence costs, in place of measured times; for tests, which must not
  ///   depend on how busy the machine is.
  init(fixedShare: Double? = nil) {
    share = fixedShare ?? Self.assumedShare
    isFixed = fixedShare != nil
  }

  mutating func record(sequences k: Int, milliseconds: Double) {
    guard k > 0, !isFixed else { return }
    if let old = measured[k] {
      // One slow call (a page fault, a busy machine) must not decide the shape of the next ones.
      measured[k] = old + Self.smoothing * (min(milliseconds, 3 * old) - old)
    } else {
      measured[k] = milliseconds
    }
  }

  /// Expected duration for k sequences: measured, between two measured ones, on the line through the least and the most that
  /// were measured, or scaled from the only one.
  func milliseconds(sequences k: Int) -> Double {
    if let known = measured[k] { return known }
    let below = measured.keys.filter { $0 < k }.max()
    let above = measured.keys.filter { $0 > k }.min()
    switch (below, above) {
    case (let low?, let high?):
      let share = Double(k - low) / Double(high - low)
      return measured[low]! + share * (measured[high]! - measured[low]!)
    case (let low?, nil):
      guard let least = measured.keys.min(), least < low else { return measured[low]! * shape(k) / shape(low) }
      // Where two small ones happened to take equally long, more of them still take longer.
      let slope = max((measured[low]! - measured[least]!) / Double(low - least), Self.leastShare * measured[least]!)
      return measured[low]! + slope * Double(k - low)
    case (nil, let high?): return measured[high]! * shape(k) / shape(high)
    case (nil, nil): return shape(k)
    }
  }

  /// How many of so many stepping sequences go together in one call.
  ///
  /// Router and expert take turns with each sequence: in one large group, one of the two would always wait for the
  /// other. In two groups both are busy, which pays wherever two calls of half the size take hardly longer than one.
  func groupSize(of sequences: Int) -> Int {
    let half = (sequences + 1) / 2
    guard sequences >= 2, 2 * milliseconds(sequences: half) <= Self.splitAllowance * milliseconds(sequences: sequences)
    else { return max(1, sequences) }
    return half
  }

  private func shape(_ k: Int) -> Double { 1 + share * Double(k - 1) }
}

/// Splits the steps that wait into calls of llama.cpp.
enum StepPlanner {
  /// As few groups as `maximumSteps` allows, as equal as can be.
  ///
  /// - Parameters:
  ///   - slots: the slots that have a step waiting, ascending.
  ///   - maximumSteps: most of `slots` in one group.
  static func groups(_ slots: [Int], maximumSteps: Int) -> [[Int]] {
    let count = (slots.count + max(1, maximumSteps) - 1) / max(1, maximumSteps)
    return (0..<count).map { Array(slots[($0 * slots.count / count)..<(($0 + 1) * slots.count / count)]) }
  }

  /// Runs of consecutive slots, for a llama.cpp that evaluates only such a run as one micro-batch.
  ///
  /// - Parameters:
  ///   - slots: the slots that have a step waiting, ascending.
  ///   - maximumRun: most slots in one run.
  ///   - maximumSteps: most of `slots` in one run.
  ///   - fillable: whether a slot without a step can be bridged by decoding a token of it.
  ///   - cost: duration of a run over so many slots.
  /// - Returns: runs that cover `slots` in ascending order; a run may include other slots where that is cheaper than
  ///   starting another run.
  static func runs(
    _ slots: [Int], maximumRun: Int, maximumSteps: Int, fillable: (Int) -> Bool, cost: (Int) -> Double
  ) -> [ClosedRange<Int>] {
    guard let first = slots.first, let last = slots.last else { return [] }
    if slots.count == last - first + 1, slots.count <= min(maximumRun, maximumSteps) { return [first...last] }
    let costs = (0...min(maximumRun, last - first + 1)).map { $0 == 0 ? 0 : cost($0) }
    // best[i]: least cost of covering slots[..<i]; from[i]: where its last run starts.
    var best = [0.0] + Array(repeating: Double.infinity, count: slots.count)
    var from = Array(repeating: 0, count: slots.count + 1)
    for start in slots.indices {
      for end in start..<min(slots.count, start + maximumSteps) {
        if end > start {
          let gap = (slots[end - 1] + 1)..<slots[end]
          guard gap.allSatisfy(fillable) else { break }
        }
        let length = slots[end] - slots[start] + 1
        guard length < costs.count else { break }
        let total = best[start] + costs[length]
        if total < best[end + 1] {
          best[end + 1] = total
          from[end + 1] = start
        }
      }
    }
    var runs: [ClosedRange<Int>] = []
    var end = slots.count
    while end > 0 {
      runs.append(slots[from[end]]...slots[end - 1])
      end = from[end]
    }
    return runs.reversed()
  }
}

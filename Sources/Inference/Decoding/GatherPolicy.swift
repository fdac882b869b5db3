/// Whether to wait a moment before a batch of steps, because more steps are likely to come.
///
/// Sequences that step in time with each other (a router has just handed all of them their next token) arrive within
/// some hundred microseconds; starting with the first would make the others wait for a whole step. Waiting is bounded by
/// a small share of that step, and given up where it did not pay.
struct GatherPolicy {
  /// A sequence counts as stepping for this long after its last step.
  static let memoryNanoseconds: UInt64 = 500_000_000
  /// The same where the question is how many there are, not whether to wait for them.
  static let countNanoseconds: UInt64 = 2_000_000_000
  private static let shareOfStep = 0.04
  private static let longest: UInt64 = 1_000_000
  private static let smoothing = 0.1
  /// Below this rate of success only every `retryInterval`-th occasion is tried.
  private static let leastSuccess = 0.25
  private static let retryInterval = 16

  private var lastStep: [UInt64: UInt64] = [:]
  private var success = 1.0
  private var skipped = 0

  /// `sequence` has made a step at time `now`.
  mutating func stepped(_ sequence: UInt64, now: UInt64) { lastStep[sequence] = now }

  mutating func forget(_ sequence: UInt64) { lastStep[sequence] = nil }

  /// How many sequences beyond `underWay` have stepped lately.
  mutating func expected(besides underWay: Set<UInt64>, now: UInt64) -> Int {
    forgetOld(now: now)
    return lastStep.count { now < $0.value + Self.memoryNanoseconds && !underWay.contains($0.key) }
  }

  /// How many sequences have stepped in the last two seconds.
  mutating func stepping(now: UInt64) -> Int {
    forgetOld(now: now)
    return lastStep.count
  }

  private mutating func forgetOld(now: UInt64) {
    lastStep = lastStep.filter { now < $0.value + Self.countNanoseconds }
  }

  /// Nanoseconds to wait at most; 0: start at once.
  ///
  /// - Parameters:
  ///   - ready: sequences with a step waiting.
  ///   - expected: further sequences that may bring one.
  ///   - cost: milliseconds of a step over so many sequences.
  mutating func wait(ready: Int, expected: Int, cost: (Int) -> Double) -> UInt64 {
    guard ready > 0, expected > 0 else { return 0 }
    let bound = min(UInt64(cost(ready) * Self.shareOfStep * 1e6), Self.longest)
    // Nothing to gain where a larger batch costs as much as two.
    guard cost(ready) + cost(1) - cost(ready + 1) > 2 * Double(bound) / 1e6 else { return 0 }
    if success < Self.leastSuccess {
      skipped += 1
      guard skipped % Self.retryInterval == 0 else { return 0 }
    }
    return bound
  }

  /// What came of a wait.
  mutating func record(gathered: Bool) {
    success += Self.smoothing * ((gathered ? 1 : 0) - success)
  }
}

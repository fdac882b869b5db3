/// When a step has taken so long that it is sent to a second replica as well, from what steps of its kind took before.
///
/// The budget is a multiple of a high percentile (Dean and Barroso, "The Tail at Scale", 2013). Steps differ in size, so
/// they are compared with those of about as many tokens. Hedges never exceed a share of the steps: each step earns a
/// part of one, and what is earned is saved up to a small number, for a replica that fails with many sequences on it.
struct HedgePolicy: Sendable {
  struct Limits: Sendable, Equatable {
    /// Which of the past times counts, 0 to 1.
    var percentile = 0.99
    /// The budget is so many times that.
    var factor = 2.0
    /// The least budget, in nanoseconds.
    var minimum: UInt64 = 100_000_000
    /// Hedges for each step, at most; 0: none ever.
    var share = 0.05
    /// Hedges that may be saved up.
    var savings = 16.0
  }

  /// Times remembered of each kind of step.
  static let window = 256
  /// Times that must be known before anything is held to be slow.
  static let minimumSamples = 32
  /// A budget is computed anew after so many further times.
  private static let refresh = 16

  private struct Times {
    var ring: [UInt64] = []
    var next = 0
    var sinceRefresh = 0
    var percentile: UInt64?

    mutating func add(_ time: UInt64, percentile share: Double) {
      if ring.count < HedgePolicy.window { ring.append(time) } else { ring[next] = time }
      next = (next + 1) % HedgePolicy.window
      sinceRefresh += 1
      guard ring.count >= HedgePolicy.minimumSamples, percentile == nil || sinceRefresh >= HedgePolicy.refresh else {
        return
      }
      sinceRefresh = 0
      percentile = ring.sorted()[min(ring.count - 1, Int(Double(ring.count) * share))]
    }
  }

  let limits: Limits
  private var times: [Int: Times] = [:]
  private var savings = 0.0
  private(set) var steps: UInt64 = 0
  private(set) var hedges: UInt64 = 0

  init(limits: Limits = Limits()) { self.limits = limits }

  /// Steps of one kind take about as long: their tokens to within a factor of two, rows that are sent whole or not.
  private static func kind(tokens: Int, fullRow: Bool) -> Int {
    let size = Int.bitWidth - max(1, tokens).leadingZeroBitCount
    return fullRow ? -size : size
  }

  /// A step was answered after so many nanoseconds.
  mutating func observed(_ nanoseconds: UInt64, tokens: Int, fullRow: Bool) {
    times[Self.kind(tokens: tokens, fullRow: fullRow), default: Times()].add(
      nanoseconds, percentile: limits.percentile)
  }

  /// A step begins; returns the nanoseconds it may take, nil while too little is known of its kind.
  mutating func began(tokens: Int, fullRow: Bool) -> UInt64? {
    steps += 1
    savings = min(limits.savings, savings + limits.share)
    guard limits.share > 0, let usual = times[Self.kind(tokens: tokens, fullRow: fullRow)]?.percentile else {
      return nil
    }
    return max(limits.minimum, UInt64(Double(usual) * limits.factor))
  }

  /// Whether a step that is over its budget may be sent a second time; if so it counts as done.
  mutating func spend() -> Bool {
    guard savings >= 1 else { return false }
    savings -= 1
    hedges += 1
    return true
  }
}

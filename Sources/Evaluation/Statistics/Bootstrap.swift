internal import Core

/// The bootstrap of means over prompts (Efron 1979), each task's prompts drawn among themselves.
///
/// Draws depend on the seed, the task and the number of its prompts only. So two methods on the same prompts are drawn
/// alike, which makes differences paired.
public struct Bootstrap: Sendable {
  /// Share of the replicates inside an interval.
  public static let confidence = 0.95

  public var resamples: Int
  /// What users may ask for: fewer say little about the ends of an interval, more take memory for nothing.
  public static let resampleCounts = 100...1 << 20
  public var seed: UInt64

  public init(resamples: Int = 10_000, seed: UInt64 = 1) {
    self.resamples = max(1, resamples)
    self.seed = seed
  }

  /// Means of resampled `values`; as many as ``resamples``, none for no values.
  ///
  /// - Parameter stratum: name of the task; another name draws otherwise.
  public func replicates(_ values: [Double], stratum: String) -> [Double] {
    guard !values.isEmpty else { return [] }
    let name = stratum.utf8.reduce(0xCBF2_9CE4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
    var random = SplitMix64(seed: SplitMix64.mix(seed) ^ name)
    let count = UInt64(values.count)
    return values.withUnsafeBufferPointer { values in
      (0..<resamples).map { _ in
        var sum = 0.0
        for _ in 0..<values.count {
          // The upper half of 64 bits, spread over the indices; the bias is below count / 2^32.
          sum += values[Int((random.next() >> 32 &* count) >> 32)]
        }
        return Self.snapped(sum / Double(values.count))
      }
    }
  }

  /// The percentile interval of replicates; nil for none.
  public static func interval(_ replicates: [Double]) -> Interval? {
    let sorted = replicates.sorted()
    guard let lower = Statistics.quantile(sorted, (1 - confidence) / 2),
      let upper = Statistics.quantile(sorted, (1 + confidence) / 2)
    else { return nil }
    return Interval(lower: lower, upper: upper)
  }

  /// Replicates of the mean of several tasks' means. Nil unless every task has some.
  public static func average(_ tasks: [[Double]]) -> [Double]? {
    guard let first = tasks.first, !first.isEmpty, tasks.allSatisfy({ $0.count == first.count }) else { return nil }
    return first.indices.map { index in snapped(tasks.reduce(0) { $0 + $1[index] } / Double(tasks.count)) }
  }

  /// Thirds and fifths that add up to zero miss it by a rounding, which would put them on one side of it.
  private static func snapped(_ mean: Double) -> Double { abs(mean) < 1e-12 ? 0 : mean }

  /// Two-sided p of "the mean is zero": twice the smaller share of replicates on either side of it, counting one more as
  /// Davison and Hinkley (1997, 4.11) do, so that it is never zero.
  public static func pValue(_ replicates: [Double]) -> Double {
    let below = replicates.count { $0 <= 0 }
    let above = replicates.count { $0 >= 0 }
    return min(1, 2 * Double(min(below, above) + 1) / Double(replicates.count + 1))
  }
}

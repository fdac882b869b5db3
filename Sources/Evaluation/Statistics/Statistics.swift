internal import Foundation

/// A range that holds an unknown quantity with a stated confidence.
public struct Interval: Sendable, Equatable {
  public var lower: Double
  public var upper: Double

  public init(lower: Double, upper: Double) {
    self.lower = lower
    self.upper = upper
  }
}

public enum Statistics {
  /// The quantile of sorted values by linear interpolation between the closest ranks (numpy's default, type 7 of Hyndman
  /// and Fan 1996). Nil for no values.
  public static func quantile(_ sorted: [Double], _ share: Double) -> Double? {
    guard let last = sorted.last else { return nil }
    let position = max(0, min(1, share)) * Double(sorted.count - 1)
    let index = Int(position)
    guard index + 1 < sorted.count else { return last }
    return sorted[index] + (position - Double(index)) * (sorted[index + 1] - sorted[index])
  }

  public static func mean(_ values: [Double]) -> Double? {
    values.isEmpty ? nil : values.reduce(0, +) / Double(values.count)
  }

  /// The exact two-sided sign test on discordant pairs, which is McNemar's exact test where outcomes are right or wrong:
  /// the probability, under equal chances, of a split at least as uneven. `wins` and `losses` must not be negative.
  public static func signTest(wins: Int, losses: Int) -> Double {
    let count = wins + losses
    guard count > 0 else { return 1 }
    var tail = 0.0
    for successes in 0...min(wins, losses) {
      tail += exp(
        lgamma(Double(count + 1)) - lgamma(Double(successes + 1)) - lgamma(Double(count - successes + 1))
          - Double(count) * log(2))
    }
    return min(1, 2 * tail)
  }
}

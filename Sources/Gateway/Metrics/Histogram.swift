/// Counts of values below given bounds, as Prometheus has them.
struct Histogram: Sendable, Equatable {
  /// Seconds, from a millisecond to ten minutes.
  static let latencies = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600]

  let bounds: [Double]
  /// By bound, values above all of them last; not cumulative.
  private(set) var counts: [UInt64]
  private(set) var sum = 0.0

  /// - Parameter bounds: ascending.
  init(bounds: [Double] = latencies) {
    self.bounds = bounds
    counts = Array(repeating: 0, count: bounds.count + 1)
  }

  var count: UInt64 { counts.reduce(0, +) }

  mutating func record(_ value: Double) {
    counts[bounds.firstIndex { value <= $0 } ?? bounds.count] += 1
    sum += value
  }
}

internal import Foundation

/// How routing weights combine the experts' opinions in the routing loss.
public enum RoutingAggregation: String, Sendable, CaseIterable {
  /// log π_agg = Σ softmax(w)_i · log π_i.
  case softmax
  /// log π_agg = Σ w_i · log π_i: the formula as printed, unbounded below.
  case raw
  /// log π_agg = log Σ softmax(w)_i · π_i.
  case mixture
}

/// L_route of one position: −log π_agg of the true token (arXiv 2601.05106, stage 1).
public struct RoutingLoss: Sendable, Equatable {
  public var aggregation: RoutingAggregation
  /// Experts' log-probabilities are raised to this; nil leaves them, as in the paper.
  public var clamp: Float?

  public init(aggregation: RoutingAggregation = .softmax, clamp: Float? = nil) {
    self.aggregation = aggregation
    self.clamp = clamp
  }

  public static func softmax(_ weights: some Collection<Float>) -> [Double] {
    let top = Double(weights.max() ?? 0)
    let exponentials = weights.map { exp(Double($0) - top) }
    let sum = exponentials.reduce(0, +)
    return exponentials.map { $0 / sum }
  }

  func clamped(_ logProbabilities: some Collection<Float>) -> [Double] {
    logProbabilities.map { value in Double(max(value, clamp ?? -.infinity)) }
  }

  /// - Parameters:
  ///   - weights: the head's outputs, [experts].
  ///   - logProbabilities: every expert's log π(y), [experts].
  /// - Returns: the loss and its gradient with respect to the weights.
  public func evaluate(
    weights: some Collection<Float>, logProbabilities: some Collection<Float>
  ) -> (loss: Double, gradient: [Double]) {
    let opinions = clamped(logProbabilities)
    switch aggregation {
    case .softmax:
      let shares = Self.softmax(weights)
      let mean = zip(shares, opinions).reduce(0) { $0 + $1.0 * $1.1 }
      return (-mean, zip(shares, opinions).map { -$0 * ($1 - mean) })
    case .raw:
      return (-zip(weights, opinions).reduce(0) { $0 + Double($1.0) * $1.1 }, opinions.map { -$0 })
    case .mixture:
      let shares = Self.softmax(weights)
      let top = opinions.max() ?? 0
      let parts = zip(shares, opinions).map { $0 * exp($1 - top) }
      let sum = parts.reduce(0, +)
      return (-(top + log(sum)), zip(shares, parts).map { $0 - $1 / sum })
    }
  }

  /// The least loss that routing could reach with one expert per position.
  public func floor(logProbabilities: some Collection<Float>) -> Double { -(clamped(logProbabilities).max() ?? 0) }
}

/// Index of the largest value, the lowest of equals: the expert that routing weights or opinions pick.
public func indexOfLargest(_ values: some RandomAccessCollection<Float>) -> Int {
  var best = 0
  var top = -Float.infinity
  for (index, value) in values.enumerated() where value > top { (best, top) = (index, value) }
  return best
}

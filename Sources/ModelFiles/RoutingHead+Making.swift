internal import Core
internal import ModelKernels

extension RoutingHead {
  /// A head with weights N(0, 1/width), each row with mean zero; the same arguments give the same bits.
  public static func random(
    experts: [String], embeddingWidth: Int, complementScale: Float = 1, seed: UInt64
  ) throws -> RoutingHead {
    guard (1...maximumWidth).contains(embeddingWidth), (1...maximumExperts).contains(experts.count) else {
      throw FusionRouteError.usage(
        "a routing head needs 1 to \(maximumExperts) experts and a positive width, not \(experts.count) and "
          + "\(embeddingWidth)")
    }
    var weight = [Float](repeating: 0, count: experts.count * embeddingWidth)
    weight.withUnsafeMutableBufferPointer {
      fr_noise_fill(
        $0.baseAddress, $0.count, ModelMaker.noiseStream(seed: seed, tensor: weightName), 0,
        1 / Float(embeddingWidth).squareRoot())
    }
    for row in experts.indices {
      let range = row * embeddingWidth..<(row + 1) * embeddingWidth
      let mean = Float(weight[range].reduce(0.0) { $0 + Double($1) } / Double(embeddingWidth))
      for i in range { weight[i] -= mean }
    }
    return try RoutingHead(
      experts: experts, weight: weight, complementScale: complementScale, embeddingWidth: embeddingWidth)
  }

  /// A stand-in head for a router that was never trained to route: over text like that which gave `hidden`, experts
  /// alternate and each gets about the same share.
  ///
  /// Real hidden states share one large component, so a random head picks the same expert at every token. Here each row
  /// is a seeded random direction over the standardised dimensions, made orthogonal to the mean state and to the earlier
  /// rows and scaled to unit spread; the bias then evens out the shares.
  /// - Parameters:
  ///   - hidden: captured states, [positions][width]; at least two, better a few hundred.
  ///   - experts: names in row order.
  public static func calibrated(
    hidden: [[Float]], experts: [String], complementScale: Float = 1, seed: UInt64
  ) throws -> RoutingHead {
    guard let width = hidden.first?.count, width > 0, hidden.count >= 2, hidden.allSatisfy({ $0.count == width }) else {
      throw FusionRouteError.usage("calibrating a routing head needs at least two hidden states of one width")
    }
    guard hidden.allSatisfy({ $0.allSatisfy(\.isFinite) }) else {
      throw FusionRouteError.badInput("the hidden states contain NaN or infinite values")
    }
    guard (1...maximumExperts).contains(experts.count), experts.count < width else {
      throw FusionRouteError.usage("\(experts.count) experts need hidden states wider than \(width)")
    }
    let statistics = Statistics(hidden, width: width)
    var rows = try directions(experts.count, statistics: statistics, width: width, seed: seed)
    var scores = rows.map { row in hidden.map { dot(row, $0) } }
    for expert in rows.indices {
      let spread = deviation(scores[expert])
      guard spread > 0 else { continue }
      rows[expert] = rows[expert].map { $0 / spread }
      scores[expert] = scores[expert].map { $0 / spread }
    }
    return try RoutingHead(
      experts: experts, weight: rows.flatMap { $0.map { Float($0) } }, bias: balance(scores).map { Float($0) },
      complementScale: complementScale, embeddingWidth: width)
  }

  private struct Statistics {
    var mean: [Double]
    /// Standard deviation of each dimension, 1 where it does not vary.
    var deviation: [Double]

    init(_ states: [[Float]], width: Int) {
      mean = [Double](repeating: 0, count: width)
      deviation = [Double](repeating: 0, count: width)
      let count = Double(states.count)
      for state in states { for j in 0..<width { mean[j] += Double(state[j]) / count } }
      for state in states {
        for j in 0..<width {
          let difference = Double(state[j]) - mean[j]
          deviation[j] += difference * difference / count
        }
      }
      deviation = deviation.map { $0 > 0 ? $0.squareRoot() : 1 }
    }
  }

  private static func directions(
    _ count: Int, statistics: Statistics, width: Int, seed: UInt64
  ) throws -> [[Double]] {
    var basis: [[Double]] = []
    if let mean = normalised(statistics.mean) { basis.append(mean) }
    var rows: [[Double]] = []
    var attempt: UInt64 = 0
    while rows.count < count {
      var noise = [Float](repeating: 0, count: width)
      let stream = ModelMaker.noiseStream(seed: seed, tensor: weightName)
      noise.withUnsafeMutableBufferPointer {
        fr_noise_fill($0.baseAddress, width, stream, attempt * UInt64(width), 1)
      }
      attempt += 1
      guard attempt < 16 * UInt64(count) else {
        throw FusionRouteError.badInput("the hidden states leave no room for \(count) directions")
      }
      var row = (0..<width).map { Double(noise[$0]) / statistics.deviation[$0] }
      // Twice: one pass of Gram-Schmidt leaves rounding errors where the mean is large.
      for _ in 0..<2 {
        for other in basis {
          let share = zip(row, other).reduce(0) { $0 + $1.0 * $1.1 }
          for j in 0..<width { row[j] -= share * other[j] }
        }
      }
      guard let unit = normalised(row) else { continue }
      basis.append(unit)
      rows.append(unit)
    }
    return rows
  }

  /// Additive terms that give each row about the same number of wins over `scores`, [experts][positions].
  private static func balance(_ scores: [[Double]]) -> [Double] {
    let positions = scores[0].count
    var bias = scores.map { -$0.reduce(0, +) / Double(positions) }
    guard scores.count > 1 else { return bias }
    let target = 1 / Double(scores.count)
    var best = bias
    var bestError = Double.infinity
    for round in 0..<400 {
      var wins = [Double](repeating: 0, count: scores.count)
      for position in 0..<positions {
        var winner = 0
        for expert in 1..<scores.count
        where scores[expert][position] + bias[expert] > scores[winner][position] + bias[winner] { winner = expert }
        wins[winner] += 1 / Double(positions)
      }
      let error = wins.map { abs($0 - target) }.max() ?? 0
      if error < bestError { (best, bestError) = (bias, error) }
      let step = 2 / (1 + Double(round) / 20)
      for expert in bias.indices { bias[expert] -= step * (wins[expert] - target) }
    }
    return best
  }

  private static func dot(_ row: [Double], _ state: [Float]) -> Double {
    zip(row, state).reduce(0) { $0 + $1.0 * Double($1.1) }
  }

  private static func deviation(_ values: [Double]) -> Double {
    let mean = values.reduce(0, +) / Double(values.count)
    return (values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(values.count)).squareRoot()
  }

  private static func normalised(_ row: [Double]) -> [Double]? {
    let length = row.reduce(0) { $0 + $1 * $1 }.squareRoot()
    return length > 1e-12 ? row.map { $0 / length } : nil
  }
}

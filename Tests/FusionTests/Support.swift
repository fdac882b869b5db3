import Core
import Foundation

@testable import Fusion

/// A generator whose seed is printed, so that a failure can be run again: FUSIONROUTE_TEST_SEED=… overrides it.
func seededGenerator(_ test: String, default seed: UInt64) -> SplitMix64 {
  let chosen = ProcessInfo.processInfo.environment["FUSIONROUTE_TEST_SEED"].flatMap(UInt64.init) ?? seed
  print("\(test): seed \(chosen)")
  return SplitMix64(seed: chosen)
}

extension SplitMix64 {
  /// In [0, 1).
  mutating func uniform() -> Double { Double(next() >> 11) * 0x1p-53 }

  mutating func chance(_ probability: Double) -> Bool { uniform() < probability }

  mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }

  /// Standard normal (Box and Muller).
  mutating func normal() -> Double {
    (-2 * Foundation.log(1 - uniform())).squareRoot() * Foundation.cos(2 * .pi * uniform())
  }

  mutating func pick<T>(_ values: [T]) -> T { values[below(values.count)] }
}

extension [Float] {
  /// Copied at once: element by element is slow in debug builds.
  var logitsRow: LogitsRow { withUnsafeBufferPointer { LogitsRow(copying: $0) } }
}

extension RowKernels {
  func scaled(_ row: [Float], by c: Float) -> [Float]? {
    var out = [Float](repeating: 0, count: row.count)
    let finite = row.withUnsafeBufferPointer { row in out.withUnsafeMutableBufferPointer { scale(row, by: c, into: $0) }
    }
    return finite ? out : nil
  }

  func sum(_ a: [Float], _ b: [Float]) -> [Float] {
    var out = [Float](repeating: 0, count: a.count)
    a.withUnsafeBufferPointer { a in
      b.withUnsafeBufferPointer { b in out.withUnsafeMutableBufferPointer { add(a, b, into: $0) } }
    }
    return out
  }

  func noise(count: Int, temperature: Double, key: NoiseKey, first: Int = 0, on row: [Float]? = nil) -> [Float] {
    var out = row ?? [Float](repeating: 0, count: count)
    out.withUnsafeMutableBufferPointer {
      addNoise(UnsafeBufferPointer($0), temperature: temperature, key: key, first: first, into: $0)
    }
    return out
  }
}

/// The upper tail's critical value of the chi-square distribution by Wilson and Hilferty's cube-root approximation; `z` is
/// the normal quantile of the same tail.
func chiSquareCritical(degreesOfFreedom: Int, z: Double) -> Double {
  let k = Double(degreesOfFreedom)
  let root = 1 - 2 / (9 * k) + z * (2 / (9 * k)).squareRoot()
  return k * root * root * root
}

/// Pearson's statistic of `observed` counts against `probabilities`; bins that expect fewer than 5 are joined.
func chiSquare(_ observed: [Int], _ probabilities: [Double]) -> (statistic: Double, degreesOfFreedom: Int) {
  let draws = Double(observed.reduce(0, +))
  var bins: [(observed: Double, expected: Double)] = []
  var rest = (observed: 0.0, expected: 0.0)
  for (count, probability) in zip(observed, probabilities) {
    let expected = draws * probability
    if expected >= 5 {
      bins.append((Double(count), expected))
    } else {
      rest.observed += Double(count)
      rest.expected += expected
    }
  }
  // What is left may never be drawn at all: then any draw of it fails the test outright.
  if rest.expected > 0.5 { bins.append(rest) } else if rest.observed > 3 { return (.infinity, max(1, bins.count - 1)) }
  let statistic = bins.reduce(0) { $0 + ($1.observed - $1.expected) * ($1.observed - $1.expected) / $1.expected }
  return (statistic, max(1, bins.count - 1))
}

/// softmax(scores / T) in double precision with the C library's exp.
func softmax(_ scores: [Double], temperature: Double) -> [Double] {
  let best = scores.max() ?? 0
  let masses = scores.map { Foundation.exp(($0 - best) / temperature) }
  let sum = masses.reduce(0, +)
  return masses.map { $0 / sum }
}

import Core
import Foundation
import Testing

@testable import Fusion

@Suite("Gumbel noise")
struct NoiseTests {
  /// The generator's definition, written out one token at a time with the C library's logarithm.
  static func reference(_ key: NoiseKey, _ id: UInt64) -> Double {
    var z = id &* 0x9E37_79B9_7F4A_7C15 &+ key.add
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z ^= key.mix
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    z ^= z >> 31
    let u = (Double(z >> 12) + 0.5) * 0x1p-52
    return -Foundation.log(-Foundation.log(u))
  }

  @Test("is -log(-log u) of the documented counter-based generator, to the float")
  func definition() {
    var random = seededGenerator("noise definition", default: 21)
    for _ in 0..<50 {
      let key = NoiseKey(seed: random.next(), choice: random.below(5), outputIndex: random.below(1_000))
      let (temperature, first) = (random.uniform() * 3, random.below(300_000))
      let row = RowKernels.best.noise(count: 501, temperature: temperature, key: key, first: first)
      for (i, value) in row.enumerated() {
        let expected = temperature * Self.reference(key, UInt64(first + i))
        #expect(abs(Double(value) - expected) <= max(Double(value.ulp), 1e-12))
      }
    }
  }

  @Test("a token's noise depends on neither its neighbours nor the row's start")
  func positionIndependent() {
    let key = NoiseKey(seed: 5, choice: 1, outputIndex: 9)
    let row = RowKernels.best.noise(count: 100, temperature: 1, key: key)
    for id in [0, 1, 7, 8, 63, 99] {
      #expect(RowKernels.best.noise(count: 1, temperature: 1, key: key, first: id) == [row[id]])
    }
    #expect(RowKernels.best.noise(count: 50, temperature: 1, key: key, first: 13) == Array(row[13..<63]))
  }

  @Test("the uniform behind it is never 0 or 1")
  func extremes() {
    // With both keys 0 the generator maps id 0 to 64 zero bits: the smallest u, 2^-53.
    let least = RowKernels.best.noise(count: 1, temperature: 1, key: NoiseKey(add: 0, mix: 0))[0]
    #expect(abs(Double(least) + Foundation.log(53 * Foundation.log(2))) < 1e-6)
    // Running the mixing backwards from 64 one bits gives the key whose id 0 has the largest u, 1 - 2^-53.
    func undoShift(_ value: UInt64, _ shift: UInt64) -> UInt64 {
      var result = value
      for _ in 0..<(64 / shift + 1) { result = value ^ (result >> shift) }
      return result
    }
    func inverse(_ odd: UInt64) -> UInt64 {
      var x = odd
      for _ in 0..<6 { x = x &* (2 &- odd &* x) }
      return x
    }
    var z = undoShift(.max, 31)
    z = undoShift(z &* inverse(0x94D0_49BB_1331_11EB), 27)
    z = undoShift(z &* inverse(0xBF58_476D_1CE4_E5B9), 30)
    let most = RowKernels.best.noise(count: 1, temperature: 1, key: NoiseKey(add: z, mix: 0))[0]
    #expect(abs(Double(most) - 53 * Foundation.log(2)) < 1e-5)
  }

  @Test("is Gumbel distributed along a row, and along seeds, choices and output indices")
  func distribution() {
    let count = 100_000
    let key = { NoiseKey(seed: $0, choice: $1, outputIndex: $2) }
    let samples: [(String, [Float])] = [
      ("tokens", RowKernels.best.noise(count: count, temperature: 1, key: key(1, 0, 0))),
      ("seeds", (0..<count).map { RowKernels.best.noise(count: 1, temperature: 1, key: key(UInt64($0), 0, 0))[0] }),
      ("choices", (0..<count).map { RowKernels.best.noise(count: 1, temperature: 1, key: key(1, $0, 0), first: 7)[0] }),
      ("indices", (0..<count).map { RowKernels.best.noise(count: 1, temperature: 1, key: key(1, 0, $0), first: 3)[0] }),
    ]
    for (name, sample) in samples {
      // Kolmogorov and Smirnov against the distribution function exp(-exp(-x)); 1.95 is beyond the 0.1 % point.
      let sorted = sample.sorted()
      var distance = 0.0
      for (i, x) in sorted.enumerated() {
        let p = Foundation.exp(-Foundation.exp(-Double(x)))
        distance = max(distance, p - Double(i) / Double(count), Double(i + 1) / Double(count) - p)
      }
      #expect(distance * Double(count).squareRoot() < 1.95, "along \(name)")
    }
  }

  @Test("rows of neighbouring positions, choices and seeds are uncorrelated")
  func independence() {
    let count = 50_000
    let base = RowKernels.best.noise(
      count: count, temperature: 1, key: NoiseKey(seed: 1, choice: 0, outputIndex: 0))
    let others = [(2, 0, 0), (1, 1, 0), (1, 0, 1), (0, 0, 0)].map {
      RowKernels.best.noise(
        count: count, temperature: 1, key: NoiseKey(seed: UInt64($0.0), choice: $0.1, outputIndex: $0.2))
    }
    func correlation(_ a: some Collection<Float>, _ b: some Collection<Float>) -> Double {
      let n = Double(min(a.count, b.count))
      // Mean and variance of the distribution: Euler's constant and pi^2 / 6.
      let sum = zip(a, b).reduce(0) { $0 + (Double($1.0) - 0.5772156649) * (Double($1.1) - 0.5772156649) }
      return sum / n / (.pi * .pi / 6)
    }
    let limit = 4.5 / Double(count).squareRoot()
    for other in others {
      for shift in 0..<3 { #expect(abs(correlation(base.dropFirst(shift), other)) < limit) }
    }
    for shift in 1..<4 { #expect(abs(correlation(base, base.dropFirst(shift))) < limit) }
  }
}

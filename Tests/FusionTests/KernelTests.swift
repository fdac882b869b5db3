import Core
import Foundation
import Testing

@testable import Fusion

@Suite("Row kernels")
struct KernelTests {
  static let sizes = [1, 2, 3, 7, 8, 9, 15, 16, 17, 63, 64, 65, 127, 128, 200, 1_000, 1_023, 4_097]

  /// Finite floats of all magnitudes, ties, zeros of both signs, denormals and −∞.
  static func row(_ count: Int, _ random: inout SplitMix64) -> [Float] {
    let kind = random.below(4)
    return (0..<count).map { _ in
      switch kind {
      case 0: return Float(random.normal() * 5)
      case 1: return Float(random.below(5) - 2)
      case 2:
        let value = Float(bitPattern: UInt32(truncatingIfNeeded: random.next()))
        return value.isFinite ? value : -.infinity
      default: return random.pick([0, -0.0, .leastNonzeroMagnitude, -.leastNonzeroMagnitude, -.infinity, 1, 3.5, -7])
      }
    }
  }

  static func bits(_ row: [Float]) -> [UInt32] { row.map(\.bitPattern) }

  /// How many variants the processor's flags promise; 1 where the system does not show them.
  static func promisedVariants() -> Int {
    #if arch(x86_64)
      let text = (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)) ?? ""
      let line = text.split(separator: "\n").first { $0.hasPrefix("flags") } ?? ""
      let flags = Set(line.split(separator: " ").map { String($0) })
      // As Linux calls what x86-64-v3 and v4 add.
      guard flags.isSuperset(of: ["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"]) else { return 1 }
      return flags.isSuperset(of: ["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"]) ? 3 : 2
    #else
      return 1
    #endif
  }

  @Test("every variant gives the bits of the plain one")
  func variantsAgree() throws {
    var random = seededGenerator("kernel variants", default: 11)
    let variants = RowKernels.variants
    print("kernel variants on this machine:", variants.map(\.name))
    let plain = try #require(variants.first)
    // Else nothing would be compared below.
    #expect(variants.count >= Self.promisedVariants())
    #expect(RowKernels.best.name == variants.last?.name)
    for size in Self.sizes + (0..<100).map({ _ in 1 + random.below(600) }) {
      let (a, b) = (Self.row(size, &random), Self.row(size, &random))
      let c = Float(random.uniform() * 2)
      let key = NoiseKey(seed: random.next(), choice: random.below(3), outputIndex: random.below(100))
      let (temperature, first) = (random.uniform() * 2, random.below(1_000_000))
      let k = random.below(size + 2)
      let (offset, reference) = (Float(random.normal()), Float(random.normal()))
      let threshold = random.normal()
      let doubles = a.map { Double($0) / 1e30 }
      let positive = (0..<size).map { _ in Double.leastNormalMagnitude + Foundation.exp(random.normal() * 30) }
      for variant in variants.dropFirst() {
        #expect(variant.scaled(a, by: c).map(Self.bits) == plain.scaled(a, by: c).map(Self.bits))
        #expect(Self.bits(variant.sum(a, b)) == Self.bits(plain.sum(a, b)))
        #expect(
          Self.bits(variant.noise(count: size, temperature: temperature, key: key, first: first, on: a))
            == Self.bits(plain.noise(count: size, temperature: temperature, key: key, first: first, on: a)))
        #expect(variant.exp(doubles).map(\.bitPattern) == plain.exp(doubles).map(\.bitPattern))
        #expect(variant.log(positive).map(\.bitPattern) == plain.log(positive).map(\.bitPattern))
        a.withUnsafeBufferPointer { a in
          b.withUnsafeBufferPointer { b in
            let (one, other) = (variant.addArgmax(a, b), plain.addArgmax(a, b))
            #expect(one?.index == other?.index && one?.value.bitPattern == other?.value.bitPattern)
            #expect(
              variant.argmax(a, within: b, cut: b[size / 2], cutIndex: size / 3)
                == plain.argmax(a, within: b, cut: b[size / 2], cutIndex: size / 3))
            #expect(variant.maximum(a) == plain.maximum(a))
            let (top, plainTop) = (variant.topK(a, k), plain.topK(a, k))
            #expect(top?.ids == plainTop?.ids)
            #expect(top?.values.map(\.bitPattern) == plainTop?.values.map(\.bitPattern))
            #expect(variant.logSumExp(a).bitPattern == plain.logSumExp(a).bitPattern)
            let sums = [variant, plain].map {
              $0.expSums(
                a, offset: offset, reference: reference, inverseTemperature: temperature, threshold: threshold)
            }
            #expect(sums[0].total.bitPattern == sums[1].total.bitPattern)
            #expect(sums[0].atLeast.bitPattern == sums[1].atLeast.bitPattern)
            #expect(sums[0].countAtLeast == sums[1].countAtLeast)
          }
        }
      }
    }
  }

  @Test("scale, add, maximum and argmax are the plain float operations")
  func elementwise() {
    var random = seededGenerator("elementwise kernels", default: 12)
    for size in Self.sizes {
      let (a, b) = (Self.row(size, &random), Self.row(size, &random))
      for c: Float in [0, 0.5, 1, 1.7] {
        let expected = a.map { $0 == -.infinity ? $0 : c * $0 }
        let scaled = RowKernels.best.scaled(a, by: c)
        #expect(scaled.map(Self.bits) == (expected.allSatisfy { $0 < .infinity } ? Self.bits(expected) : nil))
      }
      let sums = zip(a, b).map { $0 + $1 }
      #expect(Self.bits(RowKernels.best.sum(a, b)) == Self.bits(sums))
      a.withUnsafeBufferPointer { a in
        #expect(RowKernels.best.maximum(a) == a.max())
        b.withUnsafeBufferPointer { b in
          let best = RowKernels.best.addArgmax(a, b)
          #expect(best?.value == sums.max())
          #expect(best?.index == sums.firstIndex(of: sums.max() ?? 0))
        }
      }
    }
  }

  @Test("NaN and +infinity are found wherever they are")
  func faults() {
    for size in [1, 5, 64, 100, 300] {
      for bad in [Float.nan, .infinity] {
        for at in Set([0, size / 2, size - 1]) {
          var row = [Float](repeating: 1, count: size)
          row[at] = bad
          let zeros = [Float](repeating: 0, count: size)
          row.withUnsafeBufferPointer { row in
            for k in [0, 1, 3, size] { #expect(RowKernels.best.topK(row, k) == nil) }
            #expect(!row.isUsable)
            zeros.withUnsafeBufferPointer { zeros in
              let best = RowKernels.best.addArgmax(zeros, row)
              #expect(bad.isNaN ? best == nil : best?.value == .infinity)
            }
          }
          #expect(RowKernels.best.scaled(row, by: 0.5) == nil)
        }
      }
    }
  }

  @Test("top-k is a stable sort by descending value, cut at k")
  func topK() {
    var random = seededGenerator("top-k", default: 13)
    for round in 0..<400 {
      let size = random.pick(Self.sizes)
      var row = Self.row(size, &random)
      if round % 7 == 0 { row.sort() }
      if round % 11 == 0 { row = [Float](repeating: 2, count: size) }
      let k = random.pick([0, 1, 2, 32, 64, size / 2, size, size + 5, 4_096])
      let order = row.indices.sorted { row[$0] > row[$1] || (row[$0] == row[$1] && $0 < $1) }.prefix(k)
      let top = row.withUnsafeBufferPointer { RowKernels.best.topK($0, k) }
      #expect(top?.ids == order.map { Token($0) })
      #expect(top.map { Self.bits($0.values) } == order.map { row[$0].bitPattern })
    }
  }

  @Test("log and exp agree with the C library to 1e-13")
  func logarithms() {
    var random = seededGenerator("log and exp", default: 14)
    var arguments = (0..<20_000).map { _ in random.uniform() + 0x1p-53 }
    arguments += (0..<20_000).map { _ in Foundation.exp(random.normal() * 100) }.filter(\.isNormal)
    arguments += (1...2_000).map { 1 - Double($0) * 0x1p-53 }
    arguments += (1...2_000).map { 1 + Double($0) * 0x1p-52 }
    arguments += [
      0x1p-53, 1, 2, 0.5, .leastNormalMagnitude, .greatestFiniteMagnitude, 0.5.squareRoot(), 2.0.squareRoot(),
    ]
    for (x, y) in zip(arguments, RowKernels.best.log(arguments)) {
      let expected = Foundation.log(x)
      #expect(abs(y - expected) <= 1e-13 * abs(expected), "log \(x)")
    }
    let exponents = (0..<40_000).map { _ in random.normal() * 60 } + [0, -0.0, 1, -1, -707.9, 708.9]
    for (x, y) in zip(exponents, RowKernels.best.exp(exponents)) {
      let expected = Foundation.exp(x)
      #expect(abs(y - expected) <= 1e-13 * expected, "exp \(x)")
    }
    #expect(RowKernels.best.exp([-709, -.infinity, 710, .infinity]) == [0, 0, .infinity, .infinity])
  }

  @Test("log-sum-exp agrees with the naive sum")
  func logSumExp() {
    var random = seededGenerator("log-sum-exp", default: 15)
    for size in Self.sizes {
      let row = (0..<size).map { _ in random.chance(0.05) ? -.infinity : Float(random.normal() * 8) }
      let best = Double(row.max() ?? 0)
      let naive = best + Foundation.log(row.reduce(0) { $0 + Foundation.exp(Double($1) - best) })
      let sum = row.withUnsafeBufferPointer { RowKernels.best.logSumExp($0) }
      #expect(best == -.infinity ? sum == -.infinity : abs(sum - naive) < 1e-11)
    }
    let masked = [Float](repeating: -.infinity, count: 20)
    #expect(masked.withUnsafeBufferPointer { RowKernels.best.logSumExp($0) } == -.infinity)
    #expect([Float]().withUnsafeBufferPointer { RowKernels.best.logSumExp($0) } == -.infinity)
  }

  @Test("sums of exponentials count what passes the threshold")
  func expSums() {
    var random = seededGenerator("exp sums", default: 16)
    for size in Self.sizes {
      let row = (0..<size).map { _ in random.chance(0.1) ? -.infinity : Float(random.below(9) - 4) }
      for threshold in [-.infinity, -2.0, 0.5, .infinity] {
        let scores = row.map { Double($0 + 0.5) }
        let masses = scores.map { Foundation.exp(($0 - 1) * 0.7) }
        let sums = row.withUnsafeBufferPointer {
          RowKernels.best.expSums($0, offset: 0.5, reference: 1, inverseTemperature: 0.7, threshold: threshold)
        }
        let passing = scores.indices.filter { scores[$0] >= threshold }
        let (total, part) = (masses.reduce(0, +), passing.reduce(0) { $0 + masses[$1] })
        #expect(abs(sums.total - total) <= 1e-12 * total)
        #expect(abs(sums.atLeast - part) <= 1e-12 * part)
        #expect(sums.countAtLeast == passing.count)
      }
    }
  }
}

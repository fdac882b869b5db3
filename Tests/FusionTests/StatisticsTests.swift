import Core
import Foundation
import Testing

@testable import Fusion

@Suite("Certification statistics")
struct StatisticsTests {
  @Test("counts rungs and bytes")
  func counting() {
    let small = PartialRow(topIDs: [1, 2], topLogits: [2, 1], floor: 0, namedIDs: [5], namedLogits: [0])
    let large = PartialRow(topIDs: [1, 2, 3], topLogits: [2, 1, 0], floor: 0)
    var statistics = CertificationStatistics()
    #expect(statistics.bytesPerToken == 0 && statistics.share(decidedBy: 9) == 0)
    statistics.record(partialRows: [small])
    statistics.record(partialRows: [small, large])
    statistics.record(partialRows: [small, large], fullRow: 100)
    #expect(statistics.decidedByTopK == [2: 1, 3: 1] && statistics.fullRows == 1 && statistics.tokens == 3)
    #expect(statistics.bytes == 3 * 28 + 2 * 28 + 400)
    #expect(statistics.share(decidedBy: 2) == 1.0 / 3 && statistics.share(decidedBy: 3) == 2.0 / 3)
    #expect(statistics.description == "3 tokens: top-2 1, top-3 1, full row 1; 180 bytes per token")
    var twice = statistics
    twice.merge(statistics)
    #expect(twice.tokens == 6 && twice.bytes == 2 * statistics.bytes)
  }

  /// Rows like a language model's: a low-rank part shared by neighbouring tokens and a heavy (exponential) right tail.
  /// Router and expert are the same row with a little noise of their own.
  static func pair(_ v: Int, tail: Double, noise: Double, _ random: inout SplitMix64) -> (
    router: [Float], expert: [Float]
  ) {
    let kernels = RowKernels.best
    func row(_ strength: Double, on base: [Float]? = nil) -> [Float] {
      kernels.noise(
        count: v, temperature: strength, key: NoiseKey(seed: random.next(), choice: 0, outputIndex: 0), on: base)
    }
    var base = row(tail)
    for rank in 0..<4 {
      // The same directions at every position, with other coefficients.
      let direction = kernels.noise(
        count: v, temperature: 1, key: NoiseKey(seed: UInt64(rank), choice: 1, outputIndex: 0))
      base = kernels.sum(base, kernels.scaled(direction, by: Float(random.normal() * 0.5)) ?? direction)
    }
    return (row(noise, on: base), row(noise, on: base))
  }

  @Test(
    "perturbed pairs: k = 32 mostly suffices and a token takes under 1 KB", arguments: [49_152, 128_256, 262_144],
    [(1.2, 0.15), (0.6, 0.6)])
  func perturbedPairs(vocabulary: Int, shape: (tail: Double, noise: Double)) throws {
    var random = seededGenerator("certification statistics, V=\(vocabulary)", default: 81)
    let settings: [(String, SamplingParameters)] = [
      ("greedy", .init()), ("T=1", .init(temperature: 1, seed: 3)),
      ("T=0.8, top-p 0.95", .init(temperature: 0.8, seed: 4, topP: 0.95)),
      ("T=0.8, top-k 40", .init(temperature: 0.8, seed: 4, topK: 40)),
      ("T=1, min-p 0.05", .init(temperature: 1, seed: 5, minP: 0.05)),
    ]
    var statistics = [CertificationStatistics](repeating: .init(), count: settings.count)
    for index in 0..<40 {
      var position = Position(vocabulary: vocabulary)
      let (router, expert) = Self.pair(
        vocabulary, tail: shape.tail, noise: shape.noise, &random)
      (position.router, position.expert, position.outputIndex) = (router, expert, index)
      for (i, setting) in settings.enumerated() {
        position.parameters = setting.1
        let ladder = Ladder(position, topK: 32, candidates: CertificationLadder.firstCandidates)
        #expect(ladder.error == nil)
        statistics[i].record(partialRows: ladder.rows, fullRow: ladder.fullRow ? vocabulary : nil)
      }
    }
    for (setting, counted) in zip(settings, statistics) {
      let share = (counted.share(decidedBy: 32) * 1_000).rounded() / 10
      print(
        "tail=\(shape.tail) noise=\(shape.noise) V=\(vocabulary) \(setting.0): k=32 sufficed for \(share) %; \(counted)"
      )
    }
    #expect(statistics[0].share(decidedBy: 32) > 0.9)
    #expect(statistics[0].bytesPerToken < 1_024)
  }
}

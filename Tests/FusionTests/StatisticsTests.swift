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

  /// Whether the first rung is bound to decide a position without penalties and bias, by the certificate's formula:
  /// what comes back are the expert's 32 largest logits and those of the tokens named, and every other logit may be as
  /// large as the floor. A filter keeps the first of the ranking by clean score; the winner among those that it may
  /// keep must be kept for certain, and score above what any other token can.
  static func firstRungDecides(_ position: Position) throws -> Bool {
    let (kernels, parameters) = (RowKernels.best, position.parameters)
    let (clean, expert) = (try #require(position.router), try #require(position.expert))
    let temperature = Double(parameters.temperature)
    let key = NoiseKey(seed: parameters.seed, choice: position.choice, outputIndex: position.outputIndex)
    let noisy =
      temperature > 0 ? kernels.noise(count: clean.count, temperature: temperature, key: key, on: clean) : clean
    // One more than is returned or named: the floor, and what ties with the first left out is not named.
    func top(_ k: Int, of row: [Float]) throws -> (ids: [Token], values: [Float]) {
      try #require(row.withUnsafeBufferPointer { kernels.topK($0, k + 1) })
    }
    func best(_ k: Int, of row: [Float]) throws -> [Token] {
      let (ids, values) = try top(k, of: row)
      return zip(ids, values).prefix(k).filter { $0.1 > values[k] }.map(\.0)
    }
    let k = CertificationLadder.firstCandidates
    let (largest, logits) = try top(k, of: expert)
    let floor = logits[k]
    var known = Set(largest.prefix(k)).union(try best(k, of: noisy))
    if parameters.topP < 1 { known.formUnion(try best(k / 2, of: clean)) }
    func others(_ row: [Float]) -> [Float] {
      var rest = row
      for token in known { rest[Int(token)] = -.infinity }
      return rest
    }
    func largestScore(_ row: [Float]) -> Float { row.withUnsafeBufferPointer { kernels.maximum($0) } + floor }

    let otherNoisy = largestScore(others(noisy))
    let ranked = known.map { (token: $0, clean: clean[Int($0)] + expert[Int($0)]) }
      .sorted { $0.clean > $1.clean || ($0.clean == $1.clean && $0.token < $1.token) }
    func score(_ rank: Int) -> Float { noisy[Int(ranked[rank].token)] + expert[Int(ranked[rank].token)] }
    guard parameters.isFiltered else { return (ranked.indices.map(score).max() ?? -.infinity) > otherNoisy }

    // Masses are relative to the best one's.
    let reference = ranked[0].clean
    let masses = ranked.map { Foundation.exp((Double($0.clean) - Double(reference)) / temperature) }
    let otherClean = others(clean)
    func otherMasses(from threshold: Double) -> RowKernels.ExpSums {
      otherClean.withUnsafeBufferPointer {
        kernels.expSums(
          $0, offset: floor, reference: reference, inverseTemperature: 1 / temperature, threshold: threshold)
      }
    }
    let topK = parameters.topK == 0 ? clean.count : parameters.topK
    let topP = parameters.topP < 1 ? Double(parameters.topP) : .infinity
    let reach = parameters.minP > 0 ? temperature * Foundation.log(Double(parameters.minP)) : -.infinity
    let least = masses.reduce(0, +)
    let most = least + otherMasses(from: .infinity).total
    var (winner, before, beforeWinner) = (0, 0.0, 0.0)
    for rank in ranked.indices {
      guard rank < topK, Double(ranked[rank].clean) >= Double(reference) + reach, before < topP * most else { break }
      if score(rank) > score(winner) { (winner, beforeWinner) = (rank, before) }
      before += masses[rank]
    }
    let kept = Double(ranked[winner].clean)
    let ahead = otherMasses(from: kept)
    guard score(winner) > otherNoisy, winner + ahead.countAtLeast < topK else { return false }
    guard beforeWinner + ahead.atLeast < topP * least else { return false }
    return kept >= Double(max(reference, largestScore(otherClean))) + reach
  }

  /// The most bytes that so many tokens may take: each rung returns k logits with their ids, at most k that were named
  /// (for top-p half as many more), and the floor.
  static func mostBytes(_ counted: CertificationStatistics, _ parameters: SamplingParameters, vocabulary: Int) -> Int {
    var (asked, most) = (0, 0)
    for k in CertificationLadder.topK {
      asked += 8 * k + 8 * (parameters.topP < 1 ? k + k / 2 : k) + 4
      most += asked * (counted.decidedByTopK[k] ?? 0)
    }
    return most + (asked + 4 * vocabulary) * counted.fullRows
  }

  @Test(
    "perturbed pairs: k = 32 suffices wherever the formula says so, mostly for heavy tails and greedily, in under 1 KB",
    arguments: [49_152, 128_256, 262_144], [(1.2, 0.15), (0.6, 0.6)])
  func perturbedPairs(vocabulary: Int, shape: (tail: Double, noise: Double)) throws {
    var random = seededGenerator("certification statistics, V=\(vocabulary)", default: 81)
    let settings: [(name: String, parameters: SamplingParameters)] = [
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
        position.parameters = setting.parameters
        let ladder = Ladder(position, topK: 32, candidates: CertificationLadder.firstCandidates)
        #expect(ladder.error == nil)
        let isFirst = ladder.rows.count == 1 && !ladder.fullRow
        #expect(try isFirst == Self.firstRungDecides(position), "\(setting.name), position \(index), \(shape)")
        statistics[i].record(partialRows: ladder.rows, fullRow: ladder.fullRow ? vocabulary : nil)
      }
    }
    for (setting, counted) in zip(settings, statistics) {
      let share = (counted.share(decidedBy: 32) * 1_000).rounded() / 10
      let label = "tail=\(shape.tail) noise=\(shape.noise) V=\(vocabulary) \(setting.name)"
      print("\(label): k=32 sufficed for \(share) %; \(counted)")
      #expect(counted.tokens == 40)
      #expect(counted.bytes <= Self.mostBytes(counted, setting.parameters, vocabulary: vocabulary), "\(label)")
      // With an exponential tail of scale t in both rows, the best score is about 2 t log V and the bound of the rest
      // about 2 t log(V / 33): 7 t apart. Where t is above the noise's scale T, that is rarely made up for.
      if shape.tail > 1 { #expect(counted.share(decidedBy: 32) > 0.9, "\(label): \(counted)") }
    }
    #expect(statistics[0].share(decidedBy: 32) > 0.9)
    #expect(statistics[0].bytesPerToken < 1_024)
  }
}

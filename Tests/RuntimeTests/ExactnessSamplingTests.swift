import Coordinator
import Core
import Foundation
import Fusion
import ModelFiles
import Testing

/// Sampling through the whole runtime is exact: the frequencies are those of softmax((c·r + e) / T).
@Suite(.serialized) struct ExactnessSamplingTests {
  static let draws = 20_000

  @Test("20,000 draws from one prefix follow softmax((c·r + e) / T)")
  func frequencies() async throws {
    let scratch = try Scratch("draws")
    var recipe = ModelRecipe(seed: 21)
    (recipe.layers, recipe.width, recipe.feedForward, recipe.vocabularySize) = (1, 32, 64, 384)
    let models = try TestModels.make(in: scratch, recipe: recipe, experts: 2, complementScale: 0.75)
    let prompt: [Token] = [301, 17, 288]
    let temperature: Float = 1.5
    // Small first rows, so that some draws need longer ones.
    let counts = try await withCluster(
      models, scratch: scratch, context: 256, slots: 8, configure: { $0.topK = 4 }
    ) { cluster in
      try await withThrowingTaskGroup(of: [String: [Token: Int]].self) { group in
        let lanes = 8
        for lane in 0..<lanes {
          group.addTask {
            var counts: [String: [Token: Int]] = [:]
            for seed in stride(from: lane, to: Self.draws, by: lanes) {
              let (tokens, _) = try await cluster.answer(
                GenerationRequest(
                  prompt: prompt, maximumTokens: 1,
                  sampling: SamplingParameters(temperature: temperature, seed: UInt64(seed)), warm: .selected))
              counts[tokens[0].expert ?? "", default: [:]][tokens[0].id, default: 0] += 1
            }
            return counts
          }
        }
        return try await group.reduce(into: [String: [Token: Int]]()) { total, part in
          for (expert, counts) in part { total[expert, default: [:]].merge(counts, uniquingKeysWith: +) }
        }
      }
    }
    // One prefix, one expert.
    let name = try #require(counts.keys.first)
    #expect(counts.count == 1)
    let path = try #require(models.experts.first { $0.name == name }?.path)
    let r = try #require(try PlainOracle.rows(model: models.router, tokens: prompt).last)
    let e = try #require(try PlainOracle.rows(model: path, tokens: prompt).last)
    let scores = zip(r, e).map { (0.75 * Double($0) + Double($1)) / Double(temperature) }
    let largest = try #require(scores.max())
    let weights = scores.map { exp($0 - largest) }
    let sum = weights.reduce(0, +)
    let observed = (0..<weights.count).map { counts[name]?[Token($0)] ?? 0 }
    #expect(observed.reduce(0, +) == Self.draws)
    let test = Self.chiSquare(observed: observed, probabilities: weights.map { $0 / sum })
    print(
      "sampling: chi-square \(test.statistic) with \(test.degrees) degrees of freedom over \(Self.draws) draws "
        + "(z = \(test.z)); \(observed.count { $0 > 0 }) different tokens, the most frequent \(observed.max() ?? 0) times"
    )
    #expect(test.degrees >= 20, "the distribution is too narrow to test")
    #expect(abs(test.z) < 3.5)
  }

  /// Pearson's statistic; tokens expected fewer than 5 times are counted together. `z` is its normal equivalent
  /// (Wilson and Hilferty).
  static func chiSquare(observed: [Int], probabilities: [Double]) -> (statistic: Double, degrees: Int, z: Double) {
    let draws = Double(observed.reduce(0, +))
    var (statistic, bins, rareObserved, rareExpected) = (0.0, 0, 0.0, 0.0)
    func add(_ observed: Double, _ expected: Double) {
      statistic += (observed - expected) * (observed - expected) / expected
      bins += 1
    }
    for (count, probability) in zip(observed, probabilities) {
      let expected = draws * probability
      if expected < 5 {
        rareObserved += Double(count)
        rareExpected += expected
      } else {
        add(Double(count), expected)
      }
    }
    if rareExpected > 0 { add(rareObserved, rareExpected) }
    let degrees = Double(bins - 1)
    let z = (pow(statistic / degrees, 1 / 3.0) - (1 - 2 / (9 * degrees))) / (2 / (9 * degrees)).squareRoot()
    return (statistic, bins - 1, z)
  }
}

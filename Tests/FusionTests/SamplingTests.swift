import Core
import Foundation
import Testing

@testable import Fusion

@Suite("Sampling")
struct SamplingTests {
  /// Beyond the 0.01 % point of a test that passes by chance 9,999 times in 10,000; the draws are fixed by their seeds.
  static let z = 3.719

  /// How often each token is drawn over `draws` positions of the same two rows, partial rows first as in decoding.
  static func frequencies(
    _ position: Position, draws: Int, varying vary: (inout Position, Int) -> Void
  ) throws -> [Int] {
    var counts = [Int](repeating: 0, count: position.vocabulary)
    for i in 0..<draws {
      var position = position
      vary(&position, i)
      let ladder = Ladder(position, topK: 8, candidates: 8)
      let choice = try #require(ladder.choice)
      counts[Int(choice.token)] += 1
    }
    return counts
  }

  static func check(_ counts: [Int], _ probabilities: [Double], _ name: String) {
    let (statistic, degrees) = chiSquare(counts, probabilities)
    let critical = chiSquareCritical(degreesOfFreedom: degrees, z: z)
    print("\(name): chi-square \(statistic) with \(degrees) degrees of freedom, critical \(critical)")
    #expect(statistic < critical, "\(name)")
  }

  static func position(_ v: Int, seed: UInt64, spread: Double) -> Position {
    var random = SplitMix64(seed: seed)
    var position = Position(vocabulary: v)
    position.router = (0..<v).map { _ in Float(random.normal() * spread) }
    position.expert = (0..<v).map { _ in Float(random.normal() * spread) }
    position.parameters.seed = seed
    return position
  }

  static func scores(_ position: Position) -> [Double] {
    (0..<position.vocabulary).map {
      Double(position.scale) * Double(position.router?[$0] ?? 0) + Double(position.expert?[$0] ?? 0)
    }
  }

  @Test(
    "20,000 draws follow softmax((c·r + e) / T)",
    arguments: [
      (6, 1.0, 1.0, 1.0), (6, 0.5, 1.7, 1.0), (30, 1.0, 0.8, 0.5), (1_000, 1.0, 1.0, 1.0), (1_000, 2.0, 1.5, 1.0),
    ])
  func drawsFollowSoftmax(vocabulary: Int, spread: Double, temperature: Double, scale: Double) throws {
    var position = Self.position(vocabulary, seed: 41, spread: spread)
    position.parameters.temperature = Float(temperature)
    position.scale = Float(scale)
    let expected = softmax(Self.scores(position), temperature: Double(Float(temperature)))
    let counts = try Self.frequencies(position, draws: 20_000) { $0.outputIndex = $1 }
    Self.check(counts, expected, "V=\(vocabulary) T=\(temperature) c=\(scale)")
    // The test can fail: a temperature 15 % off is told apart (with the power that 20,000 draws of few tokens give).
    if vocabulary <= 30 {
      let wrong = softmax(Self.scores(position), temperature: temperature * 1.15)
      let (statistic, degrees) = chiSquare(counts, wrong)
      #expect(statistic > chiSquareCritical(degreesOfFreedom: degrees, z: Self.z))
    }
  }

  @Test("draws are as good over seeds and over choices as over positions")
  func otherCounters() throws {
    var position = Self.position(20, seed: 42, spread: 1)
    position.parameters.temperature = 1
    let expected = softmax(Self.scores(position), temperature: 1)
    Self.check(
      try Self.frequencies(position, draws: 10_000) { $0.parameters.seed = UInt64($1) }, expected, "over seeds")
    Self.check(try Self.frequencies(position, draws: 10_000) { $0.choice = $1 }, expected, "over choices")
  }

  @Test("draws of one row and of its neighbour are independent")
  func pairs() throws {
    var position = Self.position(4, seed: 43, spread: 0.5)
    position.parameters.temperature = 1
    let single = softmax(Self.scores(position), temperature: 1)
    var counts = [Int](repeating: 0, count: 16)
    for i in 0..<10_000 {
      position.outputIndex = 2 * i
      let first = try #require(Ladder(position, topK: 4, candidates: 4).choice)
      position.outputIndex = 2 * i + 1
      let second = try #require(Ladder(position, topK: 4, candidates: 4).choice)
      counts[Int(first.token) * 4 + Int(second.token)] += 1
    }
    Self.check(counts, (0..<16).map { single[$0 / 4] * single[$0 % 4] }, "pairs")
  }

  @Test("bias and penalties shift the distribution, filters cut and renormalise it")
  func shaped() throws {
    var position = Self.position(50, seed: 44, spread: 1)
    position.parameters.temperature = 0.9
    position.parameters.logitBias = [3: 2, 4: -.infinity]
    position.parameters.presencePenalty = 0.5
    position.parameters.frequencyPenalty = 0.25
    position.generated = [7, 7, 8]
    var scores = Self.scores(position)
    scores[3] += 2
    scores[4] = -.infinity
    scores[7] -= 0.5 + 0.25 * 2
    scores[8] -= 0.5 + 0.25
    let all = softmax(scores, temperature: Double(Float(0.9)))
    Self.check(try Self.frequencies(position, draws: 10_000) { $0.outputIndex = $1 }, all, "bias and penalties")

    let ranked = all.indices.sorted { all[$0] > all[$1] }
    func renormalised(_ kept: some Sequence<Int>) -> [Double] {
      var result = [Double](repeating: 0, count: all.count)
      let kept = Array(kept)
      let sum = kept.reduce(0) { $0 + all[$1] }
      for v in kept { result[v] = all[v] / sum }
      return result
    }
    var cut = position
    cut.parameters.topK = 5
    Self.check(
      try Self.frequencies(cut, draws: 10_000) { $0.outputIndex = $1 }, renormalised(ranked.prefix(5)), "top-k")
    cut = position
    cut.parameters.topP = 0.8
    var sum = 0.0
    let nucleus = ranked.prefix { v in
      defer { sum += all[v] }
      return sum < 0.8
    }
    Self.check(try Self.frequencies(cut, draws: 10_000) { $0.outputIndex = $1 }, renormalised(nucleus), "top-p")
    cut = position
    cut.parameters.minP = 0.1
    Self.check(
      try Self.frequencies(cut, draws: 10_000) { $0.outputIndex = $1 },
      renormalised(ranked.filter { all[$0] >= 0.1 * all[ranked[0]] }), "min-p")
  }

  @Test("the same seed draws the same tokens, another seed others; temperature 0 ignores the seed")
  func seeds() throws {
    func draw(_ seed: UInt64, temperature: Float, choice: Int = 0) throws -> [Token] {
      try (0..<40).map { index in
        var position = Self.position(300, seed: 45, spread: 1)
        position.parameters.seed = seed
        position.parameters.temperature = temperature
        position.outputIndex = index
        position.choice = choice
        return try #require(Ladder(position, topK: 4, candidates: 4).choice).token
      }
    }
    #expect(try draw(1, temperature: 1) == draw(1, temperature: 1))
    #expect(try draw(1, temperature: 1) != draw(2, temperature: 1))
    #expect(try draw(1, temperature: 1) != draw(1, temperature: 1, choice: 1))
    #expect(try draw(1, temperature: 0) == draw(2, temperature: 0))
  }

  @Test("Wilson and Hilferty's critical values match the tables")
  func criticalValues() {
    // Upper 5 % points of the chi-square distribution.
    for (degrees, table) in [(5, 11.070), (10, 18.307), (30, 43.773), (100, 124.342), (1_000, 1_074.679)] {
      #expect(abs(chiSquareCritical(degreesOfFreedom: degrees, z: 1.6449) / table - 1) < 0.005)
    }
  }
}

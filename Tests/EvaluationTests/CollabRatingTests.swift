import Core
import Testing

@testable import Evaluation

/// Collab with ratings that a reward model should not give.
@Suite struct CollabRatingTests {
  private struct Endless: Error {}

  /// Does what it asks for, with experts that write anything. Each rating adds the best candidate's first token; where
  /// nothing says which one that is, the first's.
  private func follow(_ random: inout SplitMix64, rate: (Int, inout SplitMix64) -> [Double]) throws -> Int {
    let maximum = 1 + random.below(30)
    var collab = Collab(experts: 1 + random.below(4), rollout: random.below(5), maximumTokens: maximum)
    var rated = 0
    // Each token is rated once at most, and before that each expert is asked twice at most.
    for _ in 0..<4 * (maximum + 1) {
      switch collab.next() {
      case .finished:
        #expect(collab.committed.count <= maximum && collab.deciders.count == collab.committed.count)
        return rated
      case .ask(let questions):
        for question in questions {
          let tokens = (0..<question.tokens).map { _ in Token(1 + random.below(3)) }
          collab.learn(expert: question.expert, tokens: tokens, isComplete: false)
        }
      case .rate(let candidates):
        let before = collab.committed
        let rewards = rate(candidates.count, &random)
        let told = rewards.prefix(candidates.count).filter { !$0.isNaN }
        collab.choose(rewards)
        let best = told.max().flatMap { rewards.firstIndex(of: $0) } ?? 0
        #expect(collab.committed == before + [candidates[best][0]], "\(rewards)")
        // Only once for each question.
        collab.choose(rewards)
        #expect(collab.committed.count == before.count + 1, "\(rewards)")
        rated += 1
      }
    }
    throw Endless()
  }

  @Test func itEndsWhateverTheRatingsAre() throws {
    var random = seededGenerator("collab ratings", default: 53)
    let values = [Double.nan, -.nan, .signalingNaN, .infinity, -.infinity, 0, -0.0, 1, .greatestFiniteMagnitude]
    var rated = 0
    for _ in 0..<300 {
      rated += try follow(&random) { count, random in (0..<count).map { _ in values[random.below(values.count)] } }
      rated += try follow(&random) { count, _ in Array(repeating: .nan, count: count) }
      // Too few, or too many.
      rated += try follow(&random) { count, random in (0..<random.below(2 * count)).map { Double($0) } }
    }
    #expect(rated > 1_000)
  }
}

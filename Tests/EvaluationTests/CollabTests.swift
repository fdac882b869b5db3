import Core
import Testing

@testable import Evaluation

/// Experts and a reward that are pure functions of the text, so that the definition can be followed word by word.
private struct World {
  var seed: UInt64
  var experts: Int
  /// Tokens of a text that an expert still goes on from, with one more.
  var context = Int.max
  static let end: Token = 0

  /// Tokens that a text may have.
  var room: Int { context == .max ? .max : context + 1 }

  func hash(_ salt: UInt64, _ tokens: [Token]) -> UInt64 {
    tokens.reduce(SplitMix64.mix(seed &+ salt)) { SplitMix64.mix($0 ^ UInt64($1 + 1)) }
  }

  /// Experts agree most of the time; about one token in twelve ends.
  func greedy(_ expert: Int, _ prefix: [Token]) -> Token {
    let common = hash(1, prefix)
    let own = common % 3 == 0 ? hash(10 + UInt64(expert % 2), prefix) : common
    return own % 12 == 5 ? Self.end : Token(1 + own % 4)
  }

  /// An expert's continuation of a text that has not ended.
  func continuation(_ expert: Int, _ prefix: [Token], _ count: Int) -> (tokens: [Token], isComplete: Bool) {
    var tokens: [Token] = []
    while tokens.count < count, prefix.count + tokens.count < room {
      tokens.append(greedy(expert, prefix + tokens))
      if tokens.last == Self.end { return (tokens, true) }
    }
    return (tokens, false)
  }

  /// Few values, so that ties occur.
  func reward(_ text: [Token]) -> Double { Double(hash(2, text) % 5) }

  /// Collab as it is defined, asking for everything at every token.
  func definition(rollout: Int, maximum: Int) -> (tokens: [Token], deciders: [Int?]) {
    var (text, deciders): ([Token], [Int?]) = ([], [])
    while text.count < min(maximum, room), text.last != Self.end {
      let proposals = (0..<experts).map { greedy($0, text) }
      if Set(proposals).count == 1 {
        text.append(proposals[0])
        deciders.append(nil)
        continue
      }
      let rewards = (0..<experts).map { reward(text + continuation($0, text, 1 + rollout).tokens) }
      let best = (0..<experts).max { rewards[$0] < rewards[$1] || (rewards[$0] == rewards[$1] && $0 > $1) } ?? 0
      text.append(proposals[best])
      deciders.append(best)
    }
    return (text, deciders)
  }
}

@Suite struct CollabTests {
  /// Does what it asks for, up to far more rounds than it may take.
  private func follow(_ world: World, rollout: Int, maximum: Int) -> (collab: Collab, asked: Int) {
    var collab = Collab(experts: world.experts, rollout: rollout, maximumTokens: min(maximum, world.room))
    var asked = 0
    for _ in 0..<1_000 {
      switch collab.next() {
      case .finished: return (collab, asked)
      case .ask(let questions):
        #expect(!questions.isEmpty)
        for question in questions {
          #expect(question.tokens > 0)
          asked += question.tokens
          let (tokens, isComplete) = world.continuation(
            question.expert, collab.committed + question.written, question.tokens)
          collab.learn(expert: question.expert, tokens: tokens, isComplete: isComplete)
        }
      case .rate(let candidates):
        #expect(Set(candidates).count == candidates.count)
        collab.choose(candidates.map { world.reward(collab.committed + $0) })
      }
    }
    Issue.record("it does not end")
    return (collab, asked)
  }

  @Test func sameAsTheDefinition() {
    var random = seededGenerator("collab", default: 51)
    var disagreements = 0
    for _ in 0..<300 {
      let world = World(seed: random.next(), experts: 1 + random.below(4))
      let (rollout, maximum) = (random.below(6), 1 + random.below(30))
      let (collab, asked) = follow(world, rollout: rollout, maximum: maximum)
      let expected = world.definition(rollout: rollout, maximum: maximum)
      #expect(collab.committed == expected.tokens)
      #expect(collab.deciders == expected.deciders)
      #expect(collab.isComplete == (expected.tokens.last == World.end))
      #expect(collab.disagreements == expected.deciders.count { $0 != nil })
      // Nobody is asked twice for what is known: a rollout's length at the start and after a proposal that lost, else one token
      // more for each that is committed.
      let lost = expected.deciders.count { $0 != nil }
      #expect(asked <= world.experts * ((1 + rollout) * (1 + lost) + expected.tokens.count))
      disagreements += collab.disagreements
    }
    #expect(disagreements > 300)
  }

  /// Experts at the end of their context write less than they are asked for, and do not end.
  @Test func theContextEndsAnswers() {
    var random = seededGenerator("collab context", default: 52)
    var cut = 0
    for _ in 0..<300 {
      let world = World(seed: random.next(), experts: 2 + random.below(3), context: 3 + random.below(10))
      let rollout = 1 + random.below(6)
      let collab = follow(world, rollout: rollout, maximum: 40).collab
      let expected = world.definition(rollout: rollout, maximum: 40)
      #expect(collab.committed == expected.tokens)
      #expect(collab.deciders == expected.deciders)
      #expect(collab.isComplete == (expected.tokens.last == World.end))
      if expected.tokens.count == world.room, !collab.isComplete { cut += 1 }
    }
    #expect(cut > 50)
  }

  @Test func nothingIsAskedWhereNothingIsWanted() {
    var none = Collab(experts: 2, rollout: 3, maximumTokens: 0)
    #expect(none.next() == .finished)
    var nobody = Collab(experts: 0, rollout: 3, maximumTokens: 5)
    #expect(nobody.next() == .finished)
    // Experts whose context is full say nothing: the answer ends.
    var silent = Collab(experts: 2, rollout: 1, maximumTokens: 5)
    #expect(silent.next() == .ask([0, 1].map { Collab.Question(expert: $0, written: [], tokens: 2) }))
    silent.learn(expert: 0, tokens: [], isComplete: false)
    silent.learn(expert: 1, tokens: [], isComplete: false)
    #expect(silent.next() == .finished)
  }

  @Test func choices() {
    #expect(AnswerChoice.best([1, 3, 3, 2]) == 1)
    #expect(AnswerChoice.best([.nan, -1]) == 1)
    #expect(AnswerChoice.best([]) == nil && AnswerChoice.best([.nan]) == nil)
    let wrong = Grade(passed: false, score: 0.5)
    #expect(AnswerChoice.oracle([Grade(passed: false), wrong, Grade(passed: true)]) == 2)
    #expect(AnswerChoice.oracle([Grade(passed: false), wrong]) == 1)
  }

  @Test func methodsAreChecked() throws {
    let standard = Method.standard(cluster: "/c", experts: ["math", "oracle"], hasReward: true)
    try Method.check(standard)
    #expect(standard.map(\.name).contains("oracle (method)"))
    for (methods, word) in [
      ([Method(name: "a", kind: .select(["b"]))], "no method"), ([], "no method"),
      ([Method(name: "a", kind: .oracle([])), Method(name: "a", kind: .oracle([]))], "two methods"),
      ([Method(name: "a", kind: .oracle([])), Method(name: "b", kind: .select(["a"]))], "itself takes"),
    ] {
      let error = #expect(throws: FusionRouteError.self) { try Method.check(methods) }
      #expect(error?.message.contains(word) == true, "\(error?.message ?? "")")
    }
  }

  /// What chooses among answers needs all of them; a mean takes the prompts that all have.
  @Test func limitsOfCandidatesAreChecked() throws {
    func methods(_ kind: Method.Kind, limit: Int?, candidate: Int?) -> [Method] {
      [Method(name: "a", kind: .decode(.init()), limit: candidate), Method(name: "b", kind: kind, limit: limit)]
    }
    for (limit, candidate, all) in [(5, 5, nil), (5, nil, nil), (nil, 50, 20), (nil, nil, 3)] as [(Int?, Int?, Int?)] {
      for kind in [Method.Kind.select(["a"]), .oracle(["a"])] {
        try Method.check(limitsOf: methods(kind, limit: limit, candidate: candidate), limit: all)
      }
    }
    for (limit, candidate, all) in [(nil, 50, nil), (51, 50, nil), (nil, 50, 60)] as [(Int?, Int?, Int?)] {
      for kind in [Method.Kind.select(["a"]), .oracle(["a"])] {
        let error = #expect(throws: FusionRouteError.self) {
          try Method.check(limitsOf: methods(kind, limit: limit, candidate: candidate), limit: all)
        }
        #expect(error?.code == .badInput && error?.message.contains("50") == true, "\(error?.message ?? "")")
      }
      try Method.check(limitsOf: methods(.mean(["a"]), limit: limit, candidate: candidate), limit: all)
    }
  }
}

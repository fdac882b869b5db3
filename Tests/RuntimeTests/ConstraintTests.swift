import Coordinator
import Core
import Foundation
import Fusion
import Inference
import ModelFiles
import Testing

/// Allows, after n tokens, those whose id leaves n mod `modulus`; complete after `length` tokens, where only an end of
/// generation may come.
private struct Residues: TokenConstraint {
  let vocabulary: Int
  let modulus: Int
  let length: Int
  let ends: Set<Token>
  var count = 0

  private func isAllowed(_ token: Token) -> Bool {
    !ends.contains(token) && Int(token) % modulus == count % modulus
  }

  mutating func allows(_ token: Token) throws -> Bool { isAllowed(token) }

  mutating func forbidden() throws -> [Token] { (0..<Token(vocabulary)).filter { !isAllowed($0) } }

  mutating func accept(_ token: Token) throws {
    if !isAllowed(token) { throw FusionRouteError.internal("token \(token) was taken though it is forbidden") }
    count += 1
  }

  var isComplete: Bool { count >= length }
}

/// Allows `lead` of the tokens, then only the end of generation.
private struct ThenEnd: TokenConstraint {
  let vocabulary: Int
  let lead: Int
  let ends: Set<Token>
  var count = 0

  mutating func allows(_ token: Token) throws -> Bool { ends.contains(token) == (count >= lead) }
  mutating func forbidden() throws -> [Token] {
    (0..<Token(vocabulary)).filter { ends.contains($0) != (count >= lead) }
  }
  mutating func accept(_ token: Token) throws { count += 1 }
  var isComplete: Bool { false }
}

/// Allows nothing after `lead` tokens.
private struct DeadEnd: TokenConstraint {
  let vocabulary: Int
  let lead: Int
  var count = 0

  mutating func allows(_ token: Token) throws -> Bool { count < lead }
  mutating func forbidden() throws -> [Token] { count < lead ? [] : Array(0..<Token(vocabulary)) }
  mutating func accept(_ token: Token) throws { count += 1 }
  var isComplete: Bool { false }
}

/// Allows everything but the end of generation.
struct NoEnd: TokenConstraint {
  private let ends: Set<Token>

  init(_ model: Model) {
    ends = Set((0..<Token(model.vocabulary.size)).filter { model.vocabulary.isEndOfGeneration($0) })
  }

  mutating func allows(_ token: Token) throws -> Bool { !ends.contains(token) }
  mutating func forbidden() throws -> [Token] { ends.sorted() }
  mutating func accept(_ token: Token) throws {}
  var isComplete: Bool { false }
}

@Suite(.serialized) struct ConstraintTests {
  private static let scale: Float = 0.75

  private static func ends(of model: Model) -> Set<Token> {
    Set((0..<Token(model.vocabulary.size)).filter { model.vocabulary.isEndOfGeneration($0) })
  }

  @Test("each token is what masking every forbidden one in plain llama.cpp's full rows gives, greedy and sampled")
  func masked() async throws {
    let scratch = try Scratch("masked")
    let models = try TestModels.make(in: scratch, complementScale: Self.scale)
    let samplings = [
      SamplingParameters(), SamplingParameters(temperature: 1, seed: 5),
      SamplingParameters(temperature: 1.5, seed: 6, repetitionPenalty: 1.3, frequencyPenalty: 0.4),
      SamplingParameters(temperature: 2, seed: 7, topK: 5), SamplingParameters(temperature: 2, seed: 8, topP: 0.7),
      SamplingParameters(temperature: 2, seed: 9, minP: 0.2),
    ]
    // The first rung of two logits makes the ladder climb.
    for topK in [2, 32] {
      try await withCluster(models, scratch: scratch, configure: { $0.topK = topK }) { cluster in
        let vocabulary = cluster.coordinator.router.vocabulary.size
        let ends = Self.ends(of: cluster.coordinator.router)
        let prompt = GenerationTests.prompt(16)
        for mode in [DecodingMode.fusion, .noComplement, .router, .expert("math")] {
          for (index, sampling) in samplings.enumerated() {
            var request = GenerationRequest(prompt: prompt, maximumTokens: 40, sampling: sampling, mode: mode)
            let constraint = Residues(vocabulary: vocabulary, modulus: 3, length: 12, ends: ends)
            request.constraint = constraint
            request.alternatives = index % 2 == 0 ? nil : 3
            let (tokens, summary) = try await cluster.answer(request)
            #expect(tokens.count == 12 && summary.finishReason == .stop)
            #expect(mode == .router || summary.certification.tokens == 12)
            try Self.check(tokens, of: request, constraint, models)
          }
        }
      }
    }
  }

  /// Decides every position again from whole rows, with everything forbidden masked from the start.
  private static func check(
    _ tokens: [GeneratedToken], of request: GenerationRequest, _ constraint: Residues, _ models: TestModels
  ) throws {
    var constraint = constraint
    let all = request.prompt + tokens.dropLast().map(\.id)
    let router = try PlainOracle.rows(model: models.router, tokens: all)
    var experts: [String: [[Float]]] = [:]
    for name in Set(tokens.compactMap(\.expert)) {
      let path = try #require(models.experts.first { $0.name == name }).path
      experts[name] = try PlainOracle.rows(model: path, tokens: all)
    }
    var history = History(prompt: request.prompt)
    for (index, token) in tokens.enumerated() {
      let position = request.prompt.count - 1 + index
      let e = token.expert.flatMap { experts[$0] }?[position]
      let complement: [Float]? =
        switch request.mode {
        case .fusion, .router: router[position]
        default: nil
        }
      let forbidden = try constraint.forbidden()
      if request.sampling == SamplingParameters() {
        // Nothing of ours: the largest of what is allowed.
        let c: Float = request.mode == .fusion ? scale : 1
        let scores = (0..<constraint.vocabulary).map { (complement?[$0] ?? 0) * c + (e?[$0] ?? 0) }
        let allowed = (0..<constraint.vocabulary).filter { !forbidden.contains(Token($0)) }
        let best = allowed.max { scores[$0] < scores[$1] || (scores[$0] == scores[$1] && $0 > $1) }
        #expect(best.map { Token($0) } == token.id, "\(request.mode) position \(position)")
      }
      let scorer = try StepScorer(
        router: complement.map { LogitsRow($0) }, complementScale: request.mode == .fusion ? scale : 1,
        parameters: request.sampling, history: history, outputIndex: index, choice: 0,
        vocabulary: constraint.vocabulary, banned: forbidden)
      let expected = try e.map { try scorer.decide(full: LogitsRow($0)) } ?? scorer.decideWithoutExpert()
      #expect(expected.token == token.id, "\(request.mode) \(request.sampling) position \(position)")
      #expect(expected.score == token.logit)
      history.append(token.id)
      try constraint.accept(token.id)
    }
  }

  @Test("the end of generation comes only where the constraint lets it, and then it does end the answer")
  func end() async throws {
    let scratch = try Scratch("end")
    let models = try TestModels.make(in: scratch)
    try await withCluster(models, scratch: scratch) { cluster in
      let vocabulary = cluster.coordinator.router.vocabulary.size
      let ends = Self.ends(of: cluster.coordinator.router)
      #expect(!ends.isEmpty)
      for sampling in [SamplingParameters(), SamplingParameters(temperature: 1, seed: 2)] {
        var request = GenerationRequest(prompt: GenerationTests.prompt(10), maximumTokens: 64, sampling: sampling)
        request.constraint = ThenEnd(vocabulary: vocabulary, lead: 5, ends: ends)
        let (tokens, summary) = try await cluster.answer(request)
        #expect(tokens.count == 6 && summary.finishReason == .stop)
        #expect(tokens.last.map { ends.contains($0.id) && $0.text.isEmpty } == true)
        #expect(tokens.dropLast().allSatisfy { !ends.contains($0.id) })
      }
      // A bias for the end does not get past a constraint that wants more first.
      var request = GenerationRequest(
        prompt: GenerationTests.prompt(10), maximumTokens: 64,
        sampling: SamplingParameters(logitBias: Dictionary(uniqueKeysWithValues: ends.map { ($0, 1_000) })))
      request.constraint = ThenEnd(vocabulary: vocabulary, lead: 5, ends: ends)
      #expect(try await cluster.answer(request).tokens.count == 6)
      // Complete from the start: nothing to say.
      request.constraint = Residues(vocabulary: vocabulary, modulus: 2, length: 0, ends: ends)
      let (tokens, summary) = try await cluster.answer(request)
      #expect(tokens.isEmpty && summary.finishReason == .stop)
    }
  }

  @Test("a constraint that allows nothing ends the answer with a sentence about it, after the tokens there were")
  func nothingAllowed() async throws {
    let scratch = try Scratch("nothing")
    let models = try TestModels.make(in: scratch)
    try await withCluster(models, scratch: scratch) { cluster in
      let vocabulary = cluster.coordinator.router.vocabulary.size
      for sampling in [SamplingParameters(), SamplingParameters(temperature: 1, seed: 2, topP: 0.9)] {
        var request = GenerationRequest(prompt: GenerationTests.prompt(10), maximumTokens: 64, sampling: sampling)
        request.constraint = DeadEnd(vocabulary: vocabulary, lead: 3)
        var count = 0
        do {
          for try await event in cluster.coordinator.generate(request) { if case .token = event { count += 1 } }
          Issue.record("it ended as if nothing had happened")
        } catch let error as FusionRouteError {
          #expect(error.code == .badInput && error.message.contains("after 3 tokens"), "\(error)")
        }
        #expect(count == 3)
      }
      #expect(cluster.coordinator.status().requests.running == 0)
    }
  }
}

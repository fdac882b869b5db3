import Coordinator
import Core
import Foundation
import Fusion
import ModelFiles
import Testing

/// Log-probabilities against a log-softmax over plain llama.cpp's rows, in double precision.
@Suite(.serialized) struct LogProbabilityTests {
  static let modes: [DecodingMode] = [.fusion, .noComplement, .router, .expert("code")]
  private static let scale: Float = 0.75

  /// Plain llama.cpp's rows of every model after each of some tokens.
  private struct Rows {
    let router: [[Float]]
    let experts: [String: [[Float]]]

    init(_ models: TestModels, _ tokens: [Token]) throws {
      router = try PlainOracle.rows(model: models.router, tokens: tokens)
      experts = try Dictionary(
        uniqueKeysWithValues: models.experts.map { ($0.name, try PlainOracle.rows(model: $0.path, tokens: tokens)) })
    }

    /// The mode's scores at a position where `expert` was selected.
    func fused(_ mode: DecodingMode, _ expert: String?, at position: Int) throws -> [Float] {
      if mode == .router { return router[position] }
      let e = try #require(expert.flatMap { experts[$0] })[position]
      return mode == .fusion ? zip(router[position], e).map { LogProbabilityTests.scale * $0 + $1 } : e
    }
  }

  private static func logSoftmax(_ row: [Float]) -> [Double] {
    let largest = Double(row.max() ?? 0)
    let sum = row.reduce(0.0) { $0 + exp(Double($1) - largest) }
    return row.map { Double($0) - largest - log(sum) }
  }

  /// What a position must say of `token` and of the runners-up.
  private static func check(
    _ told: (probability: Float?, router: Float?, expert: Float?, alternatives: [TokenAlternative]),
    of token: Token, _ rows: Rows, _ mode: DecodingMode, _ expert: String?, at position: Int, count: Int
  ) throws {
    let fused = try rows.fused(mode, expert, at: position)
    let expected = logSoftmax(fused)
    #expect(abs(Double(try #require(told.probability)) - expected[Int(token)]) < 1e-4, "\(mode) at \(position)")
    let ranked = fused.indices.sorted { (-fused[$0], $0) < (-fused[$1], $1) }.prefix(count)
    #expect(told.alternatives.map(\.id) == ranked.map { Token($0) }, "\(mode) at \(position)")
    let e = expert.flatMap { rows.experts[$0] }?[position]
    for alternative in told.alternatives {
      #expect(abs(Double(alternative.logProbability) - expected[Int(alternative.id)]) < 1e-4)
      #expect(alternative.expertLogit == e?[Int(alternative.id)])
      if case .expert = mode {
        #expect(alternative.routerLogit == nil)
      } else {
        #expect(alternative.routerLogit == rows.router[position][Int(alternative.id)])
      }
    }
    if case .expert = mode {
      #expect(told.router == nil)
    } else {
      #expect(told.router == rows.router[position][Int(token)])
    }
    switch (told.expert, e?[Int(token)]) {
    case (let a?, let b?): #expect(abs(a - b) <= 4 * max(a.ulp, b.ulp, Float(4).ulp))
    case (let a, let b): #expect(a == nil && b == nil)
    }
  }

  @Test("generated tokens: probability, runners-up and both logits, in every mode, greedy and sampled; the tokens stay")
  func generated() async throws {
    let scratch = try Scratch("logprobs")
    let models = try TestModels.make(in: scratch, complementScale: Self.scale)
    try await withCluster(models, scratch: scratch) { cluster in
      let prompt = GenerationTests.prompt(24)
      for mode in Self.modes {
        for sampling in [
          SamplingParameters(), SamplingParameters(temperature: 0.8, seed: 3, topP: 0.9, repetitionPenalty: 1.2),
        ] {
          var request = GenerationRequest(prompt: prompt, maximumTokens: 24, sampling: sampling, mode: mode)
          let bare = try await cluster.answer(request).tokens
          #expect(bare.allSatisfy { $0.logProbability == nil && $0.alternatives.isEmpty })
          request.alternatives = 0
          let chosenOnly = try await cluster.answer(request).tokens
          #expect(chosenOnly.map(\.id) == bare.map(\.id))
          #expect(chosenOnly.allSatisfy { $0.logProbability != nil && $0.alternatives.isEmpty })
          request.alternatives = 7
          let (tokens, summary) = try await cluster.answer(request)
          #expect(tokens.map(\.id) == bare.map(\.id) && tokens.map(\.logit) == bare.map(\.logit))
          #expect(tokens.map(\.logProbability) == chosenOnly.map(\.logProbability))
          #expect(mode == .router || summary.certification.fullRows == tokens.count)
          let rows = try Rows(models, prompt + tokens.dropLast().map(\.id))
          for (index, token) in tokens.enumerated() {
            try Self.check(
              (token.logProbability, token.routerLogit, token.expertLogit, token.alternatives), of: token.id, rows,
              mode, token.expert, at: prompt.count - 1 + index, count: 7)
            #expect(token.expertLogit == bare[index].expertLogit && token.routerLogit == bare[index].routerLogit)
          }
        }
      }
    }
  }

  @Test("given tokens: probability, runners-up and both logits, in every mode")
  func given() async throws {
    let scratch = try Scratch("given")
    let models = try TestModels.make(in: scratch, complementScale: Self.scale)
    try await withCluster(models, scratch: scratch) { cluster in
      let tokens = GenerationTests.prompt(50)
      let rows = try Rows(models, tokens)
      for mode in Self.modes {
        let scores = try await cluster.coordinator.score(tokens, first: 4, mode: mode, alternatives: 5)
        #expect(scores.count == tokens.count - 4)
        for (index, score) in scores.enumerated() {
          try Self.check(
            (score.logProbability, score.routerLogit, score.expertLogit, score.alternatives), of: tokens[index + 4],
            rows, mode, score.expert, at: index + 3, count: 5)
          #expect(score.argmax == score.alternatives.first?.id)
        }
        // Without alternatives only they are missing.
        let bare = try await cluster.coordinator.score(tokens, first: 4, mode: mode)
        #expect(bare.map(\.logProbability) == scores.map(\.logProbability))
        #expect(bare.map(\.argmax) == scores.map(\.argmax) && bare.allSatisfy { $0.alternatives.isEmpty })
      }
    }
  }

  @Test("prompt tokens that were in the cache are told, and so is the time in the queue")
  func cached() async throws {
    let scratch = try Scratch("cached")
    let models = try TestModels.make(in: scratch)
    try await withCluster(models, scratch: scratch) { cluster in
      for mode in [DecodingMode.fusion, .expert("math")] {
        let prompt = GenerationTests.prompt(100, seed: mode == .fusion ? 1 : 2)
        let request = GenerationRequest(prompt: prompt, maximumTokens: 4, mode: mode)
        let first = try await cluster.answer(request).summary
        #expect(first.cachedTokens == 0 && first.queued >= .zero)
        // All but the last, whose logits are wanted; a worker keeps its last rows too.
        #expect(try await cluster.answer(request).summary.cachedTokens == (mode == .fusion ? 99 : 100), "\(mode)")
        let half = GenerationRequest(
          prompt: Array(prompt[..<60]) + GenerationTests.prompt(40, seed: 9), maximumTokens: 4, mode: mode)
        let shared = try await cluster.answer(half).summary.cachedTokens
        #expect((60...62).contains(shared), "\(mode): \(shared)")
      }
    }
  }
}

import Coordinator
import Core
import Foundation
import Fusion
import Inference
import ModelFiles
import Testing

/// The runtime against plain llama.cpp calls on the same files, merged outside.
@Suite(.serialized) struct GenerationTests {
  static func prompt(_ count: Int, vocabulary: Int = 512, seed: UInt64 = 1) -> [Token] {
    var random = SplitMix64(seed: seed)
    return (0..<count).map { _ in Token.random(in: 3..<Token(vocabulary), using: &random) }
  }

  /// Lowest id among the largest.
  static func argmax(_ row: [Float]) -> Int {
    var best = 0
    for index in row.indices where row[index] > row[best] { best = index }
    return best
  }

  @Test("in every mode each token is the argmax of the method's sum over plain llama.cpp's rows")
  func everyMode() async throws {
    let scratch = try Scratch("modes")
    let models = try TestModels.make(in: scratch, complementScale: 0.75)
    try await withCluster(models, scratch: scratch) { cluster in
      let prompt = Self.prompt(40)
      for mode in [DecodingMode.fusion, .noComplement, .router, .expert("code")] {
        let (tokens, summary) = try await cluster.answer(
          GenerationRequest(prompt: prompt, maximumTokens: 48, mode: mode))
        #expect(tokens.count == summary.generatedTokens && !tokens.isEmpty)
        let all = prompt + tokens.dropLast().map(\.id)
        let router = try PlainOracle.rows(model: models.router, tokens: all)
        let experts = try models.expertRows(all)
        for (index, token) in tokens.enumerated() {
          let position = prompt.count - 1 + index
          let row: [Float]
          switch mode {
          case .fusion:
            let e = try #require(token.expert.flatMap { experts[$0] })[position]
            row = zip(router[position], e).map { r, e in Float(0.75) * r + e }
          case .noComplement, .expert: row = try #require(token.expert.flatMap { experts[$0] })[position]
          case .router: row = router[position]
          }
          #expect(Int(token.id) == Self.argmax(row), "\(mode) position \(position)")
          #expect(token.logit == row[Int(token.id)])
          #expect((token.expert == nil) == (mode == .router))
        }
        if mode == .fusion { #expect(Set(tokens.compactMap(\.expert)).count > 1, "the head never switched") }
      }
    }
  }

  @Test("all fan-out and warm-up policies give the same tokens, and under `all` an expert evaluates the prefix once")
  func policies() async throws {
    let scratch = try Scratch("policies")
    let models = try TestModels.make(in: scratch)
    try await withCluster(models, scratch: scratch) { cluster in
      // Nothing of this prompt is in any cache yet, so every model evaluates every token once.
      let (fresh, first) = try await cluster.answer(
        GenerationRequest(prompt: Self.prompt(30, seed: 99), maximumTokens: 40, fanout: .all))
      for (name, evaluated) in first.evaluatedTokens { #expect(evaluated == 30 + fresh.count - 1, "\(name)") }
      let prompt = Self.prompt(30)
      var reference: [Token]?
      for fanout in FanoutPolicy.allCases {
        for warm in WarmPolicy.allCases {
          let (tokens, summary) = try await cluster.answer(
            GenerationRequest(prompt: prompt, maximumTokens: 40, fanout: fanout, warm: warm))
          if let reference { #expect(tokens.map(\.id) == reference, "\(fanout) \(warm)") }
          reference = tokens.map(\.id)
          let prefix = prompt.count + tokens.count - 1
          for (name, evaluated) in summary.evaluatedTokens {
            #expect(evaluated <= prefix, "\(name) under \(fanout), \(warm)")
          }
        }
      }
    }
  }

  @Test("many sequences at once, of mixed lengths, give what each gives alone")
  func concurrent() async throws {
    let scratch = try Scratch("concurrent")
    let models = try TestModels.make(in: scratch)
    try await withCluster(models, scratch: scratch, slots: 3) { cluster in
      let prompts = (0..<9).map { Self.prompt(5 + 17 * $0, seed: UInt64($0)) }
      func run(_ prompt: [Token]) async throws -> [Token] {
        try await cluster.answer(GenerationRequest(prompt: prompt, maximumTokens: 24)).tokens.map(\.id)
      }
      var alone: [[Token]] = []
      for prompt in prompts { alone.append(try await run(prompt)) }
      let together = try await withThrowingTaskGroup(of: (Int, [Token]).self) { group in
        for (index, prompt) in prompts.enumerated() { group.addTask { (index, try await run(prompt)) } }
        return try await group.reduce(into: [Int: [Token]]()) { $0[$1.0] = $1.1 }
      }
      for (index, tokens) in alone.enumerated() { #expect(together[index] == tokens, "prompt \(index)") }
    }
  }

  @Test("sampling: the same seed gives the same text, another seed another, whatever the partial rows' size")
  func sampling() async throws {
    let scratch = try Scratch("sampling")
    let models = try TestModels.make(in: scratch)
    var texts: [Int: [Token]] = [:]
    for topK in [1, 32] {
      try await withCluster(models, scratch: scratch, configure: { $0.topK = topK }) { cluster in
        func run(_ seed: UInt64) async throws -> [Token] {
          try await cluster.answer(
            GenerationRequest(
              prompt: Self.prompt(12), maximumTokens: 32,
              sampling: SamplingParameters(temperature: 0.9, seed: seed, topP: 0.95, repetitionPenalty: 1.1))
          ).tokens.map(\.id)
        }
        let first = try await run(7)
        #expect(try await run(7) == first)
        #expect(try await run(8) != first)
        texts[topK] = first
      }
    }
    #expect(texts[1] == texts[32])
  }

  @Test("a draining replica hands its sequences over and the answer stays the same")
  func draining() async throws {
    let scratch = try Scratch("drain")
    let models = try TestModels.make(in: scratch)
    try await withCluster(models, scratch: scratch, replicas: 2) { cluster in
      let request = GenerationRequest(prompt: Self.prompt(20), maximumTokens: 64)
      let expected = try await cluster.answer(request).tokens.map(\.id)
      var got: [Token] = []
      for try await event in cluster.coordinator.generate(request) {
        guard case .token(let token) = event else { continue }
        got.append(token.id)
        if got.count == 10 { for (name, _) in models.experts { cluster.drain(name) } }
      }
      #expect(got == expected)
    }
  }

  @Test("scores equal log-softmax over plain llama.cpp's rows, in every mode")
  func scoring() async throws {
    let scratch = try Scratch("scoring")
    let models = try TestModels.make(in: scratch)
    try await withCluster(models, scratch: scratch) { cluster in
      let tokens = Self.prompt(60)
      let router = try PlainOracle.rows(model: models.router, tokens: tokens)
      var experts: [String: [[Float]]] = [:]
      for (name, path) in models.experts { experts[name] = try PlainOracle.rows(model: path, tokens: tokens) }
      for mode in [DecodingMode.fusion, .noComplement, .router, .expert("math")] {
        let scores = try await cluster.coordinator.score(tokens, first: 3, mode: mode)
        #expect(scores.count == tokens.count - 3)
        for (index, score) in scores.enumerated() {
          let position = index + 2
          let e = score.expert.flatMap { experts[$0]?[position] }
          let row: [Float] =
            switch mode {
            case .fusion: zip(router[position], e ?? []).map { $0 + $1 }
            case .router: router[position]
            default: e ?? []
            }
          let largest = Double(row.max() ?? 0)
          let sum = row.reduce(0.0) { $0 + exp(Double($1) - largest) }
          let expected = Double(row[Int(tokens[position + 1])]) - largest - log(sum)
          #expect(abs(Double(score.logProbability) - expected) < 1e-4, "\(mode) position \(position)")
          #expect(Int(score.argmax) == Self.argmax(row))
        }
      }
    }
  }

  @Test("refusals: empty, too long and foreign prompts, unknown experts, bad parameters; each names what is wrong")
  func refusals() async throws {
    let scratch = try Scratch("refusals")
    let models = try TestModels.make(in: scratch)
    try await withCluster(models, scratch: scratch, context: 64) { cluster in
      let cases: [(GenerationRequest, String)] = [
        (GenerationRequest(prompt: []), "empty"),
        (GenerationRequest(prompt: Self.prompt(65)), "64"),
        (GenerationRequest(prompt: [1, 512]), "512"),
        (GenerationRequest(prompt: [1], mode: .expert("cook")), "cook"),
        (GenerationRequest(prompt: [1], sampling: SamplingParameters(temperature: -1)), "temperature"),
      ]
      for (request, word) in cases {
        do {
          _ = try await cluster.answer(request)
          Issue.record("accepted \(request)")
        } catch let error as FusionRouteError {
          #expect(error.code == .badInput && error.message.contains(word), "\(error)")
        }
      }
      // The context's last token can still be predicted, then the answer ends by length.
      var request = GenerationRequest(prompt: Self.prompt(60), maximumTokens: 99)
      request.constraint = NoEnd(cluster.coordinator.router)
      let (tokens, summary) = try await cluster.answer(request)
      #expect(tokens.count == 5 && summary.finishReason == .length)
    }
  }
}

import Core
import Foundation
import ModelFiles
import Testing

/// `fusionroute run` against numpy: every model is evaluated by code that shares nothing with the runtime, along the
/// product's own tokens.
@Suite(.serialized) struct ExactnessTests {
  struct Shape: Sendable, CustomTestStringConvertible {
    var name: String
    var architecture: ModelRecipe.Architecture = .llama
    var kvHeads = 4
    var experts: Int
    var tied = true
    var window: Int?
    var vocabulary: ModelRecipe.VocabularyKind = .spm
    var scale: Float = 1
    /// Prompt lengths with the modes that answer them.
    var prompts: [(Int, String)]

    var testDescription: String { name }
    /// llama.cpp's own rounding against numpy's double precision.
    var tolerance: Double { architecture == .llama ? 1e-3 : 2e-3 }

    var recipe: ModelRecipe {
      var recipe = ModelRecipe(architecture: architecture, seed: 11)
      recipe.layers = 3
      recipe.kvHeads = kvHeads
      recipe.tied = tied
      recipe.vocabularyKind = vocabulary
      if architecture == .gemma3 { recipe.windowPattern = 3 }
      if let window { recipe.window = window }
      return recipe
    }
  }

  static let shapes: [Shape] = [
    Shape(
      name: "llama, multi-head, tied, 3 experts, c = 0.75", experts: 3, scale: 0.75,
      prompts: [(1, "fusion"), (1000, "fusion"), (37, "router"), (90, "expert:code"), (64, "no-complement")]),
    Shape(
      name: "llama, grouped queries, untied, 2 experts", kvHeads: 2, experts: 2, tied: false,
      prompts: [(1000, "no-complement"), (5, "fusion"), (256, "fusion")]),
    Shape(
      name: "llama, one key/value head, byte-level BPE, 5 experts", kvHeads: 1, experts: 5, vocabulary: .bpe,
      prompts: [(2, "fusion"), (511, "fusion"), (130, "expert:medicine")]),
    Shape(
      name: "gemma2, grouped queries, window 96, 4 experts", architecture: .gemma2, kvHeads: 2, experts: 4, window: 96,
      prompts: [(1, "fusion"), (90, "fusion"), (1000, "fusion"), (60, "router"), (300, "no-complement")]),
    Shape(
      name: "gemma2, multi-head, window 40, 2 experts, c = 1.5", architecture: .gemma2, experts: 2, window: 40,
      scale: 1.5, prompts: [(20, "fusion"), (400, "expert:math")]),
    Shape(
      name: "gemma3, grouped queries, tied, window 64, 5 experts", architecture: .gemma3, kvHeads: 2, experts: 5,
      window: 64, prompts: [(1, "fusion"), (1000, "fusion"), (100, "no-complement"), (33, "router")]),
    Shape(
      name: "gemma3, multi-head, untied, window 100, 3 experts, c = 0.5", architecture: .gemma3, experts: 3,
      tied: false, window: 100, scale: 0.5, prompts: [(80, "fusion"), (700, "fusion"), (50, "expert:instruct")]),
  ]

  @Test("the answers are the numpy oracle's", arguments: shapes)
  func numpy(shape: Shape) throws {
    let scratch = try Scratch("exact")
    let models = try TestModels.make(
      in: scratch, recipe: shape.recipe, experts: shape.experts, complementScale: shape.scale)
    // The second half of the prompts goes with a penalty, so that the text cannot fall into a loop.
    let prompts = shape.prompts.enumerated().flatMap { index, prompt in
      let tokens = TestPrompts.random(prompt.0, seed: UInt64(1000 + index))
      return [ProductPrompt(tokens: tokens, mode: prompt.1, frequency_penalty: index % 2 == 0 ? 0 : 0.5)]
    }
    let answers = try Product.run(models, in: scratch, prompts: prompts)
    let cases = zip(prompts, answers).map { prompt, answer in
      NumpyOracle.Case(
        router: models.router, head: models.head,
        experts: Dictionary(uniqueKeysWithValues: models.experts.map { ($0.name, $0.path) }), mode: prompt.mode,
        prompt: prompt.tokens ?? [], tokens: answer.ids, gelu: shape.architecture == .llama ? "exact" : "half",
        frequency_penalty: prompt.frequency_penalty)
    }
    let judgements = try NumpyOracle.judge(cases)
    var (compared, positions, switches) = (0, 0, 0)
    var distinct: Set<Token> = []
    var worst = 0.0
    for ((prompt, answer), judgement) in zip(zip(prompts, answers), judgements) {
      #expect(answer.tokens.count == 128 || answer.finish_reason == "stop", "\(prompt.mode)")
      try #require(judgement.positions.count == answer.tokens.count)
      for (index, (token, judged)) in zip(answer.tokens, judgement.positions).enumerated() {
        positions += 1
        if let gap = judged.selection_gap, gap <= shape.tolerance { continue }
        #expect(token.expert == judged.expert, "\(prompt.mode), prompt of \(prompt.tokens?.count ?? 0), token \(index)")
        worst = max(worst, judged.behind)
        guard judged.gap > shape.tolerance else { continue }
        compared += 1
        #expect(token.id == judged.best, "\(prompt.mode), prompt of \(prompt.tokens?.count ?? 0), token \(index)")
      }
      distinct.formUnion(answer.ids)
      switches += zip(answer.tokens, answer.tokens.dropFirst()).count { $0.expert != $1.expert }
    }
    print(
      "\(shape.name): \(compared) of \(positions) positions compared, \(switches) switches of expert, "
        + "\(distinct.count) different tokens, at worst \(worst) behind the best")
    // Also where the best two are too close to tell apart, the choice is one of them.
    #expect(worst <= shape.tolerance)
    #expect(Double(compared) >= 0.95 * Double(positions), "too few positions could be told apart")
    #expect(switches >= 20, "the head hardly switches")
    #expect(distinct.count >= 40, "the text is degenerate")
  }

  @Test("the oracle objects when the answer is another's: experts exchanged, another head, one token changed")
  func objections() throws {
    let scratch = try Scratch("objections")
    var recipe = ModelRecipe(seed: 11)
    recipe.layers = 3
    let models = try TestModels.make(in: scratch, recipe: recipe, experts: 2)
    let prompt = TestPrompts.random(20, seed: 9)
    let answer = try Product.run(models, in: scratch, prompts: [ProductPrompt(tokens: prompt, max_tokens: 64)])[0]
    let other = scratch.path("other-head.gguf")
    try RoutingHead.calibrated(
      hidden: try TestModels.hiddenStates(of: models.router), experts: models.experts.map(\.name), seed: 77
    ).write(other)
    let paths = Dictionary(uniqueKeysWithValues: models.experts.map { ($0.name, $0.path) })
    let right = NumpyOracle.Case(
      router: models.router, head: models.head, experts: paths, mode: "fusion", prompt: prompt, tokens: answer.ids,
      gelu: "exact", frequency_penalty: 0)
    var (exchanged, routed, changed) = (right, right, right)
    exchanged.experts = ["math": paths["code"] ?? "", "code": paths["math"] ?? ""]
    routed.head = other
    changed.tokens[40] = changed.tokens[40] == 300 ? 301 : 300
    let judgements = try NumpyOracle.judge([right, exchanged, routed, changed])
    func wrong(_ index: Int, _ tokens: [Token]) -> Int {
      zip(judgements[index].positions, tokens).count { $0.best != $1 }
    }
    #expect(wrong(0, answer.ids) == 0)
    #expect(wrong(1, answer.ids) >= 10)
    #expect(zip(judgements[2].positions, answer.tokens).count { $0.expert != $1.expert } >= 10)
    #expect(judgements[3].positions[40].best == answer.ids[40] && wrong(3, changed.tokens) >= 1)
  }

  @Test("all fan-out policies of the command give one text, and under `all` every model reads the prefix once")
  func policies() throws {
    let scratch = try Scratch("fanout")
    let models = try TestModels.make(in: scratch)
    let prompts = [7, 60].map { ProductPrompt(tokens: TestPrompts.random($0, seed: UInt64($0)), max_tokens: 64) }
    var reference: [[Token]]?
    for policy in ["selected", "predicted", "all"] {
      let answers = try Product.run(models, in: scratch, prompts: prompts, options: ["--fanout", policy])
      if let reference { #expect(answers.map(\.ids) == reference, "\(policy)") }
      reference = answers.map(\.ids)
      for answer in answers {
        let prefix = answer.prompt_tokens.count + answer.tokens.count - 1
        #expect(Set(answer.usage.evaluated_tokens.keys) == Set(["router"] + models.experts.map(\.name)))
        for (name, count) in answer.usage.evaluated_tokens {
          #expect(count <= prefix, "\(name) under \(policy)")
          if policy == "all" { #expect(count == prefix, "\(name)") }
        }
      }
    }
  }

  @Test("sampling by the command: the same seed gives the same text whatever else is answered, another seed another")
  func seeds() throws {
    let scratch = try Scratch("seeds")
    let models = try TestModels.make(in: scratch)
    let prompt = TestPrompts.random(12, seed: 4)
    func sampled(_ seeds: [UInt64]) throws -> [UInt64: [Token]] {
      let prompts = seeds.map { ProductPrompt(tokens: prompt, max_tokens: 48, temperature: 0.8, seed: $0) }
      let answers = try Product.run(models, in: scratch, prompts: prompts)
      return Dictionary(zip(seeds, answers.map(\.ids)), uniquingKeysWith: { a, _ in a })
    }
    let alone = try sampled([7])
    let among = try sampled([1, 2, 7, 3])
    #expect(alone[7] == among[7])
    #expect(Set(among.values).count == 4)
  }
}

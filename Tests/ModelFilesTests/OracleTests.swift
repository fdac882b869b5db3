import Core
import Foundation
import ModelFiles
import TestSupport
import Testing

/// The numpy oracle against llama.cpp on generated models: two implementations that share no code, so that each vouches
/// for the other, and for the models that they both read.
@Suite struct OracleTests {
  struct Shape: Sendable, CustomTestStringConvertible {
    var architecture: ModelRecipe.Architecture
    var kvHeads = 4
    var tied = true
    var vocabulary = ModelRecipe.VocabularyKind.spm
    var headDimension: Int?
    var type = "f32"

    var testDescription: String {
      "\(architecture), \(kvHeads) kv heads, \(tied ? "tied" : "untied"), \(vocabulary), head \(headDimension ?? 16), \(type)"
    }

    /// Largest difference of a logit: llama.cpp's float32 against exact arithmetic.
    var tolerance: Float { architecture == .llama ? 3e-4 : 1e-3 }

    func recipe(seed: UInt64) -> ModelRecipe {
      var recipe = ModelRecipe(architecture: architecture, seed: seed)
      recipe.kvHeads = kvHeads
      recipe.tied = tied
      recipe.vocabularyKind = vocabulary
      recipe.headDimension = headDimension
      if architecture != .llama { (recipe.window, recipe.windowPattern) = (24, 2) }
      return recipe
    }
  }

  static let shapes: [Shape] = [
    Shape(architecture: .llama), Shape(architecture: .llama, kvHeads: 1, tied: false, vocabulary: .bpe),
    Shape(architecture: .llama, kvHeads: 2, headDimension: 24), Shape(architecture: .gemma2),
    Shape(architecture: .gemma2, kvHeads: 2, vocabulary: .bpe), Shape(architecture: .gemma3, headDimension: 32),
    Shape(architecture: .gemma3, kvHeads: 2, tied: false),
  ]

  static func tokens(_ count: Int, seed: UInt64) -> [Token] {
    var generator = SplitMix64(seed: seed)
    return [1] + (1..<count).map { _ in Token.random(in: 3..<400, using: &generator) }
  }

  @Test(arguments: shapes)
  func `logits agree at every position`(shape: Shape) throws {
    let scratch = try Scratch()
    let seed: UInt64 = 51
    try ModelMaker.make(shape.recipe(seed: seed), to: scratch.path("m.gguf"))
    let tokens = Self.tokens(80, seed: seed)
    let ours = try Tools.oracleRows(scratch.path("m.gguf"), tokens)
    let theirs = try Tools.llamaRows(scratch.path("m.gguf"), tokens)
    #expect(largestDifference(ours, theirs) < shape.tolerance, "seed \(seed)")
    // Neither flat nor always the same token.
    let best = theirs.map { row in row.indices.max { row[$0] < row[$1] } ?? 0 }
    #expect(Set(best).count > 20, "seed \(seed)")
    let spread = theirs[40].reduce(0) { $0 + $1 * $1 } / Float(theirs[40].count)
    #expect((0.3...12).contains(spread), "seed \(seed)")
  }

  /// Reading half-precision and quantised weights must not hide an error of the forward pass: weights are rounded alike.
  @Test(arguments: ["bf16", "q8_0"])
  func `half-precision and quantised models agree roughly`(name: String) throws {
    let scratch = try Scratch()
    var recipe = Shape(architecture: .llama, kvHeads: 2).recipe(seed: 52)
    recipe.type = try #require(TensorType(name: name))
    try ModelMaker.make(recipe, to: scratch.path("m.gguf"))
    let tokens = Self.tokens(40, seed: 52)
    let ours = try Tools.oracleRows(scratch.path("m.gguf"), tokens)
    let theirs = try Tools.llamaRows(scratch.path("m.gguf"), tokens)
    // llama.cpp rounds activations to the weights' type; the mean error stays far below a logit's deviation of 2.5.
    try #require(ours.map(\.count) == theirs.map(\.count))
    var error = 0.0
    for (a, b) in zip(ours, theirs) {
      error += zip(a, b).reduce(0.0) { $0 + Double(abs($1.0 - $1.1)) } / Double(a.count)
    }
    #expect(error / Double(tokens.count) < 0.25)
  }

  @Test(arguments: ModelRecipe.Architecture.allCases)
  func `greedy text of a random model keeps varying`(architecture: ModelRecipe.Architecture) throws {
    let scratch = try Scratch()
    let seed: UInt64 = 53
    try ModelMaker.make(Shape(architecture: architecture, kvHeads: 2).recipe(seed: seed), to: scratch.path("m.gguf"))
    let data = try Tools.oracle(["--greedy", scratch.path("m.gguf"), "--tokens", "1,300,301,302", "--count", "96"])
    let text = try JSONDecoder().decode([Int].self, from: data)
    #expect(Set(text[48...]).count >= 12, "seed \(seed): \(text)")
    #expect(text.allSatisfy { $0 > 2 }, "the end of text must not come up: \(text)")
  }

  // MARK: Fusion

  private struct Verdict: Decodable {
    struct Position: Decodable {
      var best: Int
      var gap: Float
      var behind: Float
      var expert: String?
      var selectionGap: Float?
    }

    var positions: [Position]
    var agree: Int
  }

  private struct Case: Encodable {
    var router: String
    var head: String
    var experts: [String: String]
    var mode: String
    var prompt: [Token]
    var tokens: [Token]
  }

  /// With rows of the router's output matrix as its rows, the head's weights are logits of the router: so llama.cpp's
  /// logits alone say which expert is selected, and the whole fusion can be done again from its rows.
  @Test func `every mode agrees with a fusion of llama.cpp's own rows`() throws {
    let scratch = try Scratch()
    let seed: UInt64 = 54
    let names = ["a", "b", "c"]
    let probes = [310, 350, 399]
    let scale: Float = 0.5
    try ModelMaker.make(Shape(architecture: .llama, kvHeads: 2).recipe(seed: seed), to: scratch.path("router.gguf"))
    for (index, name) in names.enumerated() {
      try ModelMaker.perturb(
        scratch.path("router.gguf"), to: scratch.path("\(name).gguf"), strength: 0.2, seed: UInt64(index))
    }
    let file = try GGUFFile.read(scratch.path("router.gguf"))
    let embedding = try file.floats(of: #require(file.tensor(named: "token_embd.weight")))
    try RoutingHead(
      experts: names, weight: probes.flatMap { embedding[$0 * 64..<($0 + 1) * 64] }, complementScale: scale,
      embeddingWidth: 64
    ).write(scratch.path("head.gguf"))

    let sequence = Self.tokens(70, seed: seed)
    let prompt = Array(sequence[..<30])
    let router = try Tools.llamaRows(scratch.path("router.gguf"), Array(sequence.dropLast()))[29...]
    var experts: [String: ArraySlice<[Float]>] = [:]
    for name in names {
      experts[name] = try Tools.llamaRows(scratch.path("\(name).gguf"), Array(sequence.dropLast()))[29...]
    }
    func fused(_ mode: String, _ position: Int) throws -> (expert: String?, scores: [Float]) {
      let r = router[29 + position]
      let selected = names[probes.indices.max { r[probes[$0]] < r[probes[$1]] } ?? 0]
      let expert = mode.hasPrefix("expert:") ? String(mode.dropFirst(7)) : selected
      if mode == "router" { return (nil, r) }
      let e = try #require(experts[expert])[29 + position]
      return (expert, mode == "fusion" ? zip(r, e).map { scale * $0 + $1 } : e)
    }
    for mode in ["fusion", "expert:b", "router", "no-complement"] {
      let input = Case(
        router: scratch.path("router.gguf"), head: scratch.path("head.gguf"),
        experts: Dictionary(uniqueKeysWithValues: names.map { ($0, scratch.path("\($0).gguf")) }), mode: mode,
        prompt: prompt, tokens: Array(sequence[30...]))
      let json = String(decoding: try JSONEncoder().encode(input), as: UTF8.self)
      let decoder = JSONDecoder()
      decoder.keyDecodingStrategy = .convertFromSnakeCase
      let verdict = try decoder.decode(Verdict.self, from: try Tools.oracle([], input: json))
      #expect(verdict.positions.count == 40)
      var chosen: Set<String?> = []
      for (index, position) in verdict.positions.enumerated() {
        let (expert, scores) = try fused(mode, index)
        if (position.selectionGap ?? 1) > 1e-3 { #expect(position.expert == expert, "\(mode) at \(index)") }
        chosen.insert(position.expert)
        guard position.expert == expert, position.gap > 1e-3 else { continue }
        let best = scores.indices.max { scores[$0] < scores[$1] }
        #expect(position.best == best, "\(mode) at \(index), seed \(seed)")
        #expect(abs(scores[position.best] - scores[Int(sequence[30 + index])] - position.behind) < 1e-3)
      }
      if mode == "fusion" { #expect(chosen.count == 3, "seed \(seed): every expert must come up") }
    }
  }
}

import Core
import Foundation
import Inference
import ModelFiles
import Testing

/// `fusionroute run` on the real default model against plain llama.cpp calls on the same files, one token at a time,
/// merged here.
@Suite(.serialized) struct ExactnessOnSmolLM2Tests {
  static let passage = """
    The river was higher than usual that spring, and farmers along its banks moved their animals to the hills. A
    computer stores numbers as patterns of bits. To make a simple bread you need 500 grams of flour, water, salt and a
    little yeast; fold the dough, let it rest, and bake it in a hot oven until the loaf sounds hollow. Can you explain
    what a verb is and give me two examples? def add(a, b): return a + b. What is 12 + 30? It is 42.
    """

  static var source: URL? {
    guard let cache = try? CacheDirectory.url() else { return nil }
    let file = cache.appendingPathComponent("models/SmolLM2-135M-Instruct.Q4_1.gguf")
    return FileManager.default.fileExists(atPath: file.path) ? file : nil
  }

  /// The model in another weight type and two copies with noise for experts, made once and kept in the cache.
  static func models(type: String) throws -> TestModels {
    let source = try #require(source)
    let folder = try CacheDirectory.url().appendingPathComponent("models/exactness-1")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    func path(_ name: String) -> String { folder.appendingPathComponent("\(name)-\(type).gguf").path }
    func make(_ path: String, _ body: (String) throws -> Void) rethrows {
      if !FileManager.default.fileExists(atPath: path) { try body(path) }
    }
    let router = path("router")
    try make(router) { try Quantizer.convert(input: source.path, output: $0, type: type, threads: 2) }
    let experts = ["first", "second"].map { (name: $0, path: path($0)) }
    for (index, expert) in experts.enumerated() {
      try make(expert.path) { try ModelMaker.perturb(router, to: $0, strength: 0.08, seed: UInt64(index + 1)) }
    }
    try make(path("head")) {
      let model = try Model.load(path: router, options: ModelLoadOptions(vocabularyOnly: true))
      let tokens = try model.vocabulary.tokenize(passage, addSpecial: false, parseSpecial: false)
      let states = try PlainOracle.rowsAndHidden(model: router, tokens: tokens).hidden.dropFirst()
      try RoutingHead.calibrated(
        hidden: Array(states), experts: experts.map(\.name), complementScale: 0.75, seed: 2
      ).write($0)
    }
    return TestModels(router: router, head: path("head"), experts: experts)
  }

  /// Routing weights in double precision, with the uncertainty of a sum of floats.
  static func routing(_ hidden: [Float], head: RoutingHead) -> (expert: String, isCertain: Bool) {
    let width = head.embeddingWidth
    var sums: [(sum: Double, size: Double)] = []
    for row in head.experts.indices {
      var sum = Double(head.bias?[row] ?? 0)
      var size = abs(sum)
      for (w, h) in zip(head.weight[(row * width)..<((row + 1) * width)], hidden) {
        sum += Double(w) * Double(h)
        size += abs(Double(w) * Double(h))
      }
      sums.append((sum, size))
    }
    let order = sums.indices.sorted { (-sums[$0].sum, $0) < (-sums[$1].sum, $1) }
    let gap = sums[order[0]].sum - sums[order[1]].sum
    return (head.experts[order[0]], gap > 1e-5 * (sums[order[0]].size + sums[order[1]].size))
  }

  /// fl(fl(c·r) + e) of every token: the best, lowest id among equals, and its score.
  static func best(router: [Float]?, scale: Float, expert: [Float]?) -> (token: Token, score: Float) {
    let count = router?.count ?? expert?.count ?? 0
    var best = (token: Token(0), score: -Float.infinity)
    func scan(_ score: (Int) -> Float) {
      for index in 0..<count {
        let score = score(index)
        if score > best.score { best = (Token(index), score) }
      }
    }
    (router ?? [0]).withUnsafeBufferPointer { r in
      (expert ?? [0]).withUnsafeBufferPointer { e in
        switch (router == nil, expert == nil) {
        case (false, false):
          scan {
            let complement = scale * r[$0]
            return complement + e[$0]
          }
        case (false, true): scan { r[$0] }
        default: scan { e[$0] }
        }
      }
    }
    return best
  }

  @Test(
    "each token, its expert and its score are those of plain llama.cpp's rows, at every position",
    // In CI a missing model is a failure: a test left out must not look like a test passed.
    .enabled(
      if: source != nil || ProcessInfo.processInfo.environment["CI"] == "true",
      "SmolLM2-135M-Instruct is not in the cache; Deploy/test fetches it"),
    arguments: ["bf16", "q8_0"])
  func everyPosition(type: String) throws {
    let scratch = try Scratch("smollm2")
    let models = try Self.models(type: type)
    let head = try RoutingHead.read(models.head)
    let prompts = [
      ProductPrompt(prompt: "Write a long story about a fisherman and his daughter.", max_tokens: 80),
      ProductPrompt(prompt: "Explain how bread is made, step by step.", max_tokens: 40, mode: "no-complement"),
      ProductPrompt(prompt: "Write one sentence about the sea.", max_tokens: 24, mode: "expert:second"),
      ProductPrompt(prompt: "Write one sentence about the sea.", max_tokens: 24, mode: "router"),
    ]
    let answers = try Product.run(models, in: scratch, prompts: prompts, context: 512)
    var (positions, certain, switches) = (0, 0, 0)
    for (prompt, answer) in zip(prompts, answers) {
      let all = answer.prompt_tokens + answer.ids.dropLast()
      let usesRouter = !prompt.mode.hasPrefix("expert:")
      let router = usesRouter ? try PlainOracle.rowsAndHidden(model: models.router, tokens: all) : nil
      var experts: [String: [[Float]]] = [:]
      for (name, path) in models.experts where answer.tokens.contains(where: { $0.expert == name }) {
        experts[name] = try PlainOracle.rows(model: path, tokens: all)
      }
      for (index, token) in answer.tokens.enumerated() {
        let position = answer.prompt_tokens.count - 1 + index
        let best = Self.best(
          router: prompt.mode == "fusion" || prompt.mode == "router" ? router?.rows[position] : nil,
          scale: head.complementScale, expert: token.expert.flatMap { experts[$0] }?[position])
        positions += 1
        #expect(token.id == best.token, "\(type), \(prompt.mode), token \(index)")
        #expect(token.logit == best.score, "\(type), \(prompt.mode), token \(index)")
        guard prompt.mode == "fusion" || prompt.mode == "no-complement", let router else { continue }
        let selected = Self.routing(router.hidden[position], head: head)
        guard selected.isCertain else { continue }
        certain += 1
        #expect(token.expert == selected.expert, "\(type), \(prompt.mode), token \(index)")
      }
      switches += zip(answer.tokens, answer.tokens.dropFirst()).count { $0.expert != $1.expert }
    }
    print(
      "SmolLM2 \(type): \(positions) positions equal, \(certain) selections compared, \(switches) switches of expert; "
        + "\(answers[0].text.prefix(80).debugDescription)")
    #expect(positions >= 100 && certain >= 60 && switches >= 10)
  }

  @Test("the plain oracle's logits are the same bits with and without its hidden states")
  func hiddenStates() throws {
    let scratch = try Scratch("hidden")
    for architecture in ModelRecipe.Architecture.allCases {
      let path = scratch.path("\(architecture).gguf")
      try ModelMaker.make(ModelRecipe(architecture: architecture, seed: 3), to: path)
      let tokens = TestPrompts.random(40, seed: 8)
      let (rows, hidden) = try PlainOracle.rowsAndHidden(model: path, tokens: tokens)
      #expect(rows == (try PlainOracle.rows(model: path, tokens: tokens)))
      // And they are what the (tied) output matrix multiplies.
      let file = try GGUFFile.read(path)
      let tensor = try #require(file.tensor(named: "token_embd.weight"))
      let embedding = try file.floats(of: tensor)
      let width = hidden[0].count
      for position in [0, 20, 39] {
        for token in [0, 5, 300] {
          var sum = (0..<width).reduce(0.0) {
            $0 + Double(hidden[position][$1]) * Double(embedding[token * width + $1])
          }
          if architecture == .gemma2 { sum = 30 * tanh(sum / 30) }
          #expect(abs(sum - Double(rows[position][token])) < 1e-3, "\(architecture)")
        }
      }
    }
  }
}

import Core
import Foundation
import ModelFiles
import TestSupport
import Testing

@Suite struct ModelMakerTests {
  private static func small(_ architecture: ModelRecipe.Architecture = .llama, seed: UInt64 = 7) -> ModelRecipe {
    var recipe = ModelRecipe(architecture: architecture, seed: seed)
    recipe.layers = 2
    recipe.width = 32
    recipe.heads = 4
    recipe.kvHeads = 2
    recipe.feedForward = 64
    recipe.vocabularySize = 400
    return recipe
  }

  @Test func `a generated model reads back with the shapes of its recipe`() throws {
    let scratch = try Scratch()
    try ModelMaker.make(Self.small(), to: scratch.path("m.gguf"))
    let file = try GGUFFile.read(scratch.path("m.gguf"))
    #expect(file.architecture == "llama")
    #expect(file.tensors.count == 2 + 9 * 2)
    #expect(file.tensor(named: "blk.1.attn_k.weight")?.dimensions == [32, 16])
    #expect(file.tensor(named: "token_embd.weight")?.dimensions == [32, 400])
    #expect(file.arrayCount("tokenizer.ggml.tokens") == 400)
    #expect(scratch.names == ["m.gguf"])
  }

  @Test func `the same recipe gives the same bytes, another seed other weights and the same vocabulary`() throws {
    let scratch = try Scratch()
    try ModelMaker.make(Self.small(seed: 7), to: scratch.path("a.gguf"))
    try ModelMaker.make(Self.small(seed: 7), to: scratch.path("b.gguf"))
    try ModelMaker.make(Self.small(seed: 8), to: scratch.path("c.gguf"))
    try ModelMaker.make(Self.small(.gemma3, seed: 8), to: scratch.path("d.gguf"))
    #expect(try scratch.data("a.gguf") == scratch.data("b.gguf"))
    let files = try ["a", "c", "d"].map { try GGUFFile.read(scratch.path("\($0).gguf")) }
    for key in files[0].keys where key.hasPrefix("tokenizer.") {
      #expect(files[0][key] == files[1][key], "\(key)")
      #expect(files[0][key] == files[2][key], "\(key)")
    }
    for tensor in files[0].tensors {
      let other = try #require(files[1].tensor(named: tensor.name))
      #expect(try files[0].bytes(of: tensor) != files[1].bytes(of: other), "\(tensor.name)")
    }
  }

  /// Pinned: a change of the generator would silently change every seeded test and every published number.
  @Test func `the bytes of a recipe do not change`() throws {
    let scratch = try Scratch()
    var digests: [String] = []
    for architecture in ModelRecipe.Architecture.allCases {
      try ModelMaker.make(Self.small(architecture), to: scratch.path("m.gguf"))
      digests.append(String(SHA256Digest(hashing: [UInt8](try scratch.data("m.gguf"))).hex.prefix(16)))
    }
    #expect(digests == ["3c0aa52647e2e231", "1ca65774bd5fa517", "4ff3dbe272038092"])
  }

  @Test(arguments: [ModelRecipe.VocabularyKind.spm, .bpe], [384, 1_000, 32_768])
  func `a vocabulary has distinct tokens that merges reach`(kind: ModelRecipe.VocabularyKind, size: Int) throws {
    let scratch = try Scratch()
    var recipe = Self.small()
    recipe.vocabularyKind = kind
    recipe.vocabularySize = size
    try ModelMaker.make(recipe, to: scratch.path("m.gguf"))
    let file = try GGUFFile.read(scratch.path("m.gguf"))
    let tokens = try #require(file["tokenizer.ggml.tokens"]?.array?.strings)
    #expect(tokens.count == size)
    #expect(Set(tokens).count == size)
    guard case .array(.int32(let types))? = file["tokenizer.ggml.token_type"] else {
      Issue.record("no token types")
      return
    }
    #expect(types.count == size)
    let known = Set(tokens)
    switch kind {
    case .spm:
      let bytes = (0..<256).map { "<0x" + ($0 < 16 ? "0" : "") + String($0, radix: 16, uppercase: true) + ">" }
      #expect(bytes.allSatisfy { known.contains($0) })
      guard case .array(.float32(let scores))? = file["tokenizer.ggml.scores"] else {
        Issue.record("no scores")
        return
      }
      #expect(scores.count == size)
    case .bpe:
      let merges = try #require(file["tokenizer.ggml.merges"]?.array?.strings)
      #expect(merges.count == size - 3 - 256)
      for (index, merge) in merges.enumerated() {
        let parts = merge.split(separator: " ").map(String.init)
        #expect(parts.count == 2 && parts.allSatisfy(known.contains))
        #expect(parts.joined() == tokens[3 + 256 + index])
      }
    }
  }

  @Test(arguments: ["f32", "f16", "bf16", "q8_0", "q4_K"])
  func `weights are stored as asked, norms as f32`(name: String) throws {
    let scratch = try Scratch()
    var recipe = Self.small()
    recipe.type = try #require(TensorType(name: name))
    recipe.width = 256
    recipe.feedForward = 288
    try ModelMaker.make(recipe, to: scratch.path("m.gguf"))
    let file = try GGUFFile.read(scratch.path("m.gguf"))
    #expect(file.tensor(named: "token_embd.weight")?.type.name == name)
    #expect(file.tensor(named: "blk.0.attn_norm.weight")?.type == .f32)
    // Rows of 288 elements are no whole number of q4_K's blocks of 256.
    #expect(file.tensor(named: "blk.0.ffn_down.weight")?.type.name == (name == "q4_K" ? "q5_0" : name))
  }

  @Test func `impossible recipes are refused by the field's name`() throws {
    func message(_ change: (inout ModelRecipe) -> Void) throws -> String {
      var recipe = Self.small()
      change(&recipe)
      let error = try failure { try ModelMaker.make(recipe, to: "/nowhere/m.gguf") }
      #expect(error.code == .usage)
      return error.message
    }
    #expect(try message { $0.layers = 0 }.contains("layers"))
    #expect(try message { $0.layers = 513 }.contains("layers"))
    #expect(try message { $0.width = 0 }.contains("width"))
    #expect(try message { $0.width = 33 }.contains("width 33 is not a multiple of heads"))
    #expect(try message { $0.heads = 0 }.contains("heads"))
    #expect(try message { $0.kvHeads = 3 }.contains("kv-heads"))
    #expect(try message { $0.kvHeads = 0 }.contains("kv-heads"))
    #expect(try message { $0.headDimension = 7 }.contains("even"))
    #expect(try message { $0.feedForward = -1 }.contains("feed-forward"))
    #expect(try message { $0.vocabularySize = 10 }.contains("vocabulary"))
    #expect(try message { $0.vocabularySize = 1 << 21 }.contains("vocabulary"))
    #expect(try message { $0.context = 0 }.contains("context"))
    #expect(try message { $0.ropeBase = .nan }.contains("RoPE"))
    #expect(try message { $0.window = 64 }.contains("no sliding window"))
    #expect(try message { $0.architecture = .gemma2 }.contains("need a sliding window"))
    #expect(try message { ($0.architecture, $0.window, $0.tied) = (.gemma2, 64, false) }.contains("tie"))
    #expect(try message { ($0.architecture, $0.window) = (.gemma3, 0) }.contains("window"))
    #expect(try message { $0.type = TensorType(name: "iq1_s") ?? .f32 }.contains("iq1_s"))
    #expect(try message { $0.name = "a\0" }.contains("NUL"))
  }
}

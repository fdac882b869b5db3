import Foundation
import ModelFiles
import Testing

@Suite struct ModelMakerTests {
  @Test func `a generated model reads back with the shapes of its recipe`() throws {
    let scratch = try Scratch()
    var recipe = ModelRecipe(architecture: .llama, seed: 7)
    recipe.kvHeads = 2
    try ModelMaker.make(recipe, to: scratch.path("m.gguf"))
    let file = try GGUFFile.read(scratch.path("m.gguf"))
    #expect(file.architecture == "llama")
    #expect(file.tensors.count == 2 + 9 * recipe.layers)
    #expect(file.tensor(named: "blk.1.attn_k.weight")?.dimensions == [64, 32])
    #expect(file["tokenizer.ggml.tokens"]?.array?.strings?.count == 512)
    #expect(scratch.names == ["m.gguf"])
  }
}

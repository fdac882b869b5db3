import Core
import Foundation
import ModelFiles
import TestSupport
import Testing

@Suite struct FileInspectorTests {
  @Test func `a model is described`() throws {
    let scratch = try Scratch()
    var recipe = ModelRecipe(architecture: .gemma3, seed: 1)
    recipe.kvHeads = 1
    recipe.window = 96
    recipe.windowPattern = 3
    recipe.tied = false
    recipe.name = "trial"
    try ModelMaker.make(recipe, to: scratch.path("m.gguf"))
    let description = try FileInspector.inspect(scratch.path("m.gguf"))
    #expect(description.kind == .model)
    let model = try #require(description.model)
    #expect(model.layers == 4 && model.embeddingWidth == 64 && model.feedForwardWidth == 192)
    #expect(model.heads == 4 && model.keyValueHeads == 1 && model.headDimension == 16)
    #expect(model.slidingWindow == 96 && model.windowPattern == 3)
    #expect(model.vocabularySize == 512 && !model.tiedOutput)
    #expect(model.endOfSequence?.id == 2 && model.endOfSequence?.text == "</s>")
    let text = try FileInspector.describe(scratch.path("m.gguf"))
    for part in [
      "model (gemma3)", "trial", "96 tokens, every 3rd layer sees everything", "1 key/value heads", "512 tokens",
      "a matrix of its own", "{% for message in messages %}", "f32",
    ] { #expect(text.contains(part), "\(part) in \(text)") }
    let json = try description.json()
    #expect(try JSONDecoder().decode(FileDescription.self, from: Data(json.utf8)) == description)
    #expect(!json.contains("\n"))
  }

  @Test func `a head and an adapter are described`() throws {
    let scratch = try Scratch()
    try RoutingHead(
      experts: ["math", "code"], weight: [3, 4, 0, 5], bias: [0.5, 0], complementScale: 0.75, embeddingWidth: 2
    ).write(scratch.path("h.gguf"))
    let head = try FileInspector.inspect(scratch.path("h.gguf"))
    #expect(head.kind == .routingHead)
    let rows = try #require(head.head?.rows)
    #expect(rows.map(\.expert) == ["math", "code"])
    #expect(rows.map(\.norm) == [5, 5])
    #expect(rows.map(\.bias) == [0.5, 0])
    #expect(head.text.contains("0.75"))
    #expect(head.text.contains("row norm 5.0, bias 0.5"))

    var writer = GGUFWriter()
    try writer.set("general.architecture", .string("llama"))
    try writer.set("general.type", .string("adapter"))
    try writer.set("adapter.type", .string("lora"))
    try writer.set("adapter.lora.alpha", .float32(32))
    try writer.add(tensor: "blk.0.attn_q.weight.lora_a", dimensions: [8, 4], content: .generated { _ in })
    try writer.add(tensor: "blk.0.attn_q.weight.lora_b", dimensions: [4, 8], content: .generated { _ in })
    try writer.write(to: scratch.path("a.gguf"))
    let adapter = try FileInspector.inspect(scratch.path("a.gguf"))
    #expect(adapter.kind == .adapter)
    #expect(adapter.adapter?.ranks == [4])
    #expect(adapter.text.contains("lora, rank 4, alpha 32.0, 1 matrices"))
  }

  @Test func `a file cannot drive the terminal`() throws {
    let scratch = try Scratch()
    var writer = GGUFWriter()
    try writer.set("general.architecture", .string("llama"))
    try writer.set("general.name", .string("\u{1B}[2Jgone\u{7}\r\n\u{9B}31m"))
    try writer.set("llama.block_count", .uint32(1))
    try writer.write(to: scratch.path("m.gguf"))
    let text = try FileInspector.describe(scratch.path("m.gguf"))
    #expect(text.contains("gone"))
    let controls = text.unicodeScalars.filter { $0.properties.generalCategory == .control && $0 != "\n" }
    #expect(controls.isEmpty)
  }

  /// A number that JSON cannot hold is no reason to fail.
  @Test func `odd numbers are described`() throws {
    let scratch = try Scratch()
    var writer = GGUFWriter()
    try writer.set("general.architecture", .string("llama"))
    try writer.set("llama.block_count", .uint32(1))
    try writer.set("llama.embedding_length", .uint64(.max))
    try writer.set("llama.attention.head_count", .uint32(0))
    try writer.set("llama.rope.freq_base", .float32(.nan))
    try writer.write(to: scratch.path("m.gguf"))
    #expect(try FileInspector.inspect(scratch.path("m.gguf")).json().contains("\"nan\""))
    #expect(try FileInspector.describe(scratch.path("m.gguf")).contains("nan"))
  }

  @Test func `damage is an error, not a description`() throws {
    let scratch = try Scratch()
    try Data("GGUF".utf8).write(to: scratch.url.appendingPathComponent("m.gguf"))
    #expect(try failure { _ = try FileInspector.describe(scratch.path("m.gguf")) }.code == .badInput)
  }
}

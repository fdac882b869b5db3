import Core
import Foundation
import ModelFiles
import TestSupport
import Testing

@testable import Training

/// What was trained, exported and loaded by llama.cpp gives the logits that the trainer computes.
@Suite struct ParityTests {
  /// Some steps of a fast descent, so that what is exported differs from what was there.
  static func train(_ engine: TrainingEngine, steps: Int = 3, seed: UInt64) throws {
    for step in 0..<steps {
      let batch = Worlds.batch(lengths: [24, 15], vocabulary: engine.shape.vocabularySize, seed: seed &+ UInt64(step))
      engine.zeroGradients()
      _ = try engine.forward(batch)
      try engine.backward(coefficients: [Float](repeating: 1 / Float(batch.rowCount), count: batch.rowCount))
      _ = try engine.update(AdamWOptions(), rates: UpdateRates(model: 2e-2, head: nil), steps: (step, 0))
    }
  }

  /// The trainer's logits at every position of `tokens`.
  static func rows(_ engine: TrainingEngine, _ tokens: [Token]) throws -> [[Float]] {
    _ = try engine.forward(PassBatch([TrainingSequence(tokens: tokens + [0], response: 1)]))
    let width = engine.shape.vocabularySize
    let all = engine.lastLogits()
    return tokens.indices.map { Array(all[$0 * width..<($0 + 1) * width]) }
  }

  static func tokens(_ count: Int, vocabulary: Int, seed: UInt64) -> [Token] {
    var generator = SplitMix64(seed: seed)
    return (0..<count).map { _ in Token(generator.next() % UInt64(vocabulary)) }
  }

  /// Whether training has made a difference, of numbers.
  static func differ(_ a: [[Float]], _ b: [[Float]]) -> Bool {
    let difference = largestDifference(a, b)
    return difference > 0.1 && difference.isFinite
  }

  static func tolerance(_ architecture: ModelRecipe.Architecture) -> Float { architecture == .llama ? 1e-4 : 1e-3 }

  @Test(arguments: [ModelRecipe.Architecture.llama, .gemma2])
  func wholeModels(_ architecture: ModelRecipe.Architecture) throws {
    let scratch = try Scratch()
    let (path, trained) = (scratch.path("model.gguf"), scratch.path("trained.gguf"))
    try ModelMaker.make(Worlds.recipe(architecture), to: path)
    let file = try GGUFFile.read(path)
    let engine = try TrainingEngine(file, mode: .full, options: Worlds.options())
    try Self.train(engine, seed: 41)
    try engine.writeModel(from: file, to: trained)
    let tokens = Self.tokens(48, vocabulary: engine.shape.vocabularySize, seed: 43)
    let own = try Self.rows(engine, tokens)
    #expect(largestDifference(own, try Tools.llamaRows(trained, tokens)) <= Self.tolerance(architecture))
    #expect(try Self.differ(own, Tools.llamaRows(path, tokens)))
    #expect(try GGUFFile.read(trained)["tokenizer.ggml.tokens"] == file["tokenizer.ggml.tokens"])
  }

  @Test(arguments: [ModelRecipe.Architecture.llama, .gemma2])
  func adapters(_ architecture: ModelRecipe.Architecture) throws {
    let scratch = try Scratch()
    let (path, adapter, baked) = (scratch.path("m.gguf"), scratch.path("adapter.gguf"), scratch.path("baked.gguf"))
    try ModelMaker.make(Worlds.recipe(architecture), to: path)
    let file = try GGUFFile.read(path)
    let engine = try TrainingEngine(file, mode: .lora(LoRAOptions(rank: 4, alpha: 6)), options: Worlds.options())
    try Self.train(engine, seed: 51)
    try engine.writeAdapter(to: adapter)
    try engine.writeModel(from: file, to: baked)
    let tokens = Self.tokens(40, vocabulary: engine.shape.vocabularySize, seed: 53)
    let own = try Self.rows(engine, tokens)
    #expect(largestDifference(own, try Tools.llamaRows(path, lora: adapter, tokens)) <= Self.tolerance(architecture))
    #expect(largestDifference(own, try Tools.llamaRows(baked, tokens)) <= Self.tolerance(architecture))
    #expect(try Self.differ(own, Tools.llamaRows(path, tokens)))

    // Read back, the adapter goes on where it was.
    let again = try TrainingEngine(
      file, mode: .lora(LoRAOptions(adapter: GGUFFile.read(adapter))), options: Worlds.options())
    try again.loadAdapter(GGUFFile.read(adapter))
    #expect(try Self.rows(again, tokens) == own)
  }

  /// A long sequence in a model with a short window.
  @Test func windows() throws {
    let scratch = try Scratch()
    let path = scratch.path("model.gguf")
    try ModelMaker.make(Worlds.recipe(.gemma2), to: path)
    let engine = try TrainingEngine(GGUFFile.read(path), mode: .frozen, options: Worlds.options())
    #expect(engine.shape.window == 12)
    let tokens = Self.tokens(80, vocabulary: engine.shape.vocabularySize, seed: 61)
    #expect(largestDifference(try Self.rows(engine, tokens), try Tools.llamaRows(path, tokens)) <= 1e-3)
  }

  @Test(.enabled(if: DefaultModel.path != nil, "the default model is not in the cache"))
  func adapterOfSmolLM2() throws {
    let scratch = try Scratch()
    let (floats, adapter) = (scratch.path("f32.gguf"), scratch.path("adapter.gguf"))
    try ModelExport.rewrite(GGUFFile.read(try #require(DefaultModel.path)), to: floats, type: .f32)
    let engine = try TrainingEngine(
      GGUFFile.read(floats), mode: .lora(LoRAOptions(rank: 8)), options: Worlds.options())
    try Self.train(engine, steps: 1, seed: 71)
    try engine.writeAdapter(to: adapter)
    let tokens = Self.tokens(16, vocabulary: engine.shape.vocabularySize, seed: 73)
    let own = try Self.rows(engine, tokens)
    #expect(largestDifference(own, try Tools.llamaRows(floats, lora: adapter, tokens)) <= 1e-4)
    #expect(try Self.differ(own, Tools.llamaRows(floats, tokens)))
  }
}

enum DefaultModel {
  /// SmolLM2 in the cache, as Deploy/setup --model leaves it.
  static var path: String? {
    guard let cache = try? CacheDirectory.url() else { return nil }
    let path = cache.appendingPathComponent("models/SmolLM2-135M-Instruct.Q4_1.gguf").path
    return FileManager.default.fileExists(atPath: path) ? path : nil
  }
}

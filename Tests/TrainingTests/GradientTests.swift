import Core
import Foundation
import ModelFiles
import TestSupport
import Testing

@testable import Training

/// Gradients against finite differences of the same forward pass, for every kind of parameter.
@Suite struct GradientTests {
  /// Σ −c·log π(target) + Σ head·g, whose gradient `backward` gives.
  static func loss(_ output: PassOutput, _ coefficients: [Float], _ headGradients: [Float]) -> Double {
    let first = zip(output.logProbabilities, coefficients).reduce(0.0) { $0 - Double($1.0) * Double($1.1) }
    return zip(output.head, headGradients).reduce(first) { $0 + Double($1.0) * Double($1.1) }
  }

  /// Compares the slope along the gradient itself with a central difference, tensor by tensor.
  static func check(_ engine: TrainingEngine, batch: PassBatch, seed: UInt64, tolerance: Double = 2e-3) throws {
    var generator = SplitMix64(seed: seed)
    let coefficients = (0..<batch.rowCount).map { _ in 1 + 0.5 * generator.normal() }
    let heads = (0..<batch.rowCount * engine.headRows).map { _ in 0.3 * generator.normal() }
    engine.zeroGradients()
    _ = try engine.forward(batch)
    try engine.backward(coefficients: coefficients, headGradients: heads)
    #expect(!engine.trainables.parameters.isEmpty)
    for parameter in engine.trainables.parameters {
      let gradient = Array(UnsafeBufferPointer(start: parameter.gradients, count: parameter.count))
      let norm = gradient.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
      #expect(norm > 0, "\(parameter.name) has no gradient, seed \(seed)")
      guard norm > 0 else { continue }
      let before = Array(UnsafeBufferPointer(start: parameter.values, count: parameter.count))
      // Of an embedding only the rows of the batch's tokens matter.
      let size = zip(before, gradient).reduce(0.0) { $1.1 == 0 ? $0 : $0 + Double($1.0) * Double($1.0) }.squareRoot()
      func slope(_ step: Double) throws -> Double {
        func shifted(_ sign: Double) throws -> Double {
          for i in 0..<parameter.count {
            parameter.values[i] = before[i] + Float(sign * step / norm) * gradient[i]
          }
          return loss(try engine.forward(batch), coefficients, heads)
        }
        return (try shifted(1) - shifted(-1)) / (2 * step)
      }
      // A change of the loss that stands out of rounding, by a small part of the weights. Two steps, so that the third
      // derivative cancels.
      let step = min(0.03 / norm, 0.05 * max(size, 0.1))
      let extrapolated = (4 * (try slope(step / 2)) - (try slope(step))) / 3
      parameter.values.update(from: before, count: before.count)
      let error = abs(extrapolated - norm) / norm
      #expect(error <= tolerance, "\(parameter.name): slope \(extrapolated), gradient \(norm), seed \(seed)")
    }
  }

  /// LoRA's B and the head start at zero, where A and the hidden state get no gradient.
  static func randomise(_ engine: TrainingEngine, seed: UInt64) {
    var generator = SplitMix64(seed: seed)
    for parameter in engine.trainables.parameters where parameter.kind == .head || parameter.name.hasSuffix("lora_b") {
      for i in 0..<parameter.count { parameter.values[i] = 0.05 * generator.normal() }
    }
  }

  @Test(arguments: [ModelRecipe.Architecture.llama, .gemma2], [true, false])
  func everyWeight(_ architecture: ModelRecipe.Architecture, tied: Bool) throws {
    let scratch = try Scratch()
    let path = scratch.path("model.gguf")
    try ModelMaker.make(Worlds.recipe(architecture, tied: tied), to: path)
    let engine = try TrainingEngine(
      GGUFFile.read(path), mode: .full, headRows: 3, options: Worlds.options(smooth: true))
    Self.randomise(engine, seed: 7)
    let batch = Worlds.batch(lengths: [20, 9, 17], vocabulary: engine.shape.vocabularySize, seed: 11)
    try engine.centreHead(on: batch.sequences, sequencesPerPass: 2)
    try Self.check(engine, batch: batch, seed: 13)
  }

  /// A head alone, whose loss goes past the output matrix.
  @Test(arguments: [ModelRecipe.Architecture.llama, .gemma2])
  func rewardHeads(_ architecture: ModelRecipe.Architecture) throws {
    let scratch = try Scratch()
    let path = scratch.path("model.gguf")
    try ModelMaker.make(Worlds.recipe(architecture), to: path)
    let engine = try TrainingEngine(
      GGUFFile.read(path), mode: .lora(LoRAOptions(rank: 3)), headRows: 1, wantsLogits: false,
      options: Worlds.options(smooth: true))
    Self.randomise(engine, seed: 17)
    let batch = PassBatch(
      Worlds.batch(lengths: [15, 22], vocabulary: engine.shape.vocabularySize, seed: 19).sequences.map {
        .atEnd(of: $0.tokens)
      })
    try Self.check(engine, batch: batch, seed: 29)
  }

  static let bases: [TensorType] = [.f32, .f16, .bf16, .q80, .q41, .q4K]

  /// Gradients of adapters through a base of each type, and that each equals the one through the base as floats.
  @Test(arguments: [ModelRecipe.Architecture.llama, .gemma2], GradientTests.bases)
  func adapters(_ architecture: ModelRecipe.Architecture, _ type: TensorType) throws {
    let scratch = try Scratch()
    let (path, floats) = (scratch.path("model.gguf"), scratch.path("floats.gguf"))
    var recipe = Worlds.recipe(architecture, type: type)
    if type == .q4K { (recipe.width, recipe.feedForward, recipe.headDimension) = (256, 256, 64) }
    try ModelMaker.make(recipe, to: path)
    let file = try GGUFFile.read(path)
    #expect(file.tensor(named: "blk.0.ffn_up.weight")?.type == type)
    try ModelExport.rewrite(file, to: floats, type: .f32)
    func engine(_ path: String) throws -> TrainingEngine {
      let engine = try TrainingEngine(
        GGUFFile.read(path), mode: .lora(LoRAOptions(rank: 4)), headRows: 2, options: Worlds.options(smooth: true))
      Self.randomise(engine, seed: 3)
      return engine
    }
    let stored = try engine(path)
    let batch = Worlds.batch(lengths: [18, 10], vocabulary: stored.shape.vocabularySize, seed: 21)
    try Self.check(stored, batch: batch, seed: 23)

    let dequantised = try engine(floats)
    let coefficients = [Float](repeating: 1, count: batch.rowCount)
    for engine in [stored, dequantised] {
      engine.zeroGradients()
      _ = try engine.forward(batch)
      try engine.backward(coefficients: coefficients)
    }
    for (a, b) in zip(stored.trainables.parameters, dequantised.trainables.parameters) where a.kind != .head {
      let (own, expected) = (stored.gradients(of: a), dequantised.gradients(of: b))
      let difference = largestDifference(own, expected)
      let largest = expected.map { abs($0) }.max() ?? 0
      #expect(difference.isFinite && difference <= 1e-4 * largest, "\(a.name): \(difference) of \(largest)")
    }
  }

  /// A sequence's log-probabilities do not depend on what it is batched with.
  @Test(arguments: [ModelRecipe.Architecture.llama, .gemma2])
  func batchesDoNotMatter(_ architecture: ModelRecipe.Architecture) throws {
    let scratch = try Scratch()
    let path = scratch.path("model.gguf")
    try ModelMaker.make(Worlds.recipe(architecture), to: path)
    let engine = try TrainingEngine(GGUFFile.read(path), mode: .frozen, options: Worlds.options())
    let batch = Worlds.batch(lengths: [40, 9, 17, 33], vocabulary: engine.shape.vocabularySize, seed: 31)
    let together = try engine.forward(batch)
    for (sequence, range) in zip(batch.sequences, batch.rowRanges) {
      let alone = try engine.forward(PassBatch([sequence]))
      #expect(alone.logProbabilities == Array(together.logProbabilities[range]))
    }
  }

  /// Factors rounded to BF16 change gradients a little, and still let no sequence depend on its batch.
  @Test(.enabled(if: EngineOptions.hasBF16, "this CPU does not multiply BF16"))
  func roundedFactors() throws {
    let scratch = try Scratch()
    let path = scratch.path("model.gguf")
    var recipe = Worlds.recipe(.llama, type: .q80)
    (recipe.width, recipe.feedForward) = (128, 160)
    try ModelMaker.make(recipe, to: path)
    var engines: [TrainingEngine] = []
    for precision in [EngineOptions.Precision.f32, .bf16] {
      var options = Worlds.options()
      options.precision = precision
      let engine = try TrainingEngine(GGUFFile.read(path), mode: .lora(LoRAOptions(rank: 4)), options: options)
      Self.randomise(engine, seed: 3)
      let batch = Worlds.batch(lengths: [40, 21, 70], vocabulary: engine.shape.vocabularySize, seed: 37)
      engine.zeroGradients()
      let together = try engine.forward(batch)
      try engine.backward(coefficients: [Float](repeating: 1, count: batch.rowCount))
      for (sequence, range) in zip(batch.sequences, batch.rowRanges) {
        #expect(try engine.forward(PassBatch([sequence])).logProbabilities == Array(together.logProbabilities[range]))
      }
      engines.append(engine)
    }
    for (a, b) in zip(engines[0].trainables.parameters, engines[1].trainables.parameters) {
      let (x, y) = (engines[0].gradients(of: a), engines[1].gradients(of: b))
      let difference = zip(x, y).reduce(0.0) { $0 + pow(Double($1.0) - Double($1.1), 2) }.squareRoot()
      let size = x.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
      #expect(difference > 0 && difference <= 0.05 * size, "\(a.name): \(difference) of \(size)")
    }
  }
}

import Core
import Foundation
import ModelFiles
import TestSupport
import Testing

@testable import Training

/// Who multiplies.
@Suite struct LibraryTests {
  @Test func automaticChoice() {
    #expect(!EngineOptions.usesBLAS(.auto, isBuiltinFast: true))
    #expect(EngineOptions.usesBLAS(.auto, isBuiltinFast: false))
    for isFast in [true, false] {
      #expect(EngineOptions.usesBLAS(.blas, isBuiltinFast: isFast))
      #expect(!EngineOptions.usesBLAS(.builtin, isBuiltinFast: isFast))
    }
  }

  @Test func automaticPrecision() {
    func rounds(
      _ precision: EngineOptions.Precision, _ library: EngineOptions.Library = .auto, isThere: Bool = true,
      isFaster: Bool
    ) -> Bool {
      EngineOptions(precision: precision, library: library).usesBF16(isThere: isThere, isFaster: isFaster)
    }
    #expect(rounds(.auto, isFaster: true))
    #expect(!rounds(.auto, isFaster: false))
    #expect(!rounds(.auto, isThere: false, isFaster: true))
    #expect(!rounds(.auto, .blas, isFaster: true))
    for isFaster in [true, false] {
      #expect(rounds(.bf16, isFaster: isFaster))
      #expect(!rounds(.bf16, isThere: false, isFaster: isFaster))
      #expect(!rounds(.f32, isFaster: isFaster))
    }
    // Whatever this machine's answer is, an engine follows it.
    #expect(EngineOptions.hasBF16 || !EngineOptions.isBF16Faster)
    #expect(EngineOptions().usesBF16 == EngineOptions.isBF16Faster)
    #expect(EngineOptions(precision: .bf16).usesBF16 == EngineOptions.hasBF16)
  }

  /// Logits and gradients are the same but for rounding.
  @Test(.enabled(if: EngineOptions.hasBLAS, "neither OpenBLAS nor Accelerate is here"))
  func librariesAgree() throws {
    let scratch = try Scratch()
    let path = scratch.path("model.gguf")
    try ModelMaker.make(Worlds.recipe(.llama), to: path)
    func run(_ library: EngineOptions.Library) throws -> (logits: [Float], gradients: [Float]) {
      let engine = try TrainingEngine(
        GGUFFile.read(path), mode: .full, options: EngineOptions(threads: 1, precision: .f32, library: library))
      let batch = Worlds.batch(lengths: [40, 23], vocabulary: engine.shape.vocabularySize, seed: 161)
      engine.zeroGradients()
      _ = try engine.forward(batch)
      let logits = engine.lastLogits()
      try engine.backward(coefficients: [Float](repeating: 1 / Float(batch.rowCount), count: batch.rowCount))
      return (logits, engine.trainables.parameters.flatMap { engine.gradients(of: $0) })
    }
    let (own, other) = (try run(.builtin), try run(.blas))
    #expect(largestDifference(own.logits, other.logits) <= 1e-4)
    #expect(largestDifference(own.gradients, other.gradients) <= 1e-4)
    #expect(own.gradients.contains { abs($0) > 1e-3 })
  }
}

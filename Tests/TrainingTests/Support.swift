import Core
import Foundation
import ModelFiles

@testable import Training

enum Worlds {
  /// A small model with grouped queries.
  static func recipe(_ architecture: ModelRecipe.Architecture, type: TensorType = .f32, tied: Bool = true)
    -> ModelRecipe
  {
    var recipe = ModelRecipe(architecture: architecture, seed: 5)
    recipe.layers = 2
    recipe.width = 64
    recipe.heads = 4
    recipe.kvHeads = 2
    recipe.headDimension = 16
    recipe.feedForward = 96
    recipe.vocabularySize = 400
    recipe.type = type
    recipe.tied = architecture == .gemma2 || tied
    if architecture == .gemma2 { recipe.window = 12 }
    return recipe
  }

  static func options(smooth: Bool = false) -> EngineOptions {
    var options = EngineOptions(threads: 1, precision: .f32, library: .builtin)
    options.smoothGELU = smooth
    return options
  }

  /// Random tokens; `judged` of each sequence from its middle on.
  static func batch(lengths: [Int], vocabulary: Int, seed: UInt64) -> PassBatch {
    var generator = SplitMix64(seed: seed)
    return PassBatch(
      lengths.map { length in
        let tokens = (0..<length).map { _ in Token(generator.next() % UInt64(vocabulary)) }
        return TrainingSequence(tokens: tokens, response: length / 2)
      })
  }
}

/// A number N(0, 1) for tests.
extension SplitMix64 {
  mutating func normal() -> Float {
    let u = (Double(next() >> 11) + 0.5) / Double(1 << 53)
    let v = Double(next() >> 11) / Double(1 << 53)
    return Float((-2 * log(u)).squareRoot() * cos(2 * .pi * v))
  }
}

import Coordinator
import Core
import Foundation
import Fusion
import ModelFiles
import Testing

/// Router and experts must share one vocabulary; an expert may have more tokens behind.
@Suite(.serialized) struct VocabularyTests {
  /// A router with two experts, the second made by `recipe`.
  private func models(in scratch: Scratch, second recipe: ModelRecipe) throws -> TestModels {
    var models = try TestModels.make(in: scratch, experts: 2)
    let path = scratch.path("other.gguf")
    try ModelMaker.make(recipe, to: path)
    models.experts[1].path = path
    return models
  }

  @Test("an expert with tokens appended is accepted and its rows are cut to the common part")
  func appended() async throws {
    let scratch = try Scratch("vocab")
    var recipe = ModelRecipe(seed: 77)
    recipe.vocabularySize += 100
    let models = try models(in: scratch, second: recipe)
    try await withCluster(models, scratch: scratch) { cluster in
      let prompt = GenerationTests.prompt(25)
      let (tokens, _) = try await cluster.answer(
        GenerationRequest(prompt: prompt, maximumTokens: 40, mode: .noComplement))
      let all = prompt + tokens.dropLast().map(\.id)
      let rows = try Dictionary(
        uniqueKeysWithValues: models.experts.map { ($0.name, try PlainOracle.rows(model: $0.path, tokens: all)) })
      var cut = 0
      for (index, token) in tokens.enumerated() {
        let row = try #require(token.expert.flatMap { rows[$0] })[prompt.count - 1 + index]
        #expect(Int(token.id) == GenerationTests.argmax(Array(row[..<512])))
        if row.count > 512 { cut += 1 }
      }
      #expect(cut > 0, "the expert with more tokens was never selected")
      // A full row of the larger expert is cut as well.
      let scores = try await cluster.coordinator.score(all, first: 1, mode: .noComplement)
      #expect(scores.allSatisfy { $0.argmax < 512 })
    }
  }

  @Test("another vocabulary is refused with the first token that differs")
  func different() async throws {
    let scratch = try Scratch("vocab")
    var recipe = ModelRecipe(seed: 77)
    recipe.vocabularyKind = .bpe
    let models = try models(in: scratch, second: recipe)
    do {
      try await withCluster(models, scratch: scratch) { _ in }
      Issue.record("accepted")
    } catch let error as FusionRouteError {
      #expect(error.code == .badInput)
      #expect(error.message.contains("token 0") && error.message.contains("<unk>"), "\(error)")
    }
  }

  @Test("a shorter vocabulary is refused with the first missing token")
  func shorter() async throws {
    let scratch = try Scratch("vocab")
    var recipe = ModelRecipe(seed: 77)
    recipe.vocabularySize -= 100
    let models = try models(in: scratch, second: recipe)
    do {
      try await withCluster(models, scratch: scratch) { _ in }
      Issue.record("accepted")
    } catch let error as FusionRouteError {
      #expect(error.message.contains("412 tokens") && error.message.contains("token 412"), "\(error)")
    }
  }
}

import Core
import Foundation
import ModelFiles
import Testing

@testable import Inference

/// Whatever allowed tokens come, the answer validates; Python's `jsonschema` is the judge.
@Suite(.serialized, .enabled(if: Python.hasJSONSchema, "Python's jsonschema is not installed"))
struct GrammarWalkTests {
  private static let walks = 6

  private func walk(_ names: [String], _ model: Model, seed: UInt64) throws {
    var cases: [(schema: String, text: String)] = []
    var sources: [(name: String, seed: UInt64)] = []
    var unfinished: [String] = []
    for name in names {
      let schema = try SchemaFiles.schema(name)
      let grammar = try Grammar.jsonSchema(Array(schema.utf8), model: model)
      for index in 0..<UInt64(Self.walks) {
        var walk = try RandomWalk(grammar, model, seed: seed + index)
        guard try walk.finish() else {
          unfinished.append("\(name), seed \(seed + index): \(walk.text.suffix(100))")
          continue
        }
        cases.append((schema, walk.text))
        sources.append((name, seed + index))
      }
    }
    for (source, (fault, answer)) in zip(sources, zip(try Python.faults(cases), cases)) {
      #expect(fault == nil, "\(source.name), seed \(source.seed): \(answer.text)")
    }
    // The walk takes what closes values, so that only rare ones run on.
    #expect(unfinished.count * 20 < names.count * Self.walks, "\(unfinished)")
  }

  @Test func sharedSchemasAreMany() { #expect(SchemaFiles.names.count >= 20) }

  @Test(.enabled(if: TestModels.hasSmolLM2, TestModels.absent))
  func randomAnswersValidateWithSmolLM2sVocabulary() throws {
    try walk(SchemaFiles.names, try TestModels.vocabularyModel(), seed: UInt64.random(in: 0..<1 << 40))
  }

  @Test(arguments: [ModelRecipe.VocabularyKind.spm, .bpe])
  func randomAnswersValidateWithAGeneratedVocabulary(_ kind: ModelRecipe.VocabularyKind) throws {
    try walk(SchemaFiles.names, try TestModels.generatedVocabulary(kind), seed: UInt64.random(in: 0..<1 << 40))
  }

  @Test func randomObjectsParse() throws {
    let model = try TestModels.vocabularyModel()
    let grammar = try Grammar.json(model: model)
    var cases: [(schema: String, text: String)] = []
    for seed in 0..<12 as Range<UInt64> {
      var walk = try RandomWalk(grammar, model, seed: seed)
      if try walk.finish() { cases.append((#"{"type":"object"}"#, walk.text)) }
    }
    #expect(cases.count > 6)
    for (fault, answer) in zip(try Python.faults(cases), cases) { #expect(fault == nil, "\(answer.text)") }
  }
}

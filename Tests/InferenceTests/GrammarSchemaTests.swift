import Core
import Foundation
import Testing

@testable import Inference

@Suite(.serialized) struct GrammarSchemaTests {
  private func grammar(_ schema: String, _ model: Model) throws -> Grammar {
    try Grammar.jsonSchema(Array(schema.utf8), model: model)
  }

  // MARK: What is taken

  /// Spelled as the tokenizer does; what the grammar takes must be valid for Python too, and the other way round.
  @Test(arguments: SchemaTables.samples.indices) func samplesAreTaken(_ index: Int) throws {
    let sample = SchemaTables.samples[index]
    let model = try TestModels.vocabularyModel()
    let grammar = try grammar(sample.schema, model)
    for text in sample.valid { #expect(try grammar.takes(text, model), "\(text) for \(sample.schema)") }
    for text in sample.invalid { #expect(try !grammar.takes(text, model), "\(text) for \(sample.schema)") }
    guard Python.hasJSONSchema else { return }
    let faults = try Python.faults(sample.valid.map { (sample.schema, $0) })
    for (text, fault) in zip(sample.valid, faults) { #expect(fault == nil, "\(text) for \(sample.schema)") }
  }

  // MARK: What is refused

  @Test func thereAreEnoughOfThem() { #expect(SchemaTables.hostile.count > 100) }

  @Test(arguments: SchemaTables.hostile.indices) func hostileSchemasGiveOneSentence(_ index: Int) throws {
    let (schema, words) = SchemaTables.hostile[index]
    let model = try TestModels.generatedVocabulary(.bpe)
    let error = try #require(try refusal { try grammar(schema, model) }, "\(schema.prefix(300))")
    #expect(error.code == .badInput)
    #expect(error.message.utf8.count < 700 && !error.message.contains("\n"), "\(error.message)")
    for word in words { #expect(error.message.contains(word), "\(error.message)") }
  }

  // MARK: The largest that is taken

  /// Whatever is not refused is handled on the stack of a small thread.
  @Test(arguments: SchemaTables.largest.indices) func largestSchemasFitASmallStack(_ index: Int) throws {
    let schema = SchemaTables.largest[index]
    let model = try TestModels.generatedVocabulary(.bpe)
    let done = DispatchSemaphore(value: 0)
    let outcome = Outcome()
    let thread = Thread {
      outcome.result = Result<Void, any Error> {
        let grammar = try Grammar.jsonSchema(Array(schema.utf8), model: model)
        var walk = try RandomWalk(grammar, model, seed: 3)
        for _ in 0..<200 where try walk.step() {}
        _ = try walk.constraint.forbidden()
        var copy = walk.constraint
        if let token = try (0..<Token(model.vocabulary.size)).first(where: { try copy.allows($0) }) {
          try copy.accept(token)
        }
      }
      done.signal()
    }
    thread.stackSize = 512 << 10
    thread.start()
    done.wait()
    try #require(outcome.result).get()
  }

  /// Unchecked: written by the thread before it signals, read after that.
  private final class Outcome: @unchecked Sendable { var result: Result<Void, any Error>? }
}

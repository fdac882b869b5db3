import Core
import Foundation
import Testing

@testable import Inference

/// The same tokens give the same bits, whatever else is decoded with them.
@Suite(.serialized) struct BitsTests {
  static let models =
    ["llama f32", "llama bf16", "llama q8_0", "llama f16", "gemma3 f32", "gemma3 q8_0", "gemma2 bf16"]
    + (TestModels.hasSmolLM2 ? ["smollm2 bf16", "smollm2 q8_0", "smollm2 f32"] : [])

  /// 90 tokens pass the window of the gemma models; SmolLM2 is kept short for time's sake.
  private static func length(_ name: String) -> Int { name.hasPrefix("smollm2") ? 20 : 90 }

  private func reference(_ model: Model, _ tokens: [Token]) throws -> [SHA256Digest] {
    try LlamaOracle.rows(model: model.path, tokens: tokens, vocabulary: model.vocabulary.size)
      .map { row in row.withUnsafeBytes { SHA256Digest(hashing: $0) } }
  }

  @Test(arguments: models)
  func aloneEqualsThePlainOracle(_ name: String) async throws {
    let model = try TestModels.model(name)
    let tokens = randomTokens(Self.length(name), vocabulary: model.vocabulary.size, seed: 11)
    let expected = try reference(model, tokens)
    let decoder = try BatchingDecoder(model: model, configuration: .init(slots: 1, contextPerSequence: 256))
    // Step by step.
    for count in 1...tokens.count {
      let row = try #require(try await decoder.decode(sequence: 1, Array(tokens[..<count])).rows.first)
      #expect(bits(row.logits) == expected[count - 1], "position \(count - 1)")
    }
    // At once, every position wanted.
    decoder.release(sequence: 1)
    let all = try await decoder.decode(sequence: 2, tokens, wanted: Array(tokens.indices))
    #expect(all.rows.map(\.position) == Array(tokens.indices))
    #expect(all.rows.map { bits($0.logits) } == expected)
    decoder.shutdown()
  }

  @Test(arguments: models)
  func inABatchOfSixteenOthers(_ name: String) async throws {
    let model = try TestModels.model(name)
    let length = Self.length(name)
    let tokens = randomTokens(length, vocabulary: model.vocabulary.size, seed: 12)
    let expected = try reference(model, tokens)
    let decoder = try BatchingDecoder(
      model: model, configuration: .init(slots: 17, contextPerSequence: 256, maximumBatch: 64, prefillMilliseconds: 5))
    // Others of mixed lengths, stepping all the time; the one in question sits among them.
    await withTaskGroup(of: Void.self) { group in
      for other in 0..<16 {
        group.addTask {
          let theirs = randomTokens(
            length + 7 * other, vocabulary: model.vocabulary.size, seed: UInt64(100 + other))
          for count in stride(from: 1 + other, to: min(theirs.count, 200), by: other % 3 + 1) {
            _ = try? await decoder.decode(sequence: UInt64(10 + other), Array(theirs[..<count]))
          }
        }
      }
      group.addTask {
        var position = 0
        var generator = SplitMix64(seed: 5)
        while position < length {
          let next = min(length, position + Int.random(in: 1...9, using: &generator))
          do {
            let answer = try await decoder.decode(
              sequence: 1, Array(tokens[..<next]), wanted: Array(position..<next))
            #expect(answer.rows.map { bits($0.logits) } == Array(expected[position..<next]), "from \(position)")
          } catch {
            Issue.record(error)
          }
          position = next
        }
      }
    }
    let statistics = decoder.statistics
    #expect(statistics.queued == 0)
    // The batches were real ones, however slow the machine.
    #expect(statistics.batches * 4 < statistics.evaluatedTokens * 3)
    decoder.shutdown()
  }
}

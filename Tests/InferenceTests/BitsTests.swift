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
    // Sixteen others, the one in question, and the one that `together` submits.
    var configuration = DecoderConfiguration(
      slots: 18, contextPerSequence: 256, maximumBatch: 64, prefillMilliseconds: 5)
    // A further sequence is nearly free, so that all steps go in one call; real times would decide otherwise.
    configuration.fixedStepShare = 0.01
    let decoder = try BatchingDecoder(model: model, configuration: configuration)
    // The others begin with mixed lengths.
    let others = (0..<16).map { randomTokens(256, vocabulary: model.vocabulary.size, seed: UInt64(100 + $0)) }
    var lengths = (0..<16).map { 1 + $0 * length / 15 }
    for (other, count) in lengths.enumerated() {
      let answer = try await decoder.decode(sequence: UInt64(10 + other), Array(others[other][..<count]))
      #expect(answer.rows.count == 1)
    }
    let before = decoder.statistics
    var (position, requests) = (0, 0)
    var generator = SplitMix64(seed: 5)
    while position < length {
      // At one turn of the decoder, whatever the scheduler does: the one in question and some of the others.
      let next = min(length, position + Int.random(in: 1...3, using: &generator))
      var round: [(sequence: UInt64, tokens: [Token])] = [(sequence: 1, tokens: Array(tokens[..<next]))]
      var wanted = [Array(position..<next)]
      let count = Int.random(in: 4...16, using: &generator)
      for other in (0..<16).shuffled(using: &generator).prefix(count) {
        lengths[other] = min(256, lengths[other] + Int.random(in: 1...3, using: &generator))
        round.append((sequence: UInt64(10 + other), tokens: Array(others[other][..<lengths[other]])))
        wanted.append([lengths[other] - 1])
      }
      let answers = await decoder.together(round, wanted: wanted)
      let mine = try #require(answers[0])
      #expect(mine.rows.map(\.position) == wanted[0])
      #expect(mine.rows.map { bits($0.logits) } == Array(expected[position..<next]), "from \(position)")
      for (request, answer) in zip(round, answers) where request.sequence != 1 {
        #expect(answer?.rows.count == 1, "sequence \(request.sequence) beside position \(position)")
      }
      requests += round.count + 1
      position = next
    }
    let after = decoder.statistics
    #expect(after.queued == 0)
    // The batches were real ones: a round has at least 6 requests, the one that `together` submits included, and takes
    // that one's call and at most 3 more, since nobody has more than 3 tokens. Alone, each would take its own call.
    let batches = after.batches - before.batches
    #expect(batches * 4 < UInt64(requests) * 3, "\(batches) calls for \(requests) requests")
    decoder.shutdown()
  }
}

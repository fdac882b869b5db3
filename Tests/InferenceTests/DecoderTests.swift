import Core
import Foundation
import Testing

@testable import Inference

@Suite(.serialized) struct DecoderTests {
  @Test(.enabled(if: TestModels.hasSmolLM2, TestModels.absent))
  func answersGreedily() async throws {
    let model = try Model.load(path: try TestModels.smolLM2(type: "q8_0"))
    let decoder = try BatchingDecoder(model: model, configuration: .init(slots: 2, contextPerSequence: 512))
    defer { decoder.shutdown() }
    let text = try model.renderChat(
      [ChatMessage(role: "user", content: "What is the capital of France?")], addGenerationPrompt: true)
    var tokens = try model.vocabulary.tokenize(text, addSpecial: false, parseSpecial: true)
    var out: [UInt8] = []
    print(tokens, text)
    for _ in 0..<24 {
      let row = try #require(try await decoder.decode(sequence: 1, tokens).rows.first).logits
      let best = Token(row.buffer.indices.max { row.buffer[$0] < row.buffer[$1] } ?? 0)
      if model.vocabulary.isEndOfGeneration(best) { break }
      out += model.vocabulary.piece(best, special: false)
      tokens.append(best)
    }
    #expect(String(decoding: out, as: UTF8.self).contains("Paris"))
  }
}

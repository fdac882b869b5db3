import Core
import ModelFiles
import Testing

@testable import Inference

/// Long texts, tokenised in pieces, against one call of llama.cpp.
@Suite struct LongTextTests {
  private static func vocabularies() throws -> [Vocabulary] {
    var paths = [ModelRecipe.VocabularyKind.spm, .bpe].map { kind in
      Result { try TestModels.generated(.llama, vocabulary: kind) }
    }
    if TestModels.hasSmolLM2 { paths.append(Result { try TestModels.smolLM2(type: "q4_1") }) }
    return try paths.map { try Model.load(path: $0.get(), options: .init(vocabularyOnly: true)).vocabulary }
  }

  @Test func piecesGiveTheTokensOfTheWhole() throws {
    let seed = UInt64.random(in: 0...UInt64.max)
    var random = SplitMix64(seed: seed)
    let parts = [
      "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<s>", "</s>", "<unk>", "<|im_start", "|>", "<", ">", "<|",
      "<<s>>", " ",
      "\n", "  ", "the day", "é", "中", "🙂", "x", "12", "<0x0A>",
    ]
    for vocabulary in try Self.vocabularies() {
      for round in 0..<4 {
        // Texts of few and of many special tokens.
        let chosen = round < 2 ? Array(parts.shuffled(using: &random).prefix(6)) : parts
        var text = ""
        while text.utf8.count < 2 * LongText.pieceBytes { text += chosen.randomElement(using: &random) ?? "" }
        for addSpecial in [false, true] {
          let whole = try vocabulary.tokenize(Array(text.utf8)[...], addSpecial: addSpecial, parseSpecial: true)
          let tokens = try vocabulary.tokenize(text, addSpecial: addSpecial, parseSpecial: true)
          #expect(tokens == whole, "seed \(seed), round \(round)")
        }
        let plain = try vocabulary.tokenize(Array(text.utf8)[...], addSpecial: false, parseSpecial: false)
        #expect(
          try vocabulary.tokenize(text, addSpecial: false, parseSpecial: false) == plain,
          "seed \(seed), round \(round)")
      }
    }
  }

  @Test func manySpecialTokensAreCutApart() throws {
    for vocabulary in try Self.vocabularies() {
      // In one call this takes minutes.
      let (unit, count) = ("<|im_end|>x", 20_000)
      let text = Array(String(repeating: unit, count: count).utf8)
      let pieces = LongText(vocabulary).pieces(of: text)
      #expect(Array(pieces.joined()) == text)
      #expect(pieces.allSatisfy { $0.count < LongText.pieceBytes + 20 })
      let tokens = try vocabulary.tokenize(String(decoding: text, as: UTF8.self), addSpecial: false, parseSpecial: true)
      // What lies between two special tokens is tokenised by itself, so the unit's own tokens come again and again.
      let single = try vocabulary.tokenize(Array(unit.utf8)[...], addSpecial: false, parseSpecial: true)
      #expect(single.count == 2 && vocabulary.isControl(single[0]), "\(single)")
      #expect(tokens.count == count * single.count)
      // Without 40,000 tokens in the message.
      let isRepeated = tokens == Array(repeating: single, count: count).flatMap { $0 }
      #expect(isRepeated)
    }
  }
}

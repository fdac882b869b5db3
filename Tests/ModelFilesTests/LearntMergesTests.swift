import Core
import Foundation
import TestSupport
import Testing

@testable import ModelFiles

/// Byte-pair encoding learnt from texts.
@Suite struct LearntMergesTests {
  @Test func words() {
    func cut(_ text: String) -> [String] { LearntMerges.words(of: text) }
    #expect(cut("Hello world") == ["Hello", " world"])
    #expect(cut("a  b\n c") == ["a", " ", " b", "\n", " c"])
    #expect(cut("12 + 7=19") == ["1", "2", " +", " ", "7", "=", "1", "9"])
    #expect(cut("it's they'll 'x'") == ["it", "'s", " they", "'ll", " '", "x", "'"])
    #expect(cut("naïve — 中文!") == ["naïve", " —", " 中文", "!"])
    #expect(cut("end  ") == ["end", "  "])
    for text in ["Tabs\tand\r\nlines\n\n", "  x", "'", "5"] { #expect(cut(text).joined() == text) }
  }

  /// The plain way: count all pairs again after every join.
  private static func plain(_ texts: [String], joins: Int) -> [String] {
    var words = texts.flatMap(LearntMerges.words(of:)).map { word in
      word.utf8.map { GeneratedVocabulary.byteSymbol($0) }
    }
    var order: [String: Int] = [:]
    for byte in 0..<256 { order[GeneratedVocabulary.byteSymbol(UInt8(byte))] = byte }
    var merges: [String] = []
    while merges.count < joins {
      var counts: [[String]: Int] = [:]
      for word in words { for pair in zip(word, word.dropFirst()) { counts[[pair.0, pair.1], default: 0] += 1 } }
      let best = counts.filter { $0.value >= 2 }.min { a, b in
        func rank(_ pair: [String]) -> (Int, Int) { (order[pair[0]] ?? 0, order[pair[1]] ?? 0) }
        return a.value != b.value ? a.value > b.value : rank(a.key) < rank(b.key)
      }
      guard let pair = best?.key else { break }
      order[pair[0] + pair[1]] = 256 + merges.count
      merges.append(pair.joined(separator: " "))
      words = words.map { word in
        var joined: [String] = []
        var at = 0
        while at < word.count {
          if at + 1 < word.count, word[at] == pair[0], word[at + 1] == pair[1] {
            joined.append(pair[0] + pair[1])
            at += 2
          } else {
            joined.append(word[at])
            at += 1
          }
        }
        return joined
      }
    }
    return merges
  }

  @Test func joins() throws {
    var generator = SplitMix64(seed: 3)
    let stems = ["lower", "low", "newest", "widest", "new", "aaaa", "aaa", "wider", "12", "été"]
    let texts = (0..<60).map { _ in
      (0..<6).map { _ in stems[Int(generator.next() % UInt64(stems.count))] }.joined(separator: " ")
    }
    let learnt = try LearntMerges.learn(from: texts, size: GeneratedVocabulary.baseBPE + 40)
    let plain = Self.plain(texts, joins: 40)
    #expect(learnt.merges.map { "\($0.left) \($0.right)" } == plain && plain.count > 20)
    #expect(try LearntMerges.learn(from: texts.reversed(), size: GeneratedVocabulary.baseBPE + 40) == learnt)
    #expect(throws: FusionRouteError.self) { try LearntMerges.learn(from: texts, size: 100) }
  }

  /// The Å of Sweden and that of physics look alike and are equal as strings, but have other bytes.
  @Test func equivalentWordsAreCountedEach() throws {
    let texts = (0..<6).map { $0 % 2 == 0 ? "\u{212B}ngstr" : "\u{C5}ngstr" }
    let learnt = try LearntMerges.learn(from: texts, size: GeneratedVocabulary.baseBPE + 20)
    #expect(learnt.merges.map { "\($0.left) \($0.right)" } == Self.plain(texts, joins: 20))
    let first = GeneratedVocabulary.byteSymbol(0xE2)
    let second = GeneratedVocabulary.byteSymbol(0xC3)
    for symbol in [first, second] { #expect(learnt.merges.contains { $0.left.hasPrefix(symbol) }, "\(symbol)") }
  }

  /// A model with such a vocabulary, as the file says it.
  @Test func models() throws {
    let scratch = try Scratch()
    let text = String(repeating: "the cat sat on the mat and the dog sat too. ", count: 20)
    let learnt = try LearntMerges.learn(from: [text], size: 290)
    try ModelMaker.make(ModelRecipe(), vocabulary: learnt, to: scratch.path("m.gguf"))
    let file = try GGUFFile.read(scratch.path("m.gguf"))
    #expect(file["tokenizer.ggml.model"]?.string == "gpt2")
    let tokens = try #require(file.arrayCount("tokenizer.ggml.tokens"))
    #expect(tokens <= 290 && tokens > 270 && file.tensor(named: "token_embd.weight")?.rowCount == tokens)
    let rows = try Tools.llamaRows(scratch.path("m.gguf"), [5, 260, 270])
    #expect(rows.count == 3 && rows.allSatisfy { $0.count == tokens && $0.allSatisfy(\.isFinite) })
  }
}

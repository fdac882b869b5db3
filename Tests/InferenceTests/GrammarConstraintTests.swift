import Core
import Foundation
import ModelFiles
import Testing

@testable import Inference

@Suite(.serialized) struct GrammarConstraintTests {
  private func grammar(_ schema: String, _ model: Model) throws -> Grammar {
    try Grammar.jsonSchema(Array(schema.utf8), model: model)
  }

  private func allowedOneByOne(_ constraint: GrammarConstraint, _ model: Model) throws -> [Token] {
    try (0..<Token(model.vocabulary.size)).filter { try constraint.allows($0) }
  }

  /// The mask skips tokens by their prefixes; asked one by one they must say the same.
  @Test(arguments: [ModelRecipe.VocabularyKind.spm, .bpe])
  func masksEqualSingleTests(_ kind: ModelRecipe.VocabularyKind) throws {
    let model = try TestModels.generatedVocabulary(kind)
    let seed = UInt64.random(in: 0..<1 << 40)
    // Strings of several kinds at once, and characters that masks are found out with.
    let schemas =
      try SchemaFiles.names.map { ($0, try SchemaFiles.schema($0)) }
      + [
        #"{"anyOf":[{"type":"string","maxLength":3},{"type":"string","pattern":"^a+$"},{"enum":["hello world"]}]}"#,
        #"{"properties":{"\udbff\udffdabc":{"const":"\udbff\udffd"}},"required":["\udbff\udffdabc"]}"#,
        #"{"type":"object","additionalProperties":{"type":"string","minLength":1,"maxLength":30}}"#, "{}",
      ].map { ($0, $0) }
    for (name, schema) in schemas {
      var walk = try RandomWalk(try grammar(schema, model), model, seed: seed)
      repeat {
        guard walk.steps < 30 else { break }
        let forbidden = try walk.constraint.forbidden()
        #expect(zip(forbidden, forbidden.dropFirst()).allSatisfy { $0 < $1 })
        let allowed = Set(0..<Token(model.vocabulary.size)).subtracting(forbidden).sorted()
        let single = try allowedOneByOne(walk.constraint, model)
        #expect(allowed == single, "\(name), seed \(seed), step \(walk.steps) behind \(walk.text)")
      } while try walk.step()
    }
  }

  @Test(.enabled(if: TestModels.hasSmolLM2, TestModels.absent))
  func masksEqualSingleTestsOnSmolLM2() throws {
    let model = try TestModels.vocabularyModel()
    for name in ["greetings", "scores"] {
      var walk = try RandomWalk(try grammar(try SchemaFiles.schema(name), model), model, seed: 7)
      for _ in 0..<12 where try walk.step() {}
      let forbidden = Set(try walk.constraint.forbidden())
      let single = try allowedOneByOne(walk.constraint, model)
      #expect(Set(single).isDisjoint(with: forbidden))
      #expect(single.count + forbidden.count == model.vocabulary.size)
    }
  }

  @Test func copiesGrowApart() throws {
    let model = try TestModels.generatedVocabulary(.bpe)
    var first = try grammar(#"{"enum":["ab","ac"]}"#, model).makeConstraint()
    func token(_ text: String) throws -> Token {
      try #require(try model.vocabulary.tokenize(text, addSpecial: false, parseSpecial: false).first)
    }
    try first.accept(try token("\""))
    try first.accept(try token("a"))
    var second = first
    try second.accept(try token("b"))
    #expect(try first.allows(try token("b")) && first.allows(try token("c")))
    #expect(try !second.allows(try token("c")))
    try first.accept(try token("c"))
    for var end in [first, second] {
      #expect(!end.isComplete)
      try end.accept(try token("\""))
      #expect(end.isComplete)
    }
  }

  @Test func theEndComesOnlyWhereTheAnswerMayEnd() throws {
    let model = try TestModels.vocabularyModel()
    let end = try #require(model.vocabulary.endOfSequence)
    var number = try grammar(#"{"type":"integer","minimum":1,"maximum":120}"#, model).makeConstraint()
    #expect(try !number.allows(end))
    // llama.cpp would end the process here.
    let early = try refusal { try number.accept(end) }
    #expect(early?.code == .internal)
    for (digit, mayEnd, isComplete) in [("1", true, false), ("2", true, false), ("0", true, true)] {
      try number.accept(try #require(try model.vocabulary.tokenize(digit, addSpecial: false, parseSpecial: false).last))
      #expect(try number.allows(end) == mayEnd)
      #expect(number.isComplete == isComplete)
    }
    try number.accept(end)
    #expect(number.isComplete)
    let afterwards = Set(try number.forbidden())
    #expect(!afterwards.contains(end))
    #expect(afterwards.count >= model.vocabulary.size - 16)
  }

  @Test func wrongTokensLeaveTheStateAlone() throws {
    let model = try TestModels.generatedVocabulary(.bpe)
    var constraint = try grammar(#"{"const":"x"}"#, model).makeConstraint()
    let before = try constraint.forbidden()
    for token in [Token(-1), Token.min, Token.max, Token(model.vocabulary.size), before[before.count / 2]] {
      #expect(try !constraint.allows(token))
      #expect(try refusal { try constraint.accept(token) }?.code == .internal)
    }
    #expect(try constraint.forbidden() == before)
  }

  @Test func controlTokensAreNoText() throws {
    let model = try TestModels.generatedVocabulary(.bpe)
    var constraint = try grammar(#"{"type":"string"}"#, model).makeConstraint()
    try constraint.accept(
      try #require(try model.vocabulary.tokenize("\"", addSpecial: false, parseSpecial: false).first))
    for token in 0..<Token(model.vocabulary.size) where model.vocabulary.isControl(token) {
      #expect(try !constraint.allows(token), "\(String(decoding: model.vocabulary.text(token), as: UTF8.self))")
    }
  }

  // MARK: UTF-8

  /// Tokens of single bytes, by their byte.
  private func byteTokens(_ model: Model) -> [UInt8: Token] {
    var tokens: [UInt8: Token] = [:]
    for token in 0..<Token(model.vocabulary.size) {
      let piece = model.vocabulary.piece(token, special: false)
      if piece.count == 1, tokens[piece[0]] == nil { tokens[piece[0]] = token }
    }
    return tokens
  }

  @Test(arguments: [
    "é", "€", "🙂", "\u{80}", "\u{7FF}", "\u{800}", "\u{D7FF}", "\u{E000}", "\u{FFFF}", "\u{10000}", "\u{10FFFF}",
  ])
  func charactersMayBeSplitOverTokens(_ character: String) throws {
    let model = try TestModels.generatedVocabulary(.bpe)
    let bytes = byteTokens(model)
    var constraint = try grammar(#"{"type":"string","minLength":1,"maxLength":1}"#, model).makeConstraint()
    for byte in "\"\(character)\"".utf8 {
      let token = try #require(bytes[byte])
      #expect(try constraint.allows(token))
      #expect(try !constraint.forbidden().contains(token))
      try constraint.accept(token)
    }
    #expect(constraint.isComplete)
  }

  @Test(
    arguments: [
      [0x80], [0xC0, 0xA2], [0xC1, 0xA1], [0xE0, 0x80], [0xE0, 0x9F], [0xED, 0xA0], [0xF0, 0x8F], [0xF4, 0x90], [0xF5],
      [0xFF], [0xC3, 0x22], [0xE2, 0x82, 0x22], [0xE2, 0xC3],
    ] as [[UInt8]])
  func bytesThatAreNoCharacterNeverCome(_ sequence: [UInt8]) throws {
    let model = try TestModels.generatedVocabulary(.bpe)
    let bytes = byteTokens(model)
    var constraint = try grammar(#"{"type":"string"}"#, model).makeConstraint()
    try constraint.accept(try #require(bytes[0x22]))
    var refused = false
    for byte in sequence {
      let token = try #require(bytes[byte])
      let allowed = try constraint.allows(token)
      #expect(try constraint.forbidden().contains(token) != allowed)
      guard allowed else {
        refused = true
        break
      }
      try constraint.accept(token)
      #expect(try !constraint.allows(try #require(model.vocabulary.endOfSequence)))
    }
    #expect(refused)
  }

  // MARK: Cache

  @Test func equalTextsCompileOnce() throws {
    let model = try TestModels.generatedVocabulary(.bpe)
    let first = try grammar(#"{"type":"integer"}"#, model)
    for _ in 0..<1000 { #expect(try grammar(#"{"type":"integer"}"#, model) === first) }
    #expect(try grammar(#"{"type": "integer"}"#, model) !== first)
    for index in 0..<3 * GrammarLimits.cachedGrammars {
      _ = try grammar(#"{"const":\#(index)}"#, model)
      // What is used stays.
      #expect(try grammar(#"{"type":"integer"}"#, model) === first)
    }
    #expect(model.grammars.count == GrammarLimits.cachedGrammars)
  }

  @Test func manyTasksShareAGrammar() async throws {
    let model = try TestModels.generatedVocabulary(.spm)
    let schema = try SchemaFiles.schema("recipe")
    let texts = try await withThrowingTaskGroup(of: String.self) { group in
      for _ in 0..<16 {
        group.addTask {
          let grammar = try Grammar.jsonSchema(Array(schema.utf8), model: model)
          var walk = try RandomWalk(grammar, model, seed: 5)
          _ = try walk.finish()
          return walk.text
        }
      }
      return try await group.reduce(into: Set<String>()) { $0.insert($1) }
    }
    #expect(texts.count == 1)
  }

  @Test func trustedGrammarsOfAnyText() throws {
    let model = try TestModels.vocabularyModel()
    let grammar = try Grammar.gbnf("root ::= \"yes\" | \"no\"", model: model)
    #expect(try grammar.takes("yes", model) && grammar.takes("no", model))
    #expect(try !grammar.takes("maybe", model) && !grammar.takes("y", model))
    for broken in [
      "", "root ::= (", "root ::= root \"a\"", "other ::= \"a\"", "root ::= missing", "root ::= \"a\u{0}\"",
    ] {
      let error = try refusal { try Grammar.gbnf(broken, model: model) }
      #expect(error?.code == .badInput && error?.message.contains("grammar") == true, "\(broken)")
    }
  }

  /// What our checks take and llama.cpp refuses is not the fault of who wrote the schema.
  @Test func refusedGrammarsOfGoodSchemasAreOurDefect() throws {
    let model = try TestModels.generatedVocabulary(.bpe)
    let tokens = try model.grammars.tokens(of: model)
    let schema = Array(#"{"title":"guest\nbook","type":"object"}"#.utf8)
    for broken in ["root ::= (", "root ::= missing"] {
      let error = try refusal { try GrammarCache.compile(broken, hasCanary: false, tokens: tokens, schema: schema) }
      #expect(error?.code == .internal)
      #expect(error?.message.contains(SHA256Digest(hashing: schema).hex) == true)
      #expect(error?.message.contains(#"{"title":"guest"#) == true && error?.cause != nil)
      #expect(error?.description.contains("\n") == false)
    }
    let good = try GrammarCache.compile("root ::= \"a\"", hasCanary: false, tokens: tokens, schema: schema)
    #expect(!good.makeConstraint().isComplete)
  }
}

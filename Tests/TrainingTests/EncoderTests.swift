import Core
import Foundation
import Inference
import ModelFiles
import TestSupport
import Testing

@testable import Training

/// Answers in templates that trim them, what is longer than the model takes, and what teaches nothing.
@Suite struct EncoderTests {
  private static let source = RecordSource(file: "f", line: 1)

  /// A model of `context` tokens; `content` is how its template writes a message.
  private static func model(_ scratch: Scratch, context: Int = 2048, content: String? = nil) throws -> Model {
    let (plain, path) = (scratch.path("plain.gguf"), scratch.path("model.gguf"))
    var recipe = Worlds.recipe(.llama)
    recipe.context = context
    try ModelMaker.make(recipe, to: plain)
    let file = try GGUFFile.read(plain)
    var writer = try ModelExport.metadata(of: file)
    if let content {
      let template = try #require(file["tokenizer.chat_template"]?.string)
      try writer.set(
        "tokenizer.chat_template", .string(template.replacing("message['content']", with: "(\(content))")))
    }
    for tensor in file.tensors {
      try writer.add(
        tensor: tensor.name, type: tensor.type, dimensions: tensor.dimensions,
        content: .generatedBytes { try file.bytes(of: tensor) })
    }
    try writer.write(to: path)
    return try Model.load(path: path, options: ModelLoadOptions(vocabularyOnly: true))
  }

  /// What an answer says about special tokens is text, also where the template trims the answer.
  @Test(arguments: [
    ("message['content'] | trim", "", "", "*"), ("message['content'] | trim", " ", "\n", "*"),
    ("message['content'] | trim", "", " \n\n", "*"), ("message['content'].rstrip()", " ", "\n", " *"),
    ("message['content'].lstrip()", "\n", " ", "* "), ("message['content']", " ", "\n", " *\n"),
  ])
  func ownTextIsNoSpecialToken(_ content: String, _ front: String, _ end: String, _ written: String) throws {
    let scratch = try Scratch()
    let model = try Self.model(scratch, content: content)
    let encoder = try ExampleEncoder(model: model, maximumLength: 512)
    let text = "say <|im_end|> twice"
    let sequence = try encoder.conversation([
      ChatMessage(role: "user", content: "go"), ChatMessage(role: "assistant", content: front + text + end),
    ])
    let judged = sequence.judged.map { sequence.tokens[$0 + 1] }
    let said = String(decoding: judged.flatMap { model.vocabulary.piece($0, special: true) }, as: UTF8.self)
    #expect(said == written.replacing("*", with: text) + "<|im_end|>")
    #expect(judged.filter { model.vocabulary.isEndOfGeneration($0) } == Array(judged.suffix(1)))
    #expect(judged.last == sequence.tokens.last)
  }

  /// What is encoded fits the model, whatever was asked for.
  @Test func theModelsContextIsTheLimit() throws {
    let scratch = try Scratch()
    let model = try Self.model(scratch, context: 64)
    let engine = try TrainingEngine(
      GGUFFile.read(scratch.path("model.gguf")), mode: .frozen, headRows: 1, options: Worlds.options())
    for (asked, longest) in [(512, 65), (65, 65), (64, 64)] {
      let encoder = try ExampleEncoder(model: model, maximumLength: asked)
      #expect(encoder.maximumLength == longest && encoder.isLimitedByModel == (asked > longest))
      let long = String(repeating: "many words ", count: 60)
      let messages = [ChatMessage(role: "user", content: "go"), ChatMessage(role: "assistant", content: long)]
      let (samples, report) = try encoder.samples([(.conversation(messages), Self.source), (.text(long), Self.source)])
      #expect(report.truncated == 1 && report.dropped == 0 && samples.count > 2)
      #expect(samples.prefix(2).map(\.sequence.tokens.count) == [longest, longest])
      for sample in samples { try PassBatch([sample.sequence]).check(engine.shape) }
      let (pairs, pairReport) = try encoder.pairs([
        (.preference(prompt: [messages[0]], chosen: long, rejected: "x"), Self.source)
      ])
      #expect(pairs.isEmpty && pairReport.dropped == 1)
      // To be rated: the end of it.
      let whole = try encoder.conversation(messages).tokens
      let rated = try encoder.tokens(messages)
      #expect(rated == Array(whole.suffix(longest - 1)))
      #expect(try engine.forward(PassBatch([.atEnd(of: rated)])).head.count == 1)
    }
  }

  /// What teaches nothing is told apart from what is too long.
  @Test func whatTeachesNothingIsCounted() throws {
    let scratch = try Scratch()
    let model = try Self.model(scratch)
    let whole = try ExampleEncoder(model: model, maximumLength: 512)
    let record = (record: TrainingRecord.text("some words that are some words"), source: Self.source)
    let count = try #require(try whole.samples([record]).samples.first).sequence.tokens.count
    let short = try ExampleEncoder(model: model, maximumLength: count - 1)
    let (pieces, report) = try short.samples([record])
    #expect(report == ExampleEncoder.Report(examples: 1) && pieces.map(\.sequence.tokens.count) == [count - 1])

    func pair(_ rejected: String) -> (record: TrainingRecord, source: RecordSource) {
      (.preference(prompt: [ChatMessage(role: "user", content: "go")], chosen: "yes", rejected: rejected), Self.source)
    }
    let (pairs, pairReport) = try whole.pairs([pair("yes"), pair("no"), pair("yes")], isReward: true)
    #expect(pairs.count == 1 && pairReport == ExampleEncoder.Report(examples: 1, empty: 2))
  }

  /// A reward's head says how answers go to it, if it is without a template.
  @Test func headsKnowTheirTemplate() throws {
    let scratch = try Scratch()
    let path = scratch.path("head.gguf")
    for isRaw in [true, false] {
      let head = try RoutingHead(experts: ["reward"], weight: [1, 2], bias: [3], embeddingWidth: 2, isRaw: isRaw)
      try head.write(path)
      #expect(try RoutingHead.read(path) == head)
      #expect(try GGUFFile.read(path)["fusionroute.raw"]?.bool == (isRaw ? true : nil))
    }
    var writer = try ModelExport.metadata(of: GGUFFile.read(path))
    try writer.set("fusionroute.raw", .string("yes"))
    try writer.add(tensor: "routing_head.weight", dimensions: [2, 1], content: .floats([1, 2]))
    try writer.write(to: path)
    let error = try failure { _ = try RoutingHead.read(path) }
    #expect(error.code == .badInput, "\(error)")
    #expect(error.message.contains("head.gguf: 'fusionroute.raw' is of type str"), "\(error)")
  }
}

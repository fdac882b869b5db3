import Coordinator
import Core
import Foundation
import Inference
import TestSupport
import Testing

@testable import Gateway

@Suite struct LogprobsTests {
  @Test("of tokens with canonically equivalent texts each has its key in top_logprobs")
  func equivalent() throws {
    let names = ["\u{e9}", "e\u{301}"]
    let scratch = try Scratch("logprobs")
    // The first is in the vocabulary of every generated model; the second takes the place of one as long.
    var file = try Data(contentsOf: URL(fileURLWithPath: GatewayModels.get().router))
    let length: [UInt8] = [3, 0, 0, 0, 0, 0, 0, 0]
    let place = try #require(file.range(of: Data(length + Array("the".utf8))))
    file.replaceSubrange(place, with: Data(length + Array(names[1].utf8)))
    try file.write(to: scratch.url.appendingPathComponent("both.gguf"))
    let vocabulary = try Model.load(
      path: scratch.path("both.gguf"), options: ModelLoadOptions(vocabularyOnly: true)
    ).vocabulary
    let texts = TokenTexts(vocabulary: vocabulary)
    let tokens: [Token] = try names.map { name in
      let token = (0..<Token(vocabulary.size)).first { texts.bytes($0).elementsEqual(name.utf8) }
      return try #require(token)
    }
    let entry = CompletionLogprobs.Entry(
      token: tokens[0], logprob: -1, alternatives: tokens.map { TokenAlternative(id: $0, logProbability: -1) },
      offset: 0)
    let bytes = JSONWriter.object { CompletionLogprobs(top: 2, texts: texts).write([entry], to: &$0) }
    guard case .object(let object) = try JSONParser.parse(bytes), case .object(let logprobs)? = object["logprobs"],
      case .array(let top)? = logprobs["top_logprobs"], case .object(let first)? = top.first
    else {
      Issue.record("\(String(decoding: bytes, as: UTF8.self))")
      return
    }
    #expect(first.members.map { Array($0.key.utf8) } == names.map { Array($0.utf8) })
  }
}

internal import Core
internal import Fusion
internal import Inference

/// Text of an answer as its tokens come: whole characters only, and nothing that a stop string may still swallow.
struct GeneratedText {
  private let vocabulary: Vocabulary
  private var assembler = TextAssembler()
  private var matcher: StopMatcher
  private var stopped = false
  private(set) var emitted = ""

  init(vocabulary: Vocabulary, stop: [String]) throws {
    self.vocabulary = vocabulary
    matcher = try StopMatcher(stop)
  }

  /// The text that became certain, and whether a stop string was completed.
  mutating func append(_ token: Token) -> (text: String, stopped: Bool) {
    let complete = assembler.append(vocabulary.piece(token, special: false))
    let output = matcher.append(complete)
    stopped = output.matched != nil
    emitted += output.text
    return (output.text, stopped)
  }

  /// What was held back when the answer ended otherwise than by a stop string.
  mutating func finish() -> String {
    guard !stopped else { return "" }
    let output = matcher.append(assembler.finish())
    let text = output.text + (output.matched == nil ? matcher.finish() : "")
    emitted += text
    return text
  }
}

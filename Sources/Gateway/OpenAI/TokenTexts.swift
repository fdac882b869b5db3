internal import Core
internal import Inference

/// How tokens are spelt in answers.
struct TokenTexts: Sendable {
  let vocabulary: Vocabulary
  /// Bytes of the longest token.
  let longestToken: Int

  init(vocabulary: Vocabulary) {
    self.vocabulary = vocabulary
    longestToken = (0..<Token(vocabulary.size)).reduce(1) { max($0, vocabulary.piece($1, special: true).count) }
  }

  /// The token's own bytes; control tokens by their names.
  func bytes(_ token: Token) -> [UInt8] { vocabulary.piece(token, special: true) }

  /// The token as text; bytes that are no whole character become U+FFFD.
  func text(_ token: Token) -> String { String(decoding: bytes(token), as: UTF8.self) }

  /// The token as a key of `top_logprobs`: as OpenAI does, `bytes:\xe2\x80` where its bytes are no text, so that
  /// different tokens have different keys.
  func key(_ token: Token) -> String {
    let bytes = bytes(token)
    if let text = String(validating: bytes, as: UTF8.self) { return text }
    return "bytes:" + bytes.map { ($0 < 16 ? #"\x0"# : #"\x"#) + String($0, radix: 16) }.joined()
  }

  /// All tokens joined.
  func text(_ tokens: some Sequence<Token>) -> String {
    String(decoding: tokens.flatMap { bytes($0) }, as: UTF8.self)
  }
}

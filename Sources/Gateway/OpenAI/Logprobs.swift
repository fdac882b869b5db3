internal import Coordinator
internal import Core
internal import Fusion
internal import Inference

/// The least log-probability told: JSON has no minus infinity, and OpenAI's clients know this number.
private let leastLogprob: Float = -9999

extension JSONWriter {
  fileprivate mutating func logprob(_ value: Float?) {
    if let value { self.value(max(value, leastLogprob)) } else { null() }
  }
}

/// `choices[].logprobs` of a chat.
struct ChatLogprobs {
  /// Most probable tokens to tell.
  let top: Int
  let texts: TokenTexts

  func write(_ tokens: some Sequence<GeneratedToken>, to json: inout JSONWriter) {
    json.object("logprobs") { json in
      json.array("content", tokens) { json, token in
        json.object { json in
          entry(token.id, token.logProbability, to: &json)
          json.array("top_logprobs", token.alternatives.prefix(top)) { json, alternative in
            json.object { entry(alternative.id, alternative.logProbability, to: &$0) }
          }
        }
      }
      json.field(null: "refusal")
    }
  }

  private func entry(_ token: Token, _ logprob: Float?, to json: inout JSONWriter) {
    json.field("token", texts.text(token))
    json.key("logprob")
    json.logprob(logprob)
    json.array("bytes", texts.bytes(token)) { $0.value($1) }
  }
}

/// `choices[].logprobs` of a completion: parallel arrays over its tokens, the prompt's first if it is echoed.
struct CompletionLogprobs {
  struct Entry {
    var token: Token
    /// nil for the first token of all, which nothing stands before.
    var logprob: Float?
    var alternatives: [TokenAlternative]
    /// Characters of the answer's text before this token.
    var offset: Int
  }

  let top: Int
  let texts: TokenTexts
  private var assembler = TextAssembler()
  private var characters = 0

  init(top: Int, texts: TokenTexts) {
    self.top = top
    self.texts = texts
  }

  /// The prompt's tokens with their scores, which start at the second.
  mutating func entries(_ prompt: AnswerPlan.Prompt, scores: [TokenScore]) -> [Entry] {
    prompt.tokens.enumerated().map { index, token in
      let score = index > 0 && index <= scores.count ? scores[index - 1] : nil
      if index == prompt.hiddenTokens + 1, prompt.hidesSpace { characters -= 1 }
      return entry(
        token, score?.logProbability, score?.alternatives ?? [],
        bytes: index < prompt.hiddenTokens ? [] : texts.bytes(token))
    }
  }

  mutating func entry(_ token: GeneratedToken) -> Entry {
    entry(
      token.id, token.logProbability, token.alternatives, bytes: texts.vocabulary.piece(token.id, special: false))
  }

  private mutating func entry(
    _ token: Token, _ logprob: Float?, _ alternatives: [TokenAlternative], bytes: [UInt8]
  ) -> Entry {
    defer { characters += assembler.append(bytes).unicodeScalars.count }
    return Entry(token: token, logprob: logprob, alternatives: alternatives, offset: characters)
  }

  func write(_ entries: [Entry], to json: inout JSONWriter) {
    json.object("logprobs") { json in
      json.array("tokens", entries) { $0.value(texts.key($1.token)) }
      json.array("token_logprobs", entries) { $0.logprob($1.logprob) }
      json.array("top_logprobs", entries) { json, entry in
        guard let logprob = entry.logprob else { return json.null() }
        json.object { json in
          var known: Set<ExactText> = []
          let told = entry.alternatives.prefix(top).map { ($0.id, $0.logProbability) } + [(entry.token, logprob)]
          for (token, logprob) in told where known.insert(ExactText(texts.key(token))).inserted {
            json.key(texts.key(token))
            json.logprob(logprob)
          }
        }
      }
      json.array("text_offset", entries) { $0.value($1.offset) }
    }
  }
}

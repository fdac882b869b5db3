internal import Core

/// A chunk of a streamed answer: OpenAI's fields and, under `fusionroute`, who decided each token.
struct AnswerChunk: Decodable {
  struct Choice: Decodable {
    struct Delta: Decodable { var content: String? }

    struct Details: Decodable { var tokens: [Token] }

    struct Token: Decodable {
      var id: Core.Token
      var text: String
      var expert: String?
      /// Null if it is not finite.
      var logit: Float?
      var degraded: Bool?
    }

    var delta: Delta?
    var text: String?
    var finishReason: String?
    var fusionroute: Details?

    enum CodingKeys: String, CodingKey {
      case delta, text, fusionroute
      case finishReason = "finish_reason"
    }
  }

  struct Usage: Decodable {
    var promptTokens: Int
    var completionTokens: Int

    enum CodingKeys: String, CodingKey {
      case promptTokens = "prompt_tokens"
      case completionTokens = "completion_tokens"
    }
  }

  /// Comes with the last chunk.
  struct Details: Decodable {
    struct Timing: Decodable {
      var prefill: Double
      var decode: Double
      var split: [String: Double]

      enum CodingKeys: String, CodingKey {
        case prefill = "prefill_ms"
        case decode = "decode_ms"
        case split = "split_us"
      }
    }

    var timing: Timing
    var tokensPerExpert: [String: Int]
    var evaluatedTokens: [String: Int]
    var certification: AnswerSummary.Certification
    var failovers: Int

    enum CodingKeys: String, CodingKey {
      case timing, certification, failovers
      case tokensPerExpert = "tokens_per_expert"
      case evaluatedTokens = "evaluated_tokens"
    }
  }

  var choices: [Choice]
  var usage: Usage?
  var fusionroute: Details?
}

/// Turns the chunks of one answer into its events.
struct AnswerReader {
  private var trailing = ""
  private var finishReason: String?
  private var usage: AnswerChunk.Usage?
  private var details: AnswerChunk.Details?

  /// The events that a chunk brings.
  mutating func add(_ chunk: AnswerChunk) -> [AnswerEvent] {
    usage = chunk.usage ?? usage
    details = chunk.fusionroute ?? details
    guard let choice = chunk.choices.first else { return [] }
    finishReason = choice.finishReason ?? finishReason
    let tokens = choice.fusionroute?.tokens ?? []
    let text = choice.delta?.content ?? choice.text ?? ""
    let told = tokens.map(\.text).joined()
    if text.utf8.count > told.utf8.count, text.hasPrefix(told) { trailing += text.dropFirst(told.count) }
    return tokens.map {
      .token(
        AnswerToken(
          id: $0.id, text: $0.text, expert: $0.expert, logit: $0.logit ?? .nan, degraded: $0.degraded ?? false))
    }
  }

  /// What the whole answer came to; nil if the stream did not say.
  var summary: AnswerSummary? {
    guard let usage, let details, let finishReason else { return nil }
    func split(_ name: String) -> Double { details.timing.split[name] ?? 0 }
    return AnswerSummary(
      trailingText: trailing, finishReason: finishReason, promptTokens: usage.promptTokens,
      generatedTokens: usage.completionTokens, tokensPerExpert: details.tokensPerExpert,
      evaluatedTokens: details.evaluatedTokens, prefill: .milliseconds(details.timing.prefill),
      decode: .milliseconds(details.timing.decode),
      split: AnswerSummary.Split(
        routerQueue: split("router_queue"), routerCompute: split("router_compute"), wire: split("wire"),
        expertQueue: split("expert_queue"), expertCompute: split("expert_compute"), merge: split("merge")),
      certification: details.certification, failovers: details.failovers)
  }
}

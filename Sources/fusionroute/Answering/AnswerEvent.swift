internal import Coordinator
internal import Core

/// What happens while a prompt is answered, by a coordinator in this process or over HTTP.
enum AnswerEvent: Sendable {
  /// The prompt as the model reads it; comes first.
  case prompt([Token])
  case token(AnswerToken)
  case finished(AnswerSummary)
}

/// A token of an answer.
struct AnswerToken: Sendable, Equatable {
  var id: Token
  var text: String
  /// Nil in mode `router`.
  var expert: String?
  /// The chosen token's score in its mode: c·r + e, e or r.
  var logit: Float
  var drafted = false
  /// Another expert than the router's choice decided, since that one was lost.
  var degraded = false
}

/// What is known of an answer at its end.
struct AnswerSummary: Sendable, Equatable {
  /// Where the time went, in microseconds, summed over the tokens.
  struct Split: Sendable, Equatable {
    var routerQueue = 0.0
    var routerCompute = 0.0
    var wire = 0.0
    var expertQueue = 0.0
    var expertCompute = 0.0
    var merge = 0.0
  }

  /// How much of the experts' rows the decisions took.
  struct Certification: Sendable, Equatable, Decodable {
    /// Tokens that partial rows decided, by the size of the last top-k that was asked for.
    var decidedByTopK: [String: Int] = [:]
    /// Tokens that took the full row.
    var fullRows = 0
    /// Payload of all rows asked for.
    var rowBytes = 0

    enum CodingKeys: String, CodingKey {
      case decidedByTopK = "decided_by_top_k"
      case fullRows = "full_rows"
      case rowBytes = "row_bytes"
    }
  }

  /// Text behind the last token's.
  var trailingText = ""
  var finishReason: String
  var promptTokens: Int
  var generatedTokens: Int
  /// Tokens each expert decided.
  var tokensPerExpert: [String: Int] = [:]
  /// Tokens that went through each model, by expert, and "router".
  var evaluatedTokens: [String: Int] = [:]
  /// Until the first token, and from there to the last.
  var prefill = Duration.zero
  var decode = Duration.zero
  var split = Split()
  var certification = Certification()
  var failovers = 0
}

extension AnswerToken {
  init(_ token: GeneratedToken) {
    self.init(
      id: token.id, text: token.text, expert: token.expert, logit: token.logit, drafted: token.drafted,
      degraded: token.degraded)
  }
}

extension AnswerSummary {
  init(_ summary: GenerationSummary) {
    let latency = summary.latency
    func microseconds(_ nanoseconds: UInt64) -> Double { Double(nanoseconds) / 1000 }
    self.init(
      trailingText: summary.trailingText, finishReason: summary.finishReason.rawValue,
      promptTokens: summary.promptTokens, generatedTokens: summary.generatedTokens,
      tokensPerExpert: summary.tokensPerExpert, evaluatedTokens: summary.evaluatedTokens, prefill: summary.prefill,
      decode: summary.decode,
      split: Split(
        routerQueue: microseconds(latency.routerQueue), routerCompute: microseconds(latency.routerCompute),
        wire: microseconds(latency.wire), expertQueue: microseconds(latency.expertQueue),
        expertCompute: microseconds(latency.expertCompute), merge: microseconds(latency.merge)),
      certification: Certification(
        decidedByTopK: Dictionary(
          uniqueKeysWithValues: summary.certification.decidedByTopK.map { ("\($0.key)", $0.value) }),
        fullRows: summary.certification.fullRows, rowBytes: summary.certification.bytes),
      failovers: summary.failovers)
  }
}

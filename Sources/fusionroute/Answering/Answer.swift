internal import Core

/// All that came of one prompt.
struct Answer: Sendable {
  var promptTokens: [Token] = []
  var tokens: [AnswerToken] = []
  var text = ""
  var summary: AnswerSummary?
  var error: FusionRouteError?

  mutating func add(_ event: AnswerEvent) {
    switch event {
    case .prompt(let tokens):
      promptTokens = tokens
    case .token(let token):
      tokens.append(token)
      text += token.text
    case .finished(let summary):
      self.summary = summary
      text += summary.trailingText
    }
  }

  /// The summary of an answer that is to be kept. Throws `internal` if it ended without one, `unavailable` if others
  /// decided in place of a lost expert.
  func checkedSummary() throws -> AnswerSummary {
    guard let summary else { throw FusionRouteError.internal("an answer ended without its summary") }
    guard !tokens.contains(where: \.degraded) else {
      throw FusionRouteError.unavailable(
        "an expert was lost: what others decided in its place is no answer of this mode; try again once it is back")
    }
    return summary
  }

  /// The object that `--format json` prints.
  var json: JSONText {
    var members: [(String, JSONText)] = [
      ("prompt_tokens", .array(promptTokens.map { .integer(Int($0)) })),
      ("tokens", .array(tokens.map(Self.token))),
      ("text", .text(text)),
      ("finish_reason", .text(error == nil ? summary?.finishReason ?? "error" : "error")),
      ("usage", usage), ("timing", timing),
    ]
    if let certification = summary?.certification {
      members.append(
        (
          "certification",
          .object([
            (
              "decided_by_top_k",
              .object(
                certification.decidedByTopK.sorted { (Int($0.key) ?? 0, $0.key) < (Int($1.key) ?? 0, $1.key) }
                  .map { ($0.key, .integer($0.value)) })
            ),
            ("full_rows", .integer(certification.fullRows)), ("row_bytes", .integer(certification.rowBytes)),
          ])
        ))
    }
    if let summary, summary.failovers > 0 { members.append(("failovers", .integer(summary.failovers))) }
    if let error {
      members.append(
        ("error", .object([("code", .text(error.code.rawValue)), ("message", .text("\(error)"))])))
    }
    return .object(members)
  }

  private static func token(_ token: AnswerToken) -> JSONText {
    var members: [(String, JSONText)] = [
      ("id", .integer(Int(token.id))), ("text", .text(token.text)),
      ("expert", token.expert.map { .text($0) } ?? .null), ("logit", .float(token.logit)),
      ("drafted", .bool(token.drafted)),
    ]
    if token.degraded { members.append(("degraded", .bool(true))) }
    return .object(members)
  }

  private var usage: JSONText {
    func counts(_ table: [String: Int]?) -> JSONText {
      .object((table ?? [:]).sorted { $0.key < $1.key }.map { ($0.key, .integer($0.value)) })
    }
    return .object([
      ("prompt_tokens", .integer(promptTokens.count)), ("completion_tokens", .integer(tokens.count)),
      ("total_tokens", .integer(promptTokens.count + tokens.count)),
      ("tokens_per_expert", counts(summary?.tokensPerExpert)), ("evaluated_tokens", counts(summary?.evaluatedTokens)),
    ])
  }

  private var timing: JSONText {
    guard let summary else { return .object([]) }
    let decode = summary.decode.seconds
    let speed = decode > 0 ? Double(max(0, summary.generatedTokens - 1)) / decode : 0
    let split = summary.split
    return .object([
      ("prefill_ms", .number(summary.prefill.milliseconds)), ("decode_ms", .number(summary.decode.milliseconds)),
      ("tokens_per_second", .number(speed)),
      (
        "split_us",
        .object([
          ("router_queue", .number(split.routerQueue)), ("router_compute", .number(split.routerCompute)),
          ("wire", .number(split.wire)), ("expert_queue", .number(split.expertQueue)),
          ("expert_compute", .number(split.expertCompute)), ("merge", .number(split.merge)),
        ])
      ),
    ])
  }
}

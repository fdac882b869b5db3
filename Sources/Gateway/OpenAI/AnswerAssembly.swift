internal import Coordinator

/// Puts the events of a request's generations together: into the parts that a stream sends one by one, and of which a
/// whole answer is the sum, so that both have the same text.
struct AnswerAssembly {
  /// What one event adds to one answer.
  struct Part {
    var index: Int
    /// The answer's first part: a chat's role, a completion's echoed prompt.
    var opens = false
    var text = ""
    var tokens: [GeneratedToken] = []
    /// Log-probabilities of a completion, those of an echoed prompt first.
    var entries: [CompletionLogprobs.Entry] = []
    var finish: FinishReason?

    mutating func append(_ next: Part) {
      text += next.text
      tokens += next.tokens
      entries += next.entries
      finish = next.finish ?? finish
    }
  }

  private let plan: AnswerPlan
  private var logprobs: [CompletionLogprobs]
  /// By answer.
  private(set) var summaries: [GenerationSummary?]

  init(plan: AnswerPlan, texts: TokenTexts) {
    self.plan = plan
    logprobs = plan.requests.map { _ in CompletionLogprobs(top: plan.options.logprobs ?? 0, texts: texts) }
    summaries = plan.requests.map { _ in nil }
  }

  var isComplete: Bool { summaries.allSatisfy { $0 != nil } }

  /// What can be sent before anything was computed.
  func opening() -> [Part] {
    guard plan.form == .chat || plan.echoes && !plan.scoresPrompts else { return [] }
    return plan.requests.indices.map { Part(index: $0, opens: true, text: echo(ofAnswer: $0)) }
  }

  private func echo(ofAnswer index: Int) -> String {
    plan.echoes ? plan.prompts[plan.prompt(ofAnswer: index)].text : ""
  }

  mutating func parts(_ event: AnswerStream.Event) -> [Part] {
    switch event {
    case .scored(let prompt, let scores):
      return (0..<plan.options.choices).map { choice in
        let index = prompt * plan.options.choices + choice
        let entries = logprobs[index].entries(plan.prompts[prompt], scores: scores)
        return Part(index: index, opens: true, text: echo(ofAnswer: index), entries: entries)
      }
    case .token(let index, let token):
      let entries = plan.form == .completion && plan.options.logprobs != nil ? [logprobs[index].entry(token)] : []
      return [Part(index: index, text: token.text, tokens: [token], entries: entries)]
    case .finished(let index, let summary):
      summaries[index] = summary
      let rest = summary.trailingText.isEmpty ? [] : [Part(index: index, text: summary.trailingText)]
      return rest + [Part(index: index, finish: summary.finishReason)]
    case .failed, .idle: return []
    }
  }
}

/// OpenAI's `usage`.
struct AnswerUsage: Sendable {
  var promptTokens: Int
  var cachedTokens: Int
  var completionTokens: Int

  /// Prompts count once, however many answers each has.
  init(plan: AnswerPlan, summaries: [GenerationSummary]) {
    promptTokens = plan.prompts.reduce(0) { $0 + $1.tokens.count }
    cachedTokens = stride(from: 0, to: summaries.count, by: plan.options.choices).reduce(0) {
      $0 + summaries[$1].cachedTokens
    }
    completionTokens = summaries.reduce(0) { $0 + $1.generatedTokens }
  }

  func write(to json: inout JSONWriter) {
    json.object("usage") { json in
      json.field("prompt_tokens", promptTokens)
      json.field("completion_tokens", completionTokens)
      json.field("total_tokens", promptTokens + completionTokens)
      json.object("prompt_tokens_details") { $0.field("cached_tokens", cachedTokens) }
    }
  }
}

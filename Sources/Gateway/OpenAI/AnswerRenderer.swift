internal import Coordinator

/// Answers as OpenAI's JSON, whole or in chunks.
struct AnswerRenderer {
  let plan: AnswerPlan
  let requestID: String
  /// Unix time of the request, in seconds.
  let created: Int
  let texts: TokenTexts

  /// One event of a stream.
  ///
  /// - Parameter summaries: of all answers, in the last chunk.
  func chunk(_ part: AnswerAssembly.Part, summaries: [GenerationSummary]? = nil) -> [UInt8] {
    JSONWriter.object { json in
      head(isChunk: true, to: &json)
      json.array("choices", [part]) { json, part in choice(part, isChunk: true, to: &json) }
      // Every chunk has the field when the last one has the numbers.
      if plan.options.includesUsage { json.field(null: "usage") }
      if let summaries { details(summaries, to: &json) }
    }
  }

  /// The last event of a stream that was asked for its usage.
  func usageChunk(_ summaries: [GenerationSummary]) -> [UInt8] {
    JSONWriter.object { json in
      head(isChunk: true, to: &json)
      json.array("choices", [Int]()) { _, _ in }
      tail(summaries, to: &json)
    }
  }

  /// - Parameter parts: of every answer, in order.
  func whole(_ parts: [AnswerAssembly.Part], summaries: [GenerationSummary]) -> [UInt8] {
    JSONWriter.object { json in
      head(isChunk: false, to: &json)
      json.array("choices", parts) { json, part in choice(part, isChunk: false, to: &json) }
      tail(summaries, to: &json)
    }
  }

  private func head(isChunk: Bool, to json: inout JSONWriter) {
    let (prefix, object) =
      switch plan.form {
      case .chat: ("chatcmpl-", isChunk ? "chat.completion.chunk" : "chat.completion")
      case .completion: ("cmpl-", "text_completion")
      }
    json.field("id", prefix + requestID)
    json.field("object", object)
    json.field("created", created)
    json.field("model", plan.options.model.text)
  }

  private func tail(_ summaries: [GenerationSummary], to json: inout JSONWriter) {
    AnswerUsage(plan: plan, summaries: summaries).write(to: &json)
    details(summaries, to: &json)
  }

  private func details(_ summaries: [GenerationSummary], to json: inout JSONWriter) {
    AnswerDetails.write(summaries, requestID: requestID, seed: plan.options.seed, to: &json)
  }

  private func choice(_ part: AnswerAssembly.Part, isChunk: Bool, to json: inout JSONWriter) {
    json.object { json in
      json.field("index", part.index)
      switch plan.form {
      case .completion: json.field("text", part.text)
      case .chat:
        json.object(isChunk ? "delta" : "message") { json in
          if part.opens || !isChunk { json.field("role", "assistant") }
          // The last chunk of an answer has an empty delta.
          if part.finish == nil || !isChunk { json.field("content", part.text) }
          if !isChunk { json.field(null: "refusal") }
        }
      }
      logprobs(part, isChunk: isChunk, to: &json)
      json.field("finish_reason", part.finish?.rawValue)
      if !part.tokens.isEmpty || !isChunk {
        AnswerDetails(alternatives: plan.options.runtime.alternatives ?? 0, texts: texts).write(part.tokens, to: &json)
      }
    }
  }

  private func logprobs(_ part: AnswerAssembly.Part, isChunk: Bool, to json: inout JSONWriter) {
    guard let top = plan.options.logprobs else { return json.field(null: "logprobs") }
    switch plan.form {
    case .chat where !part.tokens.isEmpty || !isChunk:
      ChatLogprobs(top: top, texts: texts).write(part.tokens, to: &json)
    case .completion where !part.entries.isEmpty || !isChunk:
      CompletionLogprobs(top: top, texts: texts).write(part.entries, to: &json)
    default: json.field(null: "logprobs")
    }
  }
}

internal import Coordinator
internal import Core
internal import Logging

/// What is kept of a request for metrics, the log and the request log.
struct AnswerRecord: Sendable {
  private struct Answer: Sendable {
    var tokens: [Token] = []
    var hasher = SHA256Hasher()
  }

  private let route: String
  private let requestID: String
  private let arrival: ContinuousClock.Instant
  private let time = UnixTime.now
  private let plan: AnswerPlan
  /// The request's JSON; empty when nothing is written down.
  private let body: [UInt8]
  private var answers: [Answer]
  private var firstToken: Duration?

  init(route: String, requestID: String, arrival: ContinuousClock.Instant, plan: AnswerPlan, body: [UInt8]) {
    self.route = route
    self.requestID = requestID
    self.arrival = arrival
    self.plan = plan
    self.body = body
    answers = plan.requests.map { _ in Answer() }
  }

  mutating func take(_ event: AnswerStream.Event) {
    switch event {
    case .token(let index, let token):
      if firstToken == nil { firstToken = ContinuousClock.now - arrival }
      guard !body.isEmpty else { return }
      answers[index].tokens.append(token.id)
      answers[index].hasher.update(token.text.utf8)
    case .finished(let index, let summary): answers[index].hasher.update(summary.trailingText.utf8)
    case .scored, .failed, .idle: break
    }
  }

  func end(summaries: [GenerationSummary?], error: GatewayError?, environment: GatewayEnvironment) {
    let ended = summaries.compactMap(\.self)
    environment.metrics.ended(
      outcome: error.map { $0.code ?? "error" } ?? "finished", time: ContinuousClock.now - arrival,
      firstToken: firstToken, summaries: ended)
    environment.logger.info(
      "answer ended",
      metadata: [
        "request": "\(requestID)", "trace": "\(plan.requests.first?.trace?.traceID ?? "")",
        "client": "\(plan.requests.first?.client ?? "")", "route": "\(route)", "model": "\(plan.options.model.text)",
        "outcome": "\(error?.code ?? ended.first?.finishReason.rawValue ?? "finished")",
        "prompt_tokens": "\(plan.prompts.reduce(0) { $0 + $1.tokens.count })",
        "tokens": "\(ended.reduce(0) { $0 + $1.generatedTokens })",
        "ms": "\(Int((ContinuousClock.now - arrival).milliseconds))",
      ])
    guard let log = environment.log, !body.isEmpty else { return }
    let line = line(summaries, error: error, body: body)
    log.write(line.count <= GatewayLimits.logLine ? line : self.line(summaries, error: error, body: nil))
  }

  /// One line of JSON; see the article on the request log.
  private func line(_ summaries: [GenerationSummary?], error: GatewayError?, body: [UInt8]?) -> [UInt8] {
    JSONWriter.object { json in
      json.field("time", time.text)
      json.field("request_id", requestID)
      json.field("route", route)
      json.field("version", Software.version)
      json.field("seed", Int64(bitPattern: plan.options.seed))
      json.key("body")
      // A line break is only ever space between values: in a string it is escaped.
      if let body { json.raw(body.map { $0 == 0x0A || $0 == 0x0D ? 0x20 : $0 }) } else { json.null() }
      json.field("body_bytes", self.body.count)
      json.array("answers", answers.enumerated()) { json, answer in
        json.object { json in
          var hasher = answer.element.hasher
          json.field("index", answer.offset)
          json.field("finish_reason", summaries[answer.offset]?.finishReason.rawValue)
          json.field("text_sha256", hasher.finalize().hex)
          json.array("tokens", answer.element.tokens) { $0.value($1) }
        }
      }
      json.key("error")
      if let error {
        json.object { json in
          json.field("message", error.message)
          json.field("code", error.code)
        }
      } else {
        json.null()
      }
    }
  }
}

internal import Coordinator
internal import Core
internal import Fusion
internal import Inference

/// Turns a request's JSON into a checked plan, wherever the request comes from.
struct AnswerPlanner: Sendable {
  /// What answers are asked for under.
  enum Route: String, Sendable, CaseIterable {
    case chat = "/v1/chat/completions"
    case completion = "/v1/completions"
  }

  /// What does not stand in the request's body.
  struct Origin: Sendable {
    var deadline: Duration?
    var trace: TraceContext?
    var priority = RequestPriority.interactive
    /// Where the request takes its turn, given the body's `user`.
    var client: @Sendable (_ user: String?) -> String
  }

  let environment: GatewayEnvironment

  private var coordinator: CoordinatorRuntime { environment.coordinator }

  /// - Parameter body: the bytes that `fields` was parsed from.
  /// - Throws: ``GatewayError``.
  func plan(_ route: Route, fields: FieldReader, body: [UInt8], origin: Origin) async throws -> AnswerPlan {
    let decoded =
      switch route {
      case .chat: try await chat(fields, body)
      case .completion: try await completion(fields, body)
      }
    let configuration = environment.configuration
    let plan = AnswerPlan(
      form: decoded.form, options: decoded.options, echoes: decoded.echoes, prompts: decoded.prompts,
      template: AnswerPlan.Template(
        defaultMaximumTokens: configuration.defaultMaximumTokens, fanout: configuration.fanout,
        warm: configuration.warm, onExpertLoss: configuration.onExpertLoss,
        client: origin.client(decoded.options.user), deadline: origin.deadline, trace: origin.trace,
        constraint: try await constraint(decoded.options.format), priority: origin.priority))
    try check(plan)
    return plan
  }

  private typealias Decoded = (
    options: AnswerOptions, form: AnswerPlan.Form, echoes: Bool, prompts: [AnswerPlan.Prompt]
  )

  private func chat(_ fields: FieldReader, _ body: [UInt8]) async throws -> Decoded {
    let router = coordinator.router
    let chat = try ChatRequest(
      fields, body: body, experts: environment.experts, vocabulary: router.vocabulary.size)
    try check(chat.messages.reduce(0) { $0 + $1.content.utf8.count }, of: "messages", model: chat.options.model)
    let tokens = try await preparing("messages") { try router.promptTokens(chat: chat.messages) }
    return (chat.options, .chat, false, [AnswerPlan.Prompt(tokens: tokens)])
  }

  private func completion(_ fields: FieldReader, _ body: [UInt8]) async throws -> Decoded {
    let completion = try CompletionRequest(
      fields, body: body, experts: environment.experts, vocabulary: coordinator.router.vocabulary.size)
    for case .text(let text) in completion.prompts {
      try check(text.utf8.count, of: "prompt", model: completion.options.model)
    }
    let texts = environment.texts
    let prompts = try await preparing("prompt") { try completion.prompts.map { try Self.prompt($0, texts: texts) } }
    return (completion.options, .completion, completion.echoes, prompts)
  }

  /// Spares the tokeniser what no context can hold.
  private func check(_ bytes: Int, of param: String, model: ModelName) throws {
    guard let limit = environment.contextLimit(for: model.mode), bytes > limit * environment.texts.longestToken else {
      return
    }
    throw Self.tooLong(param, "has more than \(bytes / environment.texts.longestToken) tokens", limit: limit)
  }

  private static func tooLong(_ path: String, _ what: String, limit: Int) -> GatewayError {
    .invalid(
      path, "\(path) \(what), and the model's context holds \(limit): shorten it", code: "context_length_exceeded")
  }

  /// Work that a field causes, and whose errors are about it.
  private func preparing<R: Sendable>(_ param: String, _ work: @escaping @Sendable () throws -> R) async throws -> R {
    do {
      return try await environment.offloading(work)
    } catch {
      throw environment.told(error, param: param)
    }
  }

  private static func prompt(_ prompt: CompletionRequest.Prompt, texts: TokenTexts) throws -> AnswerPlan.Prompt {
    switch prompt {
    case .tokens(let tokens): return AnswerPlan.Prompt(tokens: tokens, text: texts.text(tokens))
    case .text(let text):
      let tokens = try texts.vocabulary.tokenize(text, addSpecial: true, parseSpecial: true)
      let begins = texts.vocabulary.addsBeginningOfSequence && tokens.first == texts.vocabulary.beginningOfSequence
      let visible = begins ? tokens.dropFirst() : tokens[...]
      let space = UInt8(ascii: " ")
      let hidesSpace = visible.first.map { texts.bytes($0).first == space } == true && text.utf8.first != space
      return AnswerPlan.Prompt(tokens: tokens, text: text, hiddenTokens: begins ? 1 : 0, hidesSpace: hidesSpace)
    }
  }

  private func constraint(_ format: ResponseFormat) async throws -> (any TokenConstraint)? {
    let router = coordinator.router
    switch format {
    case .text: return nil
    case .jsonObject: return try await environment.offloading { try Grammar.json(model: router).makeConstraint() }
    case .jsonSchema(let schema, let path):
      return try await preparing(path) { try Grammar.jsonSchema(schema, model: router).makeConstraint() }
    }
  }

  private func check(_ plan: AnswerPlan) throws {
    let param = plan.form == .chat ? "messages" : "prompt"
    let limit = environment.contextLimit(for: plan.options.model.mode)
    for (index, prompt) in plan.prompts.enumerated() {
      let path = plan.prompts.count == 1 ? param : "\(param)[\(index)]"
      if let limit, prompt.tokens.count > limit {
        throw Self.tooLong(path, "has \(prompt.tokens.count) tokens", limit: limit)
      }
      guard !prompt.tokens.isEmpty else {
        throw GatewayError.invalid(path, "\(path) is empty: give at least one token")
      }
    }
    for request in plan.requests {
      do { try coordinator.validate(request) } catch { throw environment.told(error) }
    }
  }
}

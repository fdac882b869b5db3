internal import Coordinator
internal import Core
internal import Fusion
internal import HTTPTypes
internal import Hummingbird
internal import Inference

/// `/v1/chat/completions` and `/v1/completions`.
struct AnswerRoutes: Sendable {
  let environment: GatewayEnvironment

  private var coordinator: CoordinatorRuntime { environment.coordinator }

  func chat(_ request: Request, context: GatewayContext) async throws -> Response {
    try await answer(request, context: context, route: "/v1/chat/completions") { body in
      let chat = try ChatRequest(
        body.fields, body: body.bytes, experts: environment.experts, vocabulary: coordinator.router.vocabulary.size)
      let router = coordinator.router
      try check(chat.messages.reduce(0) { $0 + $1.content.utf8.count }, of: "messages", model: chat.options.model)
      let tokens = try await preparing("messages") { try router.promptTokens(chat: chat.messages) }
      return (chat.options, .chat, false, [AnswerPlan.Prompt(tokens: tokens)])
    }
  }

  func completion(_ request: Request, context: GatewayContext) async throws -> Response {
    try await answer(request, context: context, route: "/v1/completions") { body in
      let completion = try CompletionRequest(
        body.fields, body: body.bytes, experts: environment.experts, vocabulary: coordinator.router.vocabulary.size)
      for case .text(let text) in completion.prompts {
        try check(text.utf8.count, of: "prompt", model: completion.options.model)
      }
      let texts = environment.texts
      let prompts = try await preparing("prompt") { try completion.prompts.map { try Self.prompt($0, texts: texts) } }
      return (completion.options, .completion, completion.echoes, prompts)
    }
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

  private typealias Decoded = (
    options: AnswerOptions, form: AnswerPlan.Form, echoes: Bool, prompts: [AnswerPlan.Prompt]
  )

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

  // MARK: The way of every answer

  private func answer(
    _ request: Request, context: GatewayContext, route: String,
    decode: (RequestBodyText) async throws -> Decoded
  ) async throws -> Response {
    // Before the body is read: it may be long.
    if environment.gate.isDraining { throw GatewayError.shuttingDown }
    let body = try await RequestBodyText.read(request, environment: environment)
    let decoded = try await decode(body)
    let plan = AnswerPlan(
      form: decoded.form, options: decoded.options, echoes: decoded.echoes, prompts: decoded.prompts,
      template: AnswerPlan.Template(
        defaultMaximumTokens: environment.configuration.defaultMaximumTokens,
        onExpertLoss: environment.configuration.onExpertLoss, client: context.client(user: decoded.options.user),
        deadline: try deadline(request), trace: context.trace, constraint: try await constraint(decoded.options.format))
    )
    try check(plan)
    let run = AnswerRun(
      plan, environment: environment, context: context, route: route, body: environment.log == nil ? [] : body.bytes,
      share: body.share, monitor: try await context.monitor())
    return plan.options.streams ? try await stream(run) : try await whole(run)
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

  private func whole(_ run: AnswerRun) async throws -> Response {
    var run = run
    let bytes = try await run.whole()
    return Response(
      status: .ok, headers: [.contentType: "application/json"],
      body: ResponseBody(byteBuffer: ByteBuffer(bytes: bytes)))
  }

  private func stream(_ run: AnswerRun) async throws -> Response {
    var run = run
    let first = try await run.firstEvent()
    let begun = run
    return Response(
      status: .ok,
      headers: [.contentType: "text/event-stream", .cacheControl: "no-cache", .accelBuffering: "no"],
      body: ResponseBody { writer in
        var run = begun
        try await run.stream(first: first, to: &writer)
        try await writer.finish(nil)
      })
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

  private func deadline(_ request: Request) throws -> Duration? {
    guard let text = request.headers[.requestTimeout] else { return environment.configuration.requestDeadline }
    guard let seconds = Double(text), seconds > 0, seconds <= GatewayLimits.requestTimeout else {
      throw GatewayError.invalid(
        "x-request-timeout",
        "the header x-request-timeout is \"\(text.clipped)\": it must be a number of seconds, more "
          + "than 0 and at most \(Int(GatewayLimits.requestTimeout))")
    }
    return .seconds(seconds)
  }
}

internal import Core
internal import HTTPTypes
internal import Hummingbird
internal import Journal
internal import NIOCore

/// `/v1/chat/completions` and `/v1/completions`.
struct AnswerRoutes: Sendable {
  /// Bytes of `Idempotency-Key`.
  private static let idempotencyKeyLength = 255

  let environment: GatewayEnvironment

  func chat(_ request: Request, context: GatewayContext) async throws -> Response {
    try await answer(.chat, request, context: context)
  }

  func completion(_ request: Request, context: GatewayContext) async throws -> Response {
    try await answer(.completion, request, context: context)
  }

  private func answer(
    _ route: AnswerPlanner.Route, _ request: Request, context: GatewayContext
  ) async throws -> Response {
    // Before the body is read: it may be long.
    if environment.gate.isDraining { throw GatewayError.shuttingDown }
    let body = try await RequestBodyText.read(request, environment: environment)
    let deadline = try deadline(request)
    let origin = AnswerPlanner.Origin(deadline: deadline, trace: context.trace, client: context.clientNaming)
    let plan = try await AnswerPlanner(environment: environment).plan(
      route, fields: body.fields, body: body.bytes, origin: origin)
    if !plan.options.streams, let accepted = environment.accepted, let key = try Self.idempotencyKey(request) {
      let stored = StoredRequest(
        owner: context.owner, key: key, route: route.rawValue, body: body.bytes,
        client: context.client(user: plan.options.user))
      return try await once(stored, accepted, deadline: deadline, context)
    }
    let run = AnswerRun(
      plan, environment: environment, requestID: context.requestID, arrival: context.arrival, route: route.rawValue,
      body: environment.log == nil ? [] : body.bytes, share: body.share, monitor: try await context.monitor())
    return plan.options.streams ? try await stream(run) : try await whole(run)
  }

  private func whole(_ run: AnswerRun) async throws -> Response {
    var run = run
    return ServiceRoutes.json(try await run.whole())
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

  // MARK: Answers that are given once

  private static func idempotencyKey(_ request: Request) throws -> String? {
    guard let key = request.headers[.idempotencyKey] else { return nil }
    guard (1...idempotencyKeyLength).contains(key.utf8.count), key.utf8.allSatisfy({ (0x20...0x7E).contains($0) })
    else {
      throw GatewayError.invalid(
        "idempotency-key", "the header Idempotency-Key must have 1 to \(idempotencyKeyLength) printable characters")
    }
    return key
  }

  /// The answer to a request with an idempotency key: computed if the key is new, the same again if it is not.
  private func once(
    _ request: StoredRequest, _ accepted: AcceptedRequests, deadline: Duration?, _ context: GatewayContext
  ) async throws -> Response {
    let claim: RequestClaim
    do {
      claim = try await accepted.journal.claim(
        owner: request.owner, key: request.key, route: request.route, body: request.body, client: request.client,
        now: UnixTime.now.seconds)
    } catch {
      throw environment.told(error)
    }
    switch claim {
    case .run:
      let (status, body) = try await accepted.answer(
        request, deadline: deadline, trace: context.trace, environment: environment)
      return ServiceRoutes.json(body, status: .init(code: status))
    case .answered(let status, let body):
      var response = ServiceRoutes.json(body, status: .init(code: status))
      response.headers[.idempotentReplayed] = "true"
      return response
    case .pending:
      var error = GatewayError(
        .conflict, "the request with this Idempotency-Key is being answered: ask again", code: "idempotency_in_progress"
      )
      error.retryAfter = 1
      throw error
    case .mismatch:
      throw GatewayError(
        .unprocessableContent, "this Idempotency-Key came with another request: use a new one for each",
        param: "idempotency-key", code: "idempotency_key_reused")
    }
  }
}

extension HTTPField.Name {
  fileprivate static let idempotencyKey = parsed("idempotency-key")
  fileprivate static let idempotentReplayed = parsed("idempotent-replayed")
}

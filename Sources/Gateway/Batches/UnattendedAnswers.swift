internal import Coordinator
internal import Core

/// Answers requests that no connection waits for.
struct UnattendedAnswers: Sendable {
  /// It cannot be answered now, which is nobody's fault: the same request may be answered later.
  struct NotNow: Error {
    var reason: GatewayError
  }

  let environment: GatewayEnvironment

  /// The answer's status and JSON. Errors that the request itself causes are answers too.
  func answer(
    _ route: AnswerPlanner.Route, body: [UInt8], client: String, requestID: String, priority: RequestPriority
  ) async throws(NotNow) -> (status: Int, body: [UInt8]) {
    do {
      if environment.gate.isDraining { throw GatewayError.shuttingDown }
      let share = environment.bodies.share()
      guard share.take(body.count) else {
        throw GatewayError(.serviceUnavailable, "other requests fill the server's memory", code: "overloaded")
      }
      guard case .object(let object) = try await environment.offloading({ try JSONParser.parse(body) }) else {
        throw GatewayError.invalid(nil, "the request's body must be a JSON object")
      }
      let origin = AnswerPlanner.Origin(
        deadline: environment.configuration.requestDeadline,
        trace: TraceContext(traceparent: nil, requestID: requestID), priority: priority, client: { _ in client })
      let plan = try await AnswerPlanner(environment: environment).plan(
        route, fields: FieldReader(object), body: body, origin: origin)
      guard !plan.options.streams else {
        throw GatewayError.invalid("stream", "stream must be false: the answer goes into a file")
      }
      var run = AnswerRun(
        plan, environment: environment, requestID: requestID, arrival: .now, route: route.rawValue,
        body: environment.log == nil ? [] : body, share: share, monitor: nil)
      return (200, try await run.whole())
    } catch {
      let told = environment.told(error)
      // Refused for now, an expert without a replica, or a shutdown.
      if told.status.code == 429 || told.status.code == 503 { throw NotNow(reason: told) }
      return (told.status.code, told.body)
    }
  }
}

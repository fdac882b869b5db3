internal import Coordinator
internal import Core

/// Answers requests that no connection waits for.
struct UnattendedAnswers: Sendable {
  /// It cannot be answered now, which is nobody's fault: the same request may be answered later.
  struct NotNow: Error {
    var reason: GatewayError
  }

  /// What came of a request.
  enum Outcome: Sendable {
    case answered([UInt8])
    case failed(GatewayError)

    var status: Int {
      switch self {
      case .answered: 200
      case .failed(let error): error.status.code
      }
    }

    /// The answer's JSON, or the error's.
    var body: [UInt8] {
      switch self {
      case .answered(let body): body
      case .failed(let error): error.body
      }
    }
  }

  let environment: GatewayEnvironment

  /// - Parameter deadline: for all that it takes, waiting included; nil: none.
  func answer(
    _ route: AnswerPlanner.Route, body: [UInt8], client: String, deadline: Duration?, trace: TraceContext,
    priority: RequestPriority
  ) async throws(NotNow) -> Outcome {
    do {
      if environment.gate.isDraining { throw GatewayError.shuttingDown }
      let share = environment.bodies.share()
      guard share.take(body.count) else { throw GatewayError.overloaded }
      guard case .object(let object) = try await environment.offloading({ try JSONParser.parse(body) }) else {
        throw GatewayError.invalid(nil, "the request's body must be a JSON object")
      }
      let origin = AnswerPlanner.Origin(
        deadline: deadline, trace: trace, priority: priority, client: { _ in client })
      let plan = try await AnswerPlanner(environment: environment).plan(
        route, fields: FieldReader(object), body: body, origin: origin)
      guard !plan.options.streams else {
        throw GatewayError.invalid("stream", "stream must be false: the answer goes into a file")
      }
      var run = AnswerRun(
        plan, environment: environment, requestID: trace.requestID, arrival: .now, route: route.rawValue,
        body: environment.log == nil ? [] : body, share: share, monitor: nil)
      return .answered(try await run.whole())
    } catch {
      let told = environment.told(error)
      // Refused for now, an expert without a replica, or a shutdown.
      if told.status.code == 429 || told.status.code == 503 { throw NotNow(reason: told) }
      return .failed(told)
    }
  }
}

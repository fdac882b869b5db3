internal import Coordinator
internal import Synchronization

/// What the HTTP service counts.
final class GatewayMetrics: Sendable {
  struct RequestLabels: Hashable {
    var route: String
    var method: String
    var status: Int
  }

  struct State {
    var requests: [RequestLabels: UInt64] = [:]
    /// By route.
    var responses: [String: Histogram] = [:]
    /// By outcome.
    var answers: [String: UInt64] = [:]
    var answerTime = Histogram()
    var firstToken = Histogram()
    var queued = Histogram()
    var tokenTime = Histogram()
  }

  private static let methods: Set<String> = ["GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE"]
  private let state = Mutex(State())

  var current: State { state.withLock { $0 } }

  /// - Parameter time: until the response's head.
  func answered(route: String, method: String, status: Int, time: Duration) {
    // Clients may make methods up; a series for each would fill the memory.
    let method = Self.methods.contains(method) ? method : "other"
    state.withLock { state in
      state.requests[RequestLabels(route: route, method: method, status: status), default: 0] += 1
      state.responses[route, default: Histogram()].record(time.seconds)
    }
  }

  /// A request for answers has ended.
  func ended(outcome: String, time: Duration, firstToken: Duration?, summaries: [GenerationSummary]) {
    state.withLock { state in
      state.answers[outcome, default: 0] += 1
      state.answerTime.record(time.seconds)
      if let firstToken { state.firstToken.record(firstToken.seconds) }
      for summary in summaries {
        state.queued.record(summary.queued.seconds)
        guard summary.generatedTokens > 1 else { continue }
        state.tokenTime.record(summary.decode.seconds / Double(summary.generatedTokens - 1))
      }
    }
  }
}

internal import Coordinator
internal import Core
internal import Synchronization

/// The generations of one request under way, as one sequence of events.
///
/// It ends early by an event, whoever ends it: a generation that failed, a client that left, a server that shuts down.
/// Letting go of it cancels what still runs.
final class AnswerStream: Sendable {
  enum Event: Sendable {
    /// The tokens of an echoed prompt after its first.
    case scored(prompt: Int, [TokenScore])
    case token(answer: Int, GeneratedToken)
    case finished(answer: Int, GenerationSummary)
    /// Nothing comes after it.
    case failed(any Error)
    /// Nothing may have happened for a while.
    case idle
  }

  /// To be read by one reader at a time. Bounded by the tokens of a context: nothing here waits for a slow client,
  /// since a slot of the cluster is dearer than some kilobytes.
  let events: AsyncStream<Event>
  private let continuation: AsyncStream<Event>.Continuation
  private let task: Task<Void, Never>

  /// - Parameters:
  ///   - headDelay: time of the first ``Event/idle``.
  ///   - keepAlive: time between the further ones.
  init(_ plan: AnswerPlan, coordinator: CoordinatorRuntime, headDelay: Duration, keepAlive: Duration) {
    let (events, continuation) = AsyncStream.makeStream(of: Event.self)
    self.events = events
    self.continuation = continuation
    task = Task {
      await withTaskGroup(of: Void.self) { group in
        group.addTask {
          var wait = headDelay
          while (try? await Task.sleep(for: wait)) != nil {
            continuation.yield(.idle)
            wait = keepAlive
          }
        }
        do {
          try await Self.generate(plan, coordinator: coordinator, continuation)
        } catch {
          continuation.yield(.failed(error))
        }
        group.cancelAll()
      }
      continuation.finish()
    }
  }

  deinit { task.cancel() }

  /// Ends it with an error, unless it has ended.
  func end(_ error: GatewayError) {
    continuation.yield(.failed(error))
    continuation.finish()
    task.cancel()
  }

  private static func generate(
    _ plan: AnswerPlan, coordinator: CoordinatorRuntime, _ continuation: AsyncStream<Event>.Continuation
  ) async throws {
    let arrival = ContinuousClock.now
    try await withThrowingTaskGroup(of: Void.self) { group in
      // Prompts of one request are scored one after the other: each holds rows of logits.
      if plan.scoresPrompts {
        for (index, prompt) in plan.prompts.enumerated() {
          let scores = try await score(prompt, of: plan, since: arrival, coordinator: coordinator)
          continuation.yield(.scored(prompt: index, scores))
        }
      }
      for (index, request) in plan.requests.enumerated() {
        var request = request
        // The parts of a request share its deadline.
        request.deadlineStart = arrival
        group.addTask { [request] in
          var isFinished = false
          for try await event in coordinator.generate(request) {
            switch event {
            case .token(let token): continuation.yield(.token(answer: index, token))
            case .finished(let summary):
              isFinished = true
              continuation.yield(.finished(answer: index, summary))
            }
          }
          // A cancelled stream ends without a word.
          guard isFinished else { throw CancellationError() }
        }
      }
      try await group.waitForAll()
    }
  }

  private static func score(
    _ prompt: AnswerPlan.Prompt, of plan: AnswerPlan, since arrival: ContinuousClock.Instant,
    coordinator: CoordinatorRuntime
  ) async throws -> [TokenScore] {
    guard prompt.tokens.count > 1 else { return [] }
    return try await coordinator.score(
      prompt.tokens, first: 1, mode: plan.options.model.mode, alternatives: plan.options.logprobs ?? 0,
      client: plan.template.client, deadline: plan.template.deadline, deadlineStart: arrival,
      trace: plan.template.trace)
  }
}

internal import Coordinator
internal import Core
internal import Launch

/// Whoever answers prompts: a coordinator in this process, or a service over HTTP.
protocol Answerer: Sendable {
  /// In the order of the head, which gives each its colour.
  var experts: [String] { get }
  /// Prompts that it answers at once.
  var parallelism: Int { get }

  /// Answers one prompt; `emit` gets its events in order. Cancelling ends the work.
  func answer(
    _ prompt: Prompt, options: GenerationOptions, emit: @Sendable (AnswerEvent) -> Void) async throws
}

/// Answers with the cluster of this process.
struct LocalAnswerer: Answerer {
  private let session: ClusterSession

  init(_ session: ClusterSession) { self.session = session }

  var experts: [String] { session.coordinator.experts }
  var parallelism: Int { session.cluster.router.engine.slots }

  func answer(
    _ prompt: Prompt, options: GenerationOptions, emit: @Sendable (AnswerEvent) -> Void
  ) async throws {
    let cluster = session.cluster
    let request = try prompt.request(
      options: options, fanout: FanoutPolicy(rawValue: cluster.decoding.fanout.rawValue) ?? .selected,
      warm: WarmPolicy(rawValue: cluster.decoding.warm.rawValue) ?? .auto,
      onExpertLoss: ExpertLossPolicy(rawValue: cluster.onExpertLoss.rawValue) ?? .fail,
      model: session.coordinator.router)
    emit(.prompt(request.prompt))
    for try await event in session.coordinator.generate(request) {
      switch event {
      case .token(let token): emit(.token(AnswerToken(token)))
      case .finished(let summary): emit(.finished(AnswerSummary(summary)))
      }
    }
  }
}

internal import Coordinator
internal import Core
internal import Foundation
internal import Inference
internal import Launch

/// Runs one answer by the cluster and by plain llama.cpp calls in turns.
struct DecodeBenchmark {
  private let session: ClusterSession
  private let request: GenerationRequest
  private let replay: DecodeReplay

  init(session: ClusterSession, prompt: String, tokens: Int) throws {
    self.session = session
    let model = session.coordinator.router
    let text =
      model.chatTemplate == nil
      ? prompt : try model.renderChat([ChatMessage(role: "user", content: prompt)], addGenerationPrompt: true)
    var request = GenerationRequest(
      prompt: try model.vocabulary.tokenize(text, addSpecial: model.chatTemplate == nil, parseSpecial: true),
      maximumTokens: tokens)
    // Each selected expert catches up when it is selected: shapes that appending alone reproduces.
    (request.fanout, request.warm) = (.selected, .selected)
    self.request = request
    let cluster = session.cluster
    func context(_ engine: ClusterFile.Engine, model: Model) throws -> PlainContext {
      var configuration = engine.decoder(slots: 1)
      configuration.reproducible = cluster.decoding.reproducible
      return try PlainContext(model: model, configuration: configuration)
    }
    var experts: [String: PlainContext] = [:]
    for expert in cluster.experts {
      let options = ModelLoadOptions(gpuLayers: expert.engine.gpuLayers, adapters: expert.engine.adapters)
      experts[expert.name] = try context(expert.engine, model: Model.load(path: expert.engine.model, options: options))
    }
    replay = DecodeReplay(router: try context(cluster.router.engine, model: model), experts: experts)
  }

  func run(rounds: Int) async throws -> DecodeReport {
    var report = DecodeReport()
    for round in 0...rounds {
      // The prompt's first token differs by round, so that no round finds its prefix in a cache.
      let (trace, summary) = try await answer(round: round)
      guard trace.isReplayable else {
        throw FusionRouteError.unavailable(
          "a round was disturbed (a worker was replaced or a cache overflowed); run again")
      }
      guard trace.steps.count >= 2 else {
        throw FusionRouteError.badInput("the answer ended after \(trace.steps.count) tokens; give another --prompt")
      }
      let plain = try replay.run(trace)
      // The first round warms caches and allocators up.
      if round > 0 { report.add(trace: trace, summary: summary, plain: plain) }
    }
    return report
  }

  private func answer(round: Int) async throws -> (DecodeTrace, GenerationSummary) {
    var request = request
    request.prompt.insert(Token(100 + round), at: 0)
    var trace = DecodeTrace(prompt: request.prompt)
    var summary: GenerationSummary?
    for try await event in session.coordinator.generate(request) {
      switch event {
      case .token(let token): trace.append(token)
      case .finished(let end): summary = end
      }
    }
    guard let summary else { throw FusionRouteError.interrupted("interrupted") }
    return (trace, summary)
  }
}

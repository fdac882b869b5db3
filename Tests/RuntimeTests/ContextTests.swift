import Coordinator
import Core
import Fusion
import Inference
import Testing

/// Experts whose context is not known when a request comes, since they have no worker yet.
@Suite(.serialized) struct ContextTests {
  /// Runs `body` with a coordinator that has no workers and waits for them as long as it takes.
  private func withoutWorkers(
    _ models: TestModels, _ scratch: Scratch, slots: Int, _ body: (InProcessCluster) async throws -> Void
  ) async throws {
    let cluster = try InProcessCluster(models, scratch: scratch, slots: slots) { $0.expertWait = .seconds(600) }
    do { try await body(cluster) } catch {
      await cluster.stop()
      throw error
    }
    await cluster.stop()
  }

  @Test("experts with less context than the router that come after the request end it by length, as if there before")
  func cameLater() async throws {
    let scratch = try Scratch("came")
    let models = try TestModels.make(in: scratch, experts: 2)
    try await withoutWorkers(models, scratch, slots: 4) { cluster in
      var request = GenerationRequest(prompt: GenerationTests.prompt(20), maximumTokens: 400)
      request.constraint = NoEnd(cluster.coordinator.router)
      let answer = Task { [request] in try await cluster.answer(request) }
      try await eventually("the router's step", 60) { cluster.coordinator.status().router.evaluatedTokens > 0 }
      for (name, path) in models.experts { try cluster.startWorker(name, model: path) { $0.context = 256 } }
      let (tokens, summary) = try await answer.value
      // After the last of 256 tokens one more can be told.
      #expect(tokens.count == 237 && summary.finishReason == .length)
      #expect(try await cluster.answer(request).tokens.map(\.id) == tokens.map(\.id))
    }
  }

  @Test("a prompt that turns out too long while the request waits for its slot is an error, not an answer of nothing")
  func cameWhileItWaited() async throws {
    let scratch = try Scratch("waited")
    let models = try TestModels.make(in: scratch, experts: 2)
    let (math, code) = (models.experts[0], models.experts[1])
    try await withoutWorkers(models, scratch, slots: 1) { cluster in
      // It holds the only slot: its expert never comes.
      let first = Task {
        try await cluster.answer(GenerationRequest(prompt: [5, 6, 7], maximumTokens: 1, mode: .expert(code.name)))
      }
      try await eventually("the first request's slot", 60) { cluster.coordinator.status().requests.running == 1 }
      let second = Task {
        try await cluster.answer(
          GenerationRequest(prompt: GenerationTests.prompt(300), maximumTokens: 4, mode: .expert(math.name)))
      }
      try await eventually("the second request", 60) { cluster.coordinator.status().requests.waiting == 1 }
      try cluster.startWorker(math.name, model: math.path) { $0.context = 256 }
      try await eventually("its worker", 60) { cluster.coordinator.contextLimit(for: .expert(math.name)) == 256 }
      first.cancel()
      let error = await #expect(throws: FusionRouteError.self) { _ = try await second.value }
      #expect(error?.code == .badInput, "\(error as Any)")
      #expect(error?.message.contains("300") == true && error?.message.contains("256") == true, "\(error as Any)")
      _ = await first.result
    }
  }
}

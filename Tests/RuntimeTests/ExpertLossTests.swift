import Coordinator
import Core
import Fusion
import Inference
import Testing

/// Who decides, and by what, when the selected expert has no replica.
@Suite(.serialized) struct ExpertLossTests {
  /// Runs `body` with a coordinator that has no workers and hardly waits for any.
  private func withoutWorkers(
    _ models: TestModels, _ scratch: Scratch, configure: (inout CoordinatorConfiguration) -> Void = { _ in },
    _ body: (InProcessCluster) async throws -> Void
  ) async throws {
    let cluster = try InProcessCluster(models, scratch: scratch, logLevel: .critical) {
      $0.expertWait = .milliseconds(50)
      configure(&$0)
    }
    do { try await body(cluster) } catch {
      await cluster.stop()
      throw error
    }
    await cluster.stop()
  }

  @Test(
    "under `router` the tokens of a lost expert are those of mode `router`, whatever the complement scale",
    arguments: [0.5, 0] as [Float])
  func routerAlone(scale: Float) async throws {
    let scratch = try Scratch("alone")
    let models = try TestModels.make(in: scratch, complementScale: scale)
    try await withoutWorkers(models, scratch) { cluster in
      for sampling in [SamplingParameters(), SamplingParameters(temperature: 1, seed: 5)] {
        var request = GenerationRequest(
          prompt: GenerationTests.prompt(20), maximumTokens: 24, sampling: sampling, mode: .router)
        request.alternatives = 3
        let expected = try await cluster.answer(request).tokens
        (request.mode, request.onExpertLoss) = (.fusion, .router)
        let tokens = try await cluster.answer(request).tokens
        #expect(!tokens.isEmpty && tokens.allSatisfy { $0.degraded && $0.expert == nil })
        #expect(tokens.map(\.id) == expected.map(\.id))
        #expect(tokens.map(\.logit) == expected.map(\.logit))
        #expect(tokens.map(\.logProbability) == expected.map(\.logProbability))
        #expect(tokens.map(\.alternatives) == expected.map(\.alternatives))
      }
    }
  }

  @Test("degraded tokens are the argmax of plain rows: r under `router`, c·r + e of the next best under `next_best`")
  func plainRows() async throws {
    let scratch = try Scratch("plain")
    let scale: Float = 0.75
    let models = try TestModels.make(in: scratch, complementScale: scale)
    let names = models.experts.map(\.name)
    let prompt = GenerationTests.prompt(40)
    func best(_ weights: [Float], without lost: String) -> String? {
      weights.indices.filter { names[$0] != lost }.max { (weights[$0], $1) < (weights[$1], $0) }.map { names[$0] }
    }
    try await withoutWorkers(models, scratch) { cluster in
      // Whom the router wants first is the one that is missing.
      let first = try await cluster.answer(
        GenerationRequest(prompt: prompt, maximumTokens: 1, onExpertLoss: .router)
      ).tokens.first
      let weights = try #require(first?.routingWeights)
      let lost = try #require(best(weights, without: ""))
      for (name, path) in models.experts where name != lost { try cluster.startWorker(name, model: path) }
      try await eventually("the other experts", 60) {
        cluster.coordinator.status().experts.count { $0.replicas.contains { $0.state == "serving" } } == 2
      }
      for policy in [ExpertLossPolicy.nextBest, .router] {
        let tokens = try await cluster.answer(
          GenerationRequest(prompt: prompt, maximumTokens: 48, onExpertLoss: policy)
        ).tokens
        #expect(tokens.first?.degraded == true)
        let all = prompt + tokens.dropLast().map(\.id)
        let router = try PlainOracle.rows(model: models.router, tokens: all)
        let experts = try models.expertRows(all)
        for (index, token) in tokens.enumerated() {
          let position = prompt.count - 1 + index
          let isLost = best(token.routingWeights, without: "") == lost
          #expect(token.degraded == isLost, "\(policy), token \(index)")
          let decider = isLost && policy == .router ? nil : best(token.routingWeights, without: lost)
          #expect(token.expert == decider, "\(policy), token \(index)")
          var row = router[position]
          if let e = decider.flatMap({ experts[$0] })?[position] { row = zip(row, e).map { scale * $0 + $1 } }
          #expect(Int(token.id) == GenerationTests.argmax(row), "\(policy), token \(index)")
          #expect(token.logit == row[Int(token.id)], "\(policy), token \(index)")
        }
      }
    }
  }

  @Test("a token that was certain stands when its audit cannot be made, since the last replica has gone")
  func auditOfNobody() async throws {
    let scratch = try Scratch("audit")
    let models = try TestModels.make(in: scratch, experts: 1)
    let (name, path) = models.experts[0]
    // So many logits that the first row decides.
    try await withoutWorkers(models, scratch, configure: { ($0.auditRate, $0.topK) = (1, 128) }) { cluster in
      let worker = try LyingWorker(cluster, expert: name, model: path, showsFullRows: false) { _, _ in false }
      try await worker.waitUntilRegistered()
      let prompt = TestPrompts.random(9, seed: 3)
      let (tokens, summary) = try await cluster.answer(GenerationRequest(prompt: prompt, maximumTokens: 1))
      worker.stop()
      let router = try #require(try PlainOracle.rows(model: models.router, tokens: prompt).last)
      let expert = try #require(try PlainOracle.rows(model: path, tokens: prompt).last)
      let best = Token(GenerationTests.argmax(zip(router, expert).map { $0 + $1 }))
      #expect(tokens.map(\.id) == [best] && tokens.first?.expert == name)
      let ends = cluster.coordinator.router.vocabulary.isEndOfGeneration(best)
      #expect(summary.finishReason == (ends ? .stop : .length))
      #expect(summary.failovers > 0, "it was never asked for the full row")
    }
  }
}

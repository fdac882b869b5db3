import Coordinator
import Core
import Fusion
import Inference
import ModelFiles
import TestSupport
import Testing

/// A worker that refuses a step since its context is too short, which another replica's is not.
@Suite(.serialized) struct RefusedStepTests {
  private struct Case {
    let request: GenerationRequest
    let expected: [Token]
    /// Tokens before the second expert is first selected.
    let lead: Int
  }

  /// A prompt of more than 256 tokens that starts with the first expert, needs the second, and returns to the first.
  private func find(_ models: TestModels, scratch: Scratch) async throws -> Case {
    try await withCluster(models, scratch: scratch) { cluster in
      for seed in 0..<50 as Range<UInt64> {
        let request = GenerationRequest(prompt: GenerationTests.prompt(260, seed: seed), maximumTokens: 40)
        let tokens = try await cluster.answer(request).tokens
        let experts = tokens.compactMap(\.expert)
        if experts.first == "math", let lead = experts.firstIndex(of: "code"), experts[lead...].contains("math") {
          return Case(request: request, expected: tokens.map(\.id), lead: lead)
        }
      }
      throw FusionRouteError.internal("no prompt switches twice")
    }
  }

  /// Runs the case: while it waits for the second expert, which has no worker yet, the first one's replica is drained
  /// and those of `contexts` come in its place.
  private func run(
    _ models: TestModels, _ example: Case, contexts: [Int], scratch: Scratch
  ) async throws -> (tokens: [Token], summary: GenerationSummary?) {
    let (math, code) = (models.experts[0], models.experts[1])
    let cluster = try InProcessCluster(models, scratch: scratch) { $0.expertWait = .seconds(600) }
    do {
      try cluster.startWorker(math.name, model: math.path)
      try await replicas(of: math.name, 1, in: cluster)
      var tokens: [Token] = []
      var summary: GenerationSummary?
      for try await event in cluster.coordinator.generate(example.request) {
        switch event {
        case .finished(let end): summary = end
        case .token(let token):
          tokens.append(token.id)
          guard tokens.count == example.lead else { continue }
          for (index, context) in contexts.enumerated() {
            try cluster.startWorker(math.name, model: math.path) { $0.context = context }
            try await replicas(of: math.name, 2 + index, in: cluster)
          }
          cluster.drain(math.name)
          try await replicas(of: math.name, contexts.count, in: cluster)
          try cluster.startWorker(code.name, model: code.path)
        }
      }
      await cluster.stop()
      return (tokens, summary)
    } catch {
      await cluster.stop()
      throw error
    }
  }

  /// Waits until so many serve.
  private func replicas(of name: String, _ count: Int, in cluster: InProcessCluster) async throws {
    for _ in 0..<6_000 {
      let expert = cluster.coordinator.status().experts.first { $0.name == name }
      if expert?.replicas.count(where: { $0.state == "serving" }) == count { return }
      try await Task.sleep(for: .milliseconds(5))
    }
    throw FusionRouteError.internal("\(count) replicas of \(name) never came")
  }

  @Test("the sequence moves on to a replica with room, and the answer stays; without one the error names the expert")
  func shorterContext() async throws {
    let scratch = try Scratch("shorter")
    let models = try TestModels.make(in: scratch, experts: 2)
    let example = try await find(models, scratch: try Scratch("find"))
    let (tokens, summary) = try await run(models, example, contexts: [256, 512], scratch: try Scratch("both"))
    #expect(tokens == example.expected && summary?.failovers == 2)
    do {
      _ = try await run(models, example, contexts: [256], scratch: try Scratch("short"))
      Issue.record("a context of 256 tokens held more")
    } catch let error as FusionRouteError {
      #expect(
        error.code == .badInput && error.message.contains("\"math\"") && error.message.contains("256"), "\(error)")
    }
  }
}

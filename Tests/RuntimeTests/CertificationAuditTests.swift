import Coordinator
import Core
import Foundation
import Fusion
import Testing

/// A worker that misstates what it left out, against the coordinator's audit.
@Suite(.serialized) struct CertificationAuditTests {
  /// One ulp below the largest logit that is in none of the lists; no lie where that one was named, since the reply
  /// would contradict itself.
  static let understated: LyingWorker.Lie = { partial, row in
    let returned = Set(partial.topIDs)
    var largest = (token: Token(0), logit: -Float.infinity)
    for (index, logit) in row.buffer.enumerated() where logit > largest.logit && !returned.contains(Token(index)) {
      largest = (Token(index), logit)
    }
    let lowest =
      partial.namedIDs.indices.filter { !returned.contains(partial.namedIDs[$0]) }
      .map { partial.namedLogits[$0] }.max() ?? -.infinity
    guard largest.logit.isFinite, lowest < largest.logit else { return false }
    partial.floor = largest.logit.nextDown
    return true
  }

  @Test("a floor one ulp too low is caught after the expected number of steps, and the answer is still the right one")
  func caught() async throws {
    let scratch = try Scratch("liar")
    let models = try TestModels.make(in: scratch, experts: 2)
    let rate = 0.05
    let trials = 40
    let liar = models.experts[0]
    let prompt = TestPrompts.random(12, seed: 2)
    let request = GenerationRequest(prompt: prompt, maximumTokens: 48)
    try await withCluster(
      models, scratch: scratch, logLevel: .critical, configure: { ($0.auditRate, $0.topK) = (rate, 8) }
    ) { cluster in
      let expected = try await cluster.answer(request).tokens.map(\.id)
      var steps: [Int] = []
      for _ in 0..<trials {
        let worker = try LyingWorker(cluster, expert: liar.name, model: liar.path, lie: Self.understated)
        try await worker.waitUntilRegistered()
        var caught = false
        for _ in 0..<100 where !caught {
          // Two at once: one of them is placed on the worker with nothing to do.
          async let first = cluster.answer(request)
          async let second = cluster.answer(request)
          let answers = try await [first, second]
          for answer in answers { #expect(answer.tokens.map(\.id) == expected) }
          caught = answers.contains { $0.summary.failovers > 0 }
        }
        #expect(caught, "never caught in \(worker.lies) lies")
        steps.append(worker.lies)
        // Quarantined: no step comes any more, for as long as it stays.
        let answered = worker.answered
        async let first = cluster.answer(request)
        async let second = cluster.answer(request)
        #expect(try await [first, second].allSatisfy { $0.tokens.map(\.id) == expected && $0.summary.failovers == 0 })
        #expect(worker.answered == answered)
        worker.stop()
      }
      let mean = Double(steps.reduce(0, +)) / Double(trials)
      // Geometric: mean 1/p, variance (1 - p)/p².
      let deviation = ((1 - rate).squareRoot() / rate) / Double(trials).squareRoot()
      print(
        "audit at \(rate): caught after \(mean) lies on average over \(trials) workers (expected \(1 / rate) ± "
          + "\(deviation)), at most \(steps.max() ?? 0)")
      // The sum of geometric draws is skewed: both bounds are crossed by chance about once in 100,000 runs.
      #expect(mean < 1 / rate + 5 * deviation && mean > 1 / rate - 3.5 * deviation)
    }
  }

  @Test("audits of honest workers find nothing")
  func honest() async throws {
    let scratch = try Scratch("honest")
    let models = try TestModels.make(in: scratch, experts: 2)
    try await withCluster(models, scratch: scratch, configure: { $0.auditRate = 1 }) { cluster in
      let (tokens, summary) = try await cluster.answer(
        GenerationRequest(prompt: TestPrompts.random(9, seed: 3), maximumTokens: 48))
      #expect(tokens.count == 48 && summary.failovers == 0)
    }
  }

  @Test("a lying worker without a replica beside it ends the answer with an error, not with a wrong token")
  func alone() async throws {
    let scratch = try Scratch("alone")
    let models = try TestModels.make(in: scratch, experts: 1)
    let cluster = try InProcessCluster(models, scratch: scratch, logLevel: .critical) {
      ($0.auditRate, $0.expertWait) = (1, .milliseconds(300))
    }
    let worker = try LyingWorker(
      cluster, expert: models.experts[0].name, model: models.experts[0].path, lie: Self.understated)
    try await cluster.coordinator.waitUntilReady(timeout: .seconds(20))
    let error = await #expect(throws: FusionRouteError.self) {
      _ = try await cluster.answer(
        GenerationRequest(prompt: TestPrompts.random(9, seed: 3), maximumTokens: 48))
    }
    #expect(error?.code == .unavailable && error?.message.contains(models.experts[0].name) == true, "\(error as Any)")
    worker.stop()
    await cluster.stop()
  }

  @Test("a reply that contradicts itself costs the worker its place and the answer nothing")
  func contradiction() async throws {
    let scratch = try Scratch("contradict")
    let models = try TestModels.make(in: scratch, experts: 2)
    let liar = models.experts[0]
    try await withCluster(
      models, scratch: scratch, logLevel: .critical, configure: { $0.auditRate = 0 }
    ) { cluster in
      // The certificate's own check finds some of them, and the worker is never used again; the codec refuses the
      // others, which costs it its registration.
      let lies: [(name: String, isBanned: Bool, lie: LyingWorker.Lie)] = [
        (
          "a floor below a named logit outside the top", true,
          { partial, _ in
            partial.floor = (partial.topLogits.last ?? 0) - 1_000
            return true
          }
        ),
        (
          "a floor above the least of the top", false,
          { partial, _ in
            partial.floor = (partial.topLogits.last ?? 0) + 1
            return true
          }
        ),
        (
          "the same token twice", false,
          { partial, _ in
            if partial.topIDs.count > 1 { partial.topIDs[1] = partial.topIDs[0] }
            return true
          }
        ),
        (
          "a named logit that differs from the top's", true,
          { partial, _ in
            for index in partial.namedIDs.indices { partial.namedLogits[index] -= 0.5 }
            return true
          }
        ),
      ]
      for (index, (name, isBanned, lie)) in lies.enumerated() {
        let lost = cluster.coordinator.status().faults?.lostReplicas ?? 0
        let worker = try LyingWorker(cluster, expert: liar.name, model: liar.path, lie: lie)
        try await worker.waitUntilRegistered()
        // Always new prompts: one that the honest replica has read would go to it again.
        let requests = (0..<6).map {
          GenerationRequest(prompt: TestPrompts.random(12, seed: UInt64(100 * index + $0)), maximumTokens: 32)
        }
        var answers: [[Token]] = []
        var failovers = 0
        for pair in 0..<3 {
          async let first = cluster.answer(requests[2 * pair])
          async let second = cluster.answer(requests[2 * pair + 1])
          do {
            for answer in try await [first, second] {
              answers.append(answer.tokens.map(\.id))
              failovers += answer.summary.failovers
            }
          } catch {
            Issue.record("\(name): \(error)")
          }
        }
        #expect(worker.answered > 0, "\(name): never asked")
        #expect(failovers > 0, "\(name): never caught")
        let status = cluster.coordinator.status()
        if isBanned {
          let replicas = status.experts.first { $0.name == liar.name }?.replicas ?? []
          #expect(replicas.contains { $0.state == "quarantined" }, "\(name)")
          // No step comes any more, for as long as it stays.
          let answered = worker.answered
          async let first = cluster.answer(requests[0])
          async let second = cluster.answer(requests[1])
          #expect(try await [first, second].allSatisfy { $0.summary.failovers == 0 }, "\(name)")
          #expect(worker.answered == answered, "\(name)")
        } else {
          #expect((status.faults?.lostReplicas ?? 0) > lost, "\(name)")
        }
        worker.stop()
        for (request, answer) in zip(requests, answers) {
          #expect(try await cluster.answer(request).tokens.map(\.id) == answer, "\(name)")
        }
      }
    }
  }
}

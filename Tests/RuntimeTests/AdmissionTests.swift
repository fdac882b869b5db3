import Core
import Foundation
import Fusion
import Testing

@testable import Coordinator

/// Slots, queue and deadlines. Without workers a request that needs one holds its slot as long as it likes, so nothing
/// here depends on how fast anything is.
@Suite(.serialized) struct AdmissionTests {
  /// A coordinator without workers: one slot.
  private func withoutWorkers(
    queueLimit: Int = 8, clientQueueLimit: Int = 8, _ body: (CoordinatorRuntime) async throws -> Void
  ) async throws {
    let scratch = try Scratch("admission")
    let models = try TestModels.make(in: scratch)
    let cluster = try InProcessCluster(models, scratch: scratch, slots: 1) {
      $0.expertWait = .seconds(600)
      $0.queueLimit = queueLimit
      $0.clientQueueLimit = clientQueueLimit
    }
    do { try await body(cluster.coordinator) } catch {
      await cluster.stop()
      throw error
    }
    await cluster.stop()
  }

  private func request(_ client: String = "", deadline: Duration? = nil, mode: DecodingMode = .fusion)
    -> GenerationRequest
  {
    var request = GenerationRequest(prompt: GenerationTests.prompt(8), maximumTokens: 4, mode: mode)
    request.client = client
    request.deadline = deadline
    return request
  }

  /// Consumes in a task of its own.
  private func send(_ coordinator: CoordinatorRuntime, _ request: GenerationRequest) -> Task<Int, any Error> {
    Task {
      var tokens = 0
      for try await event in coordinator.generate(request) { if case .token = event { tokens += 1 } }
      try Task.checkCancellation()
      return tokens
    }
  }

  private func until(_ what: String, _ condition: () -> Bool) async throws {
    for _ in 0..<6_000 {
      if condition() { return }
      try await Task.sleep(for: .milliseconds(5))
    }
    Issue.record("never came: \(what)")
  }

  private func code(_ task: Task<some Any, any Error>) async -> FusionRouteError.Code? {
    do {
      _ = try await task.value
      return nil
    } catch { return (error as? FusionRouteError)?.code }
  }

  @Test("a full queue refuses with `overloaded`, per client and in all; the status counts; cancelling makes room")
  func full() async throws {
    try await withoutWorkers(queueLimit: 3, clientQueueLimit: 2) { coordinator in
      var status = coordinator.status()
      #expect(!status.ready && status.reason.contains("math") && status.reason.contains("has no replica"))
      #expect(
        status.requests
          == .init(
            running: 0, waiting: 0, queueLimit: 3, finished: 0, failed: 0, cancelled: 0, refused: 0))
      let holder = send(coordinator, request("a"))
      try await until("a slot is taken") { coordinator.status().requests.running == 1 }
      let first = send(coordinator, request("a"))
      try await until("one waits") { coordinator.status().requests.waiting == 1 }
      let second = send(coordinator, request("a"))
      try await until("two wait") { coordinator.status().requests.waiting == 2 }
      #expect(await code(send(coordinator, request("a"))) == .overloaded)
      let other = send(coordinator, request("b"))
      try await until("three wait") { coordinator.status().requests.waiting == 3 }
      #expect(await code(send(coordinator, request("b"))) == .overloaded)
      do {
        _ = try await coordinator.score([1, 2, 3], first: 1, mode: .router)
        Issue.record("a full queue took a scoring request")
      } catch let error as FusionRouteError { #expect(error.code == .overloaded) }
      #expect(coordinator.retryAfter >= .seconds(1) && coordinator.retryAfter <= .seconds(60))
      status = coordinator.status()
      #expect(status.requests.refused == 3 && status.requests.running == 1 && status.requests.waiting == 3)
      first.cancel()
      try await until("room again") { coordinator.status().requests.waiting == 2 }
      let scoring = Task { try await coordinator.score([1, 2, 3], first: 1, mode: .router) }
      try await until("a scoring request waits") { coordinator.status().requests.waiting == 3 }
      for task in [second, other, holder] { task.cancel() }
      // The slot comes to the one that is left, which needs no worker.
      #expect(try await scoring.value.count == 2)
      try await until("all gone") { coordinator.status().requests.running == 0 }
      status = coordinator.status()
      #expect(status.requests.waiting == 0 && status.requests.cancelled == 4 && status.requests.finished == 1)
      #expect(coordinator.tasks.count == 0)
    }
  }

  @Test("a deadline counts from arrival: it ends waiting and running requests, scoring included, and frees the slot")
  func deadlines() async throws {
    try await withoutWorkers { coordinator in
      // Runs, and waits for a worker that does not come.
      #expect(await code(send(coordinator, request(deadline: .milliseconds(100)))) == .deadlineExceeded)
      #expect(coordinator.status().requests.running == 0)
      let holder = send(coordinator, request())
      try await until("a slot is taken") { coordinator.status().requests.running == 1 }
      // Waits for a slot.
      #expect(await code(send(coordinator, request(deadline: .milliseconds(50), mode: .router))) == .deadlineExceeded)
      #expect(
        await code(
          Task { try await coordinator.score([1, 2, 3], first: 1, mode: .router, deadline: .milliseconds(50)) })
          == .deadlineExceeded)
      #expect(await code(send(coordinator, request(deadline: .zero, mode: .router))) == .deadlineExceeded)
      // A part of a larger request has the deadline of the whole.
      let earlier = ContinuousClock.now - .seconds(600)
      var part = request(deadline: .seconds(300), mode: .router)
      part.deadlineStart = earlier
      #expect(await code(send(coordinator, part)) == .deadlineExceeded)
      #expect(
        await code(
          Task {
            try await coordinator.score(
              [1, 2, 3], first: 1, mode: .router, deadline: .seconds(300), deadlineStart: earlier)
          }) == .deadlineExceeded)
      var status = coordinator.status()
      #expect(status.requests.waiting == 0 && status.requests.failed == 6)
      holder.cancel()
      try await until("the slot is free") { coordinator.status().requests.running == 0 }
      // One that is met changes nothing.
      #expect(try await send(coordinator, request(deadline: .seconds(600), mode: .router)).value > 0)
      status = coordinator.status()
      #expect(status.requests.finished == 1 && status.requests.cancelled == 1 && coordinator.tasks.count == 0)
    }
  }

  @Test("a shutdown ends waiting and running requests with a sentence that says so")
  func shutdown() async throws {
    try await withoutWorkers { coordinator in
      let holder = send(coordinator, request())
      try await until("a slot is taken") { coordinator.status().requests.running == 1 }
      let waiting = send(coordinator, request())
      let scoring = Task { try await coordinator.score([1, 2, 3], first: 1, mode: .router) }
      try await until("two wait") { coordinator.status().requests.waiting == 2 }
      await coordinator.shutdown()
      for end in [
        await holder.result.map { _ in }, await waiting.result.map { _ in }, await scoring.result.map { _ in },
      ] {
        guard case .failure(let error) = end else {
          Issue.record("it ended as if nothing had happened")
          continue
        }
        #expect("\(error)".contains("shutting down"), "\(error)")
      }
      #expect(await code(send(coordinator, request())) == .unavailable)
      #expect(coordinator.tasks.count == 0)
    }
  }

  @Test("the status says what the summaries of the answers say")
  func totals() async throws {
    let scratch = try Scratch("status")
    let models = try TestModels.make(in: scratch)
    try await withCluster(models, scratch: scratch) { cluster in
      var summaries: [GenerationSummary] = []
      for seed in 0..<3 {
        let request = GenerationRequest(prompt: GenerationTests.prompt(20, seed: UInt64(seed)), maximumTokens: 16)
        summaries.append(try await cluster.answer(request).summary)
      }
      _ = try await cluster.coordinator.score(GenerationTests.prompt(20), first: 1, mode: .fusion)
      func sum(_ value: (GenerationSummary) -> Int) -> UInt64 { UInt64(summaries.reduce(0) { $0 + value($1) }) }
      let status = cluster.coordinator.status()
      #expect(status.ready && status.reason.isEmpty && status.version == Software.version)
      #expect(status.requests.finished == 4 && status.requests.failed == 0 && status.requests.running == 0)
      #expect(
        status.totals.promptTokens == sum(\.promptTokens) && status.totals.generatedTokens == sum(\.generatedTokens))
      #expect(status.totals.rowBytes == sum(\.certification.bytes) && status.totals.cachedTokens == sum(\.cachedTokens))
      #expect(status.totals.expertComputeUs > 0 && status.totals.routerComputeUs > 0)
      #expect(status.experts.map(\.name) == models.experts.map(\.name) && status.experts.allSatisfy(\.routed))
      for expert in status.experts {
        #expect(expert.tokens == sum { $0.tokensPerExpert[expert.name] ?? 0 })
        #expect(expert.replicas.count == 1)
        let replica = try #require(expert.replicas.first)
        #expect(replica.state == "serving" && replica.slots == 4 && replica.context == 512 && replica.pid == getpid())
        #expect(replica.sequences == 0 && replica.underWay == 0 && replica.batchInvariant)
      }
      #expect(status.router.evaluatedTokens > 0 && status.router.queued == 0)
      #expect(status.tokensPerSecond > 0 && status.uptimeS > 0)
      // Its workers' own counts come with their heartbeats.
      try await until("heartbeats") {
        cluster.coordinator.status().experts.allSatisfy { ($0.replicas.first?.evaluatedTokens ?? 0) > 0 }
      }
      let encoder = JSONEncoder()
      encoder.keyEncodingStrategy = .convertToSnakeCase
      let text = String(decoding: try encoder.encode(status), as: UTF8.self)
      for key in ["uptime_s", "router_queue_us", "tokens_per_second", "silence_ms", "under_way", "queue_limit"] {
        #expect(text.contains("\"\(key)\""), "\(key)")
      }
    }
  }

  @Test("totals move while an answer runs, and count it once")
  func liveTotals() async throws {
    let scratch = try Scratch("live")
    let models = try TestModels.make(in: scratch)
    try await withCluster(models, scratch: scratch) { cluster in
      let coordinator = cluster.coordinator
      let request = GenerationRequest(prompt: GenerationTests.prompt(20), maximumTokens: 40)
      var tokens = 0
      var last: CoordinatorStatus.Totals?
      for try await event in coordinator.generate(request) {
        guard case .token = event else { continue }
        tokens += 1
        let status = coordinator.status()
        // Decoding does not wait for its reader, so it may be ahead.
        #expect(status.totals.generatedTokens >= UInt64(tokens) && status.totals.promptTokens == 20)
        #expect(status.experts.reduce(0) { $0 + $1.tokens } == status.totals.generatedTokens)
        #expect(status.totals.routerComputeUs >= last?.routerComputeUs ?? 0)
        last = status.totals
      }
      try await until("it has ended") { coordinator.status().requests.running == 0 }
      #expect(coordinator.status().totals.generatedTokens == UInt64(tokens))
      #expect(coordinator.status().totals.promptTokens == 20)
      // So does one that is given up.
      for try await event in coordinator.generate(request) { if case .token = event { break } }
      try await until("it has ended") { coordinator.status().requests.running == 0 }
      let status = coordinator.status()
      #expect(status.totals.promptTokens == 40 && status.requests.cancelled + status.requests.finished == 2)
      #expect(status.experts.reduce(0) { $0 + $1.tokens } == status.totals.generatedTokens)
    }
  }
}

import Core
import Foundation
import Fusion
import ModelFiles
import Testing

@testable import Coordinator
@testable import Inference
@testable import Worker

#if canImport(Darwin)
  import Darwin
#else
  import Glibc
#endif

/// Many people at once: every answer is the one it would be alone, and nothing stays behind.
extension ProcessSuites {
  @Suite(.serialized) struct LoadTests {
    /// Waits for what comes by itself: heartbeats, goodbyes on their way.
    private static func until(_ what: String, _ condition: () -> Bool) async throws {
      for _ in 0..<6_000 {
        if condition() { return }
        try await Task.sleep(for: .milliseconds(5))
      }
      Issue.record("never came: \(what)")
    }

    private static func request(_ index: Int) -> GenerationRequest {
      var request = GenerationRequest(
        prompt: GenerationTests.prompt(5 + index * 13 % 80, seed: UInt64(index)), maximumTokens: 12 + index % 9,
        sampling: index % 3 == 0
          ? .init() : SamplingParameters(temperature: 1, seed: UInt64(index), topP: index % 3 == 1 ? 1 : 0.9),
        fanout: FanoutPolicy.allCases[index % 3])
      request.client = "client \(index % 7)"
      if index % 5 == 0 { request.alternatives = 2 }
      return request
    }

    /// Memory of a process, in bytes.
    private static func resident(_ pid: pid_t) throws -> Int {
      let text = try String(contentsOfFile: "/proc/\(pid)/status", encoding: .utf8)
      let line = try #require(text.split(separator: "\n").first { $0.hasPrefix("VmRSS:") })
      return (Int(line.split(separator: " ").dropFirst().first ?? "") ?? 0) << 10
    }

    private static func together(
      _ coordinator: CoordinatorRuntime, _ count: Int, _ meanwhile: @escaping @Sendable () async throws -> Void = {}
    ) async throws -> [[Token]] {
      try await withThrowingTaskGroup(of: (Int, [Token]).self) { group in
        for index in 0..<count {
          group.addTask {
            var tokens: [Token] = []
            for try await event in coordinator.generate(request(index)) {
              if case .token(let token) = event { tokens.append(token.id) }
            }
            return (index, tokens)
          }
        }
        try await meanwhile()
        return try await group.reduce(into: Array(repeating: [], count: count)) { $0[$1.0] = $1.1 }
      }
    }

    @Test(
      "200 answers at once over worker processes, one of which is killed: each as it is alone; nothing stays behind")
    func twoHundred() async throws {
      let scratch = try Scratch("load")
      let models = try FaultModels.shared.get().models
      let cluster = try InProcessCluster(models, scratch: scratch, slots: 4)
      func worker(_ index: Int) throws -> Program {
        let (name, path) = models.experts[index]
        return try Program(
          [
            "worker", "--expert", name, "--model", path, "--coordinator", cluster.endpoint, "--context", "512",
            "--slots", "2", "--log-level", "debug",
          ], in: scratch)
      }
      let workers = [try worker(0), try worker(1), try worker(0), try worker(1)]
      let coordinator = cluster.coordinator
      try await Self.until("four replicas") {
        coordinator.status().experts.allSatisfy { $0.replicas.count { $0.state == "serving" } == 2 }
      }
      let count = 200
      var alone: [[Token]] = []
      for index in 0..<count {
        var request = Self.request(index)
        request.trace = TraceContext(
          requestID: "request-\(index)", traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")
        alone.append(try await cluster.answer(request).tokens.map(\.id))
      }
      // Their logs say whose a step was.
      let named = Set(workers.flatMap { $0.logged(" step ", "request_id") })
      #expect(named == Set((0..<count).map { "request-\($0)" }))

      #expect(try await Self.together(coordinator, count) == alone)
      try await Self.settled(coordinator)
      let before = try [getpid(), workers[0].pid, workers[1].pid].map(Self.resident)
      for round in 0..<2 {
        let answers = try await Self.together(coordinator, count) {
          // Its sequences crowd the other replica, beyond its slots.
          if round == 1 { workers[2].signal(SIGKILL) }
        }
        #expect(answers == alone)
      }
      try await Self.settled(coordinator)
      let after = try [getpid(), workers[0].pid, workers[1].pid].map(Self.resident)
      print("resident before and after 400 answers: \(before), \(after)")
      for (before, after) in zip(before, after) { #expect(after < before + 16 << 20) }
      #expect(coordinator.status().requests.finished == UInt64(4 * count))
      await cluster.stop()
      for worker in workers {
        worker.signal(SIGTERM)
        _ = try await worker.wait()
      }
    }

    /// No request, call, sequence, waiter or task is left in the coordinator, and none in the workers' reports.
    private static func settled(_ coordinator: CoordinatorRuntime) async throws {
      try await until("no request") {
        let status = coordinator.status()
        return status.requests.running == 0 && status.requests.waiting == 0 && coordinator.tasks.count == 0
      }
      try await until("no work") {
        let status = coordinator.status()
        let replicas = status.experts.flatMap(\.replicas)
        return status.router.queued == 0
          && replicas.allSatisfy { $0.queued == 0 && $0.underWay == 0 && $0.sequences == 0 }
      }
      coordinator.pool.state.withLock { #expect($0.calls.isEmpty && $0.waiters.isEmpty) }
    }

    @Test("a thousand requests that are given up at random moments leave nothing behind and others unharmed")
    func cancels() async throws {
      let seed = UInt64.random(in: 0...UInt64.max)
      print("cancels: seed \(seed)")
      let scratch = try Scratch("cancel")
      let models = try FaultModels.shared.get().models
      try await withCluster(models, scratch: scratch, slots: 3) { cluster in
        let coordinator = cluster.coordinator
        let kept = (0..<12).map(Self.request)
        var expected: [[Token]] = []
        for request in kept { expected.append(try await cluster.answer(request).tokens.map(\.id)) }
        let references = expected
        try await withThrowingTaskGroup(of: Void.self) { group in
          for lane in 0..<16 as Range<Int> {
            group.addTask {
              var random = SplitMix64(seed: seed &+ UInt64(lane))
              for number in 0..<63 {
                if number % 10 == 0, lane < kept.count {
                  #expect(try await cluster.answer(kept[lane]).tokens.map(\.id) == references[lane])
                }
                try await Self.giveUp(coordinator, lane * 100 + number, &random)
              }
            }
          }
          try await group.waitForAll()
        }
        try await Self.settled(coordinator)
        let requests = coordinator.status().requests
        print("given up: \(requests)")
        #expect(requests.cancelled > 500 && requests.failed == 0 && requests.refused == 0)
        for worker in cluster.workerRuntimes {
          try await Self.until("the worker's sequences") {
            worker.service.pending == 0 && worker.service.openSequences == 0
          }
          #expect(worker.service.engine.load.queued == 0)
        }
        // And all still work.
        #expect(try await cluster.answer(kept[0]).tokens.map(\.id) == expected[0])
      }
    }

    /// Sends a request of some kind and gives it up at once, while it waits, or after some tokens.
    private static func giveUp(
      _ coordinator: CoordinatorRuntime, _ index: Int, _ random: inout SplitMix64
    ) async throws {
      let kind = Int.random(in: 0..<8, using: &random)
      let yields = Int.random(in: 0..<40, using: &random)
      let microseconds = Int.random(in: 0..<20_000, using: &random)
      let limit = Int.random(in: 0..<8, using: &random)
      let work = Task {
        if kind == 0 {
          let tokens = GenerationTests.prompt(120, seed: UInt64(index))
          _ = try? await coordinator.score(tokens, first: 1, mode: index % 2 == 0 ? .fusion : .expert("code"))
          return
        }
        var request = request(index)
        request.maximumTokens = 200
        if kind == 1 { request.mode = .expert("math") }
        var seen = 0
        for try await event in coordinator.generate(request) {
          guard case .token = event else { continue }
          seen += 1
          // Breaking off ends the stream too.
          if seen == limit { return }
        }
      }
      switch kind % 3 {
      case 0: for _ in 0..<yields { await Task.yield() }
      case 1: try await Task.sleep(for: .microseconds(microseconds))
      default:
        _ = await work.result
        return
      }
      work.cancel()
      _ = await work.result
    }

    @Test("giving up stops the work within two computations, a long prompt's too")
    func stopsSoon() async throws {
      let scratch = try Scratch("stops")
      let models = try FaultModels.shared.get().models
      try await withCluster(models, scratch: scratch, context: 4_096, slots: 2) { cluster in
        let coordinator = cluster.coordinator
        let decoders = [coordinator.host.decoder] + cluster.workerRuntimes.compactMap(\.service.decoder)
        func evaluated() -> UInt64 { decoders.reduce(0) { $0 + $1.statistics.evaluatedTokens } }
        for (length, mode) in [
          (20, DecodingMode.fusion), (20, .expert("math")), (3_900, .router), (3_900, .expert("code")),
        ] {
          var caught = false
          for attempt in 0..<30 as Range<UInt64> where !caught {
            var request = GenerationRequest(
              prompt: GenerationTests.prompt(length, seed: 1_000 + attempt), maximumTokens: 4_000, mode: mode)
            // So that it does not end by itself.
            request.constraint = NoEnd(coordinator.router)
            let start = evaluated()
            let consumer = Task { for try await _ in coordinator.generate(request) {} }
            // In the middle of its steps, or of its prompt.
            let mark = start + (length > 100 ? 1 : UInt64(length) + 10)
            while evaluated() < mark { await Task.yield() }
            consumer.cancel()
            let batches = decoders.map(\.statistics.batches)
            let early = length < 100 || evaluated() < start + UInt64(length) - 600
            _ = await consumer.result
            try await Self.settled(coordinator)
            guard early else { continue }
            caught = true
            for (decoder, batches) in zip(decoders, batches) {
              #expect(decoder.statistics.batches <= batches + 2, "\(mode), \(length) tokens")
            }
          }
          #expect(caught, "\(mode), \(length) tokens: it was always too late")
        }
      }
    }

    @Test(
      "2,000 tokens read among four streams: no step waits for more than one turn of prefill, on either side"
    )
    func longPrompt() async throws {
      let scratch = try Scratch("long")
      let models = try FaultModels.shared.get().models
      try await withCluster(models, scratch: scratch, context: 2_304, slots: 6) { cluster in
        let coordinator = cluster.coordinator
        let streaming = LockedBox(0)
        try await withThrowingTaskGroup(of: Void.self) { group in
          for stream in 0..<4 as Range<UInt64> {
            group.addTask {
              var request = GenerationRequest(
                prompt: GenerationTests.prompt(20, seed: stream), maximumTokens: 300,
                mode: stream % 2 == 0 ? .fusion : .expert("math"))
              request.constraint = NoEnd(coordinator.router)
              var count = 0
              for try await event in coordinator.generate(request) {
                guard case .token = event else { continue }
                count += 1
                if count == 5 { streaming.withValue { $0 += 1 } }
              }
            }
          }
          try await Self.until("streams") { streaming.withValue { $0 } == 4 }
          for prompt in 0..<3 as Range<UInt64> {
            let request = GenerationRequest(
              prompt: GenerationTests.prompt(2_000, seed: 50 + prompt), maximumTokens: 2, warm: .all)
            _ = try await cluster.answer(request)
          }
          try await group.waitForAll()
        }
        for decoder in [coordinator.host.decoder] + cluster.workerRuntimes.compactMap(\.service.decoder) {
          let statistics = decoder.statistics
          print("chunks \(statistics.prefillChunks), longest wait of a step: \(statistics.longestStepWait) turns")
          #expect(statistics.prefillChunks > 10 && statistics.longestStepWait <= 1)
        }
      }
    }
  }
}

import Coordinator
import Core
import Foundation
import Fusion
import Logging
import TestSupport
import Testing
import Worker

/// Replicas that come, go and are shared.
@Suite(.serialized) struct ReplicaTests {
  static func request(_ index: Int, tokens: Int) -> GenerationRequest {
    var request = GenerationRequest(
      prompt: GenerationTests.prompt(12, seed: UInt64(index)), maximumTokens: tokens)
    if index % 2 == 1 { (request.sampling.temperature, request.sampling.seed) = (0.9, UInt64(index)) }
    return request
  }

  /// Waits until `condition` holds; false if it does not in time.
  static func until(_ condition: () -> Bool) async -> Bool {
    for _ in 0..<6_000 {
      if condition() { return true }
      try? await Task.sleep(for: .milliseconds(5))
    }
    return false
  }

  private static func replicas(_ coordinator: CoordinatorRuntime, _ name: String) -> [CoordinatorStatus.Replica] {
    coordinator.status().experts.first { $0.name == name }?.replicas ?? []
  }

  @Test("requests that wait for slots start on replicas that come later, and new ones go where there is room")
  func newcomers() async throws {
    let scratch = try Scratch("new")
    let models = try TestModels.make(in: scratch, experts: 2)
    let requests = (0..<24).map { Self.request($0, tokens: 250) }
    let alone = try await withCluster(models, scratch: scratch, slots: 2) { cluster in
      var answers: [[Token]] = []
      for request in requests.prefix(4) { answers.append(try await cluster.answer(request).tokens.map(\.id)) }
      return answers
    }
    try await withCluster(
      models, scratch: try Scratch("new2"), slots: 2, configure: { $0.slots = 16 }
    ) { cluster in
      let coordinator = cluster.coordinator
      let answers = try await withThrowingTaskGroup(of: (Int, [Token]).self) { group in
        for (index, request) in requests.enumerated() {
          group.addTask { (index, try await cluster.answer(request).tokens.map(\.id)) }
        }
        #expect(
          await Self.until {
            let requests = coordinator.status().requests
            return requests.running == 2 && requests.waiting >= 20
          })
        for (name, path) in models.experts {
          for _ in 0..<3 { try cluster.startWorker(name, model: path) }
        }
        // Eight slots of each expert now; those that waited have got them.
        var most = 0
        #expect(
          await Self.until {
            most = max(most, coordinator.status().requests.running)
            return most == 8 || coordinator.status().requests.finished == 24
          })
        #expect(most == 8, "\(most) at once")
        var answers = [[Token]](repeating: [], count: requests.count)
        for try await (index, tokens) in group { answers[index] = tokens }
        return answers
      }
      #expect(Array(answers.prefix(4)) == alone && answers.allSatisfy { !$0.isEmpty })
      for (name, _) in models.experts {
        let replicas = Self.replicas(coordinator, name)
        #expect(replicas.count == 4 && replicas.allSatisfy { $0.sequences == 0 })
      }
      #expect(
        await Self.until {
          models.experts.allSatisfy { name, _ in
            Self.replicas(coordinator, name).allSatisfy { $0.evaluatedTokens > 0 }
          }
        }, "a replica did nothing")
    }
  }

  @Test("a request that begins like an earlier one goes to the replica that has read it, though others are as idle")
  func affinity() async throws {
    let scratch = try Scratch("affine")
    let models = try TestModels.make(in: scratch, experts: 1)
    let name = models.experts[0].name
    try await withCluster(models, scratch: scratch, replicas: 3) { cluster in
      for topic in 0..<6 {
        let beginning = GenerationTests.prompt(200, seed: UInt64(100 + topic))
        var read: [Int] = []
        for ending in 0..<3 {
          let request = GenerationRequest(
            prompt: beginning + GenerationTests.prompt(4, seed: UInt64(ending)), maximumTokens: 4, warm: .selected)
          let summary = try await cluster.answer(request).summary
          read.append(summary.evaluatedTokens[name] ?? 0)
        }
        // The first reads all of it; the others only what is new, and what does not fill a block.
        #expect(read[0] >= 200 && read[1] < 60 && read[2] < 60, "\(read)")
      }
    }
  }

  @Test("one worker serves two coordinators at once, each in its share of the slots, and one alone in all of them")
  func twoCoordinators() async throws {
    let scratch = try Scratch("two")
    let models = try TestModels.make(in: scratch, experts: 2)
    let slots = 4
    let first = try InProcessCluster(models, scratch: scratch, slots: slots) { $0.slots = 8 }
    let second = try InProcessCluster(models, scratch: try Scratch("two2"), slots: slots) { $0.slots = 8 }
    for (name, path) in models.experts {
      try first.startWorker(name, model: path) { $0.coordinators = [first.endpoint, second.endpoint] }
    }
    let coordinators = [first.coordinator, second.coordinator]
    for coordinator in coordinators { try await coordinator.waitUntilReady(timeout: .seconds(60)) }
    func shares() -> [[Int]] {
      models.experts.map { name, _ in coordinators.map { Self.replicas($0, name).reduce(0) { $0 + $1.slots } } }
    }
    #expect(await Self.until { shares().allSatisfy { $0 == [2, 2] } }, "\(shares())")
    // Both answer, at the same time, and the same.
    let answers = try await withThrowingTaskGroup(of: (Int, Int, [Token]).self) { group in
      for (which, cluster) in [first, second].enumerated() {
        for index in 0..<6 {
          group.addTask { (which, index, try await cluster.answer(Self.request(index, tokens: 60)).tokens.map(\.id)) }
        }
      }
      var answers: [[Int: [Token]]] = [[:], [:]]
      for try await (which, index, tokens) in group {
        answers[which][index] = tokens
        #expect(shares().allSatisfy { $0.reduce(0, +) <= slots })
      }
      return answers
    }
    #expect(answers[0] == answers[1] && answers[0].count == 6)
    // What one has lost the other gets.
    await first.coordinator.shutdown()
    #expect(await Self.until { shares().allSatisfy { $0[1] == slots } }, "\(shares())")
    let after = try await second.answer(Self.request(1, tokens: 60)).tokens.map(\.id)
    #expect(after == answers[1][1])
    await second.coordinator.shutdown()
    await first.stop()
    await second.stop()
  }

  @Test("drained by the coordinator one after another, replicas leave while answers go on, and none fails")
  func rollingInProcess() async throws {
    let scratch = try Scratch("roll")
    let models = try TestModels.make(in: scratch, experts: 2)
    try await withCluster(models, scratch: scratch, replicas: 2) { cluster in
      let coordinator = cluster.coordinator
      let requests = (0..<4).map { Self.request($0, tokens: 150) }
      var alone: [[Token]] = []
      for request in requests { alone.append(try await cluster.answer(request).tokens.map(\.id)) }
      let drained = Set(models.experts.flatMap { name, _ in Self.replicas(coordinator, name).map(\.id) })
      #expect(drained.count == 4)
      try await withThrowingTaskGroup(of: Void.self) { group in
        let isOver = LockedBox(false)
        for index in requests.indices {
          group.addTask { [alone] in
            while !isOver.withValue({ $0 }) {
              let tokens = try await cluster.answer(requests[index]).tokens.map(\.id)
              #expect(tokens == alone[index])
            }
          }
        }
        for (name, path) in models.experts {
          for replica in Self.replicas(coordinator, name) {
            let count = Self.replicas(coordinator, name).count
            try cluster.startWorker(name, model: path)
            #expect(await Self.until { Self.replicas(coordinator, name).count == count + 1 })
            let draining = try coordinator.drain(.replica(replica.id))
            #expect(draining.map(\.id) == [replica.id] && draining.map(\.expert) == [name])
            #expect(await Self.until { !Self.replicas(coordinator, name).contains { $0.id == replica.id } })
          }
        }
        isOver.withValue { $0 = true }
        try await group.waitForAll()
      }
      let left = Set(models.experts.flatMap { name, _ in Self.replicas(coordinator, name).map(\.id) })
      #expect(left.count == 4 && left.isDisjoint(with: drained))
      #expect(coordinator.status().requests.failed == 0)
    }
  }
}

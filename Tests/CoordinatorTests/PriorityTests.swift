import Core
import Testing

@testable import Coordinator

@Suite struct PriorityTests {
  @Test("batches run where nobody waits, give way to those who do, and still end")
  func batchesGiveWay() {
    let seed = UInt64.random(in: 0...UInt64.max)
    print("priorities: seed \(seed)")
    var random = SplitMix64(seed: seed)
    var gate = AdmissionGate(limit: 3, limits: .init(waiting: 1_000, waitingPerClient: 1_000))
    var nextID: UInt64 = 0
    var kinds: [UInt64: RequestPriority] = [:]
    var running: [UInt64] = []
    var waiting: [RequestPriority: Int] = [.interactive: 0, .batch: 0]
    func arrive(_ priority: RequestPriority) {
      nextID += 1
      kinds[nextID] = priority
      let client = priority == .batch ? "batch:ann" : "key:\(Int.random(in: 0..<3, using: &random))"
      let decision = gate.arrive(nextID, client: client, cost: 20 * priority.weight)
      if decision == .start { running.append(nextID) } else { waiting[priority, default: 0] += 1 }
    }
    /// One ends; who starts in its place.
    func end() -> [RequestPriority] {
      guard !running.isEmpty else { return [] }
      let id = running.remove(at: Int.random(in: 0..<running.count, using: &random))
      let started = gate.leave(id, used: 20 * (kinds[id]?.weight ?? 1))
      running += started
      let priorities = started.compactMap { kinds[$0] }
      for priority in priorities { waiting[priority, default: 0] -= 1 }
      return priorities
    }
    // Alone, batches have all slots.
    for _ in 0..<10 { arrive(.batch) }
    #expect(running.count == 3)
    #expect(end() == [.batch])
    // Others come and keep coming.
    var passed = 0
    var turns = 0
    for _ in 0..<2_000 {
      while (waiting[.interactive] ?? 0) < 4 { arrive(.interactive) }
      if (waiting[.batch] ?? 0) < 4 { arrive(.batch) }
      turns += 1
      if end().contains(.batch) { passed += 1 }
    }
    print("priorities: \(passed) of \(turns) turns were batches'")
    // One in about 3 × 64: each of three clients is let before by the weight.
    #expect(passed > 0 && passed < turns / 40, "seed \(seed): \(passed) of \(turns)")
    // When they have gone, what waits runs.
    while (waiting[.interactive] ?? 0) > 0 { _ = end() }
    while (waiting[.batch] ?? 0) > 0 { #expect(end().contains(.batch)) }
  }
}

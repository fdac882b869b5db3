import Core
import Testing

@testable import Coordinator

@Suite struct AdmissionGateTests {
  private static func gate(limit: Int = 1, waiting: Int = 100_000, perClient: Int = 100_000) -> AdmissionGate {
    AdmissionGate(limit: limit, limits: .init(waiting: waiting, waitingPerClient: perClient))
  }

  @Test(
    "limits hold, slots are never left empty while someone waits, and each client's requests start as they came",
    arguments: 0..<10)
  func invariants(seed: UInt64) {
    print("admission seed \(seed)")
    var random = SplitMix64(seed: seed)
    var gate = Self.gate(limit: 3, waiting: 8, perClient: 4)
    var running: [UInt64] = []
    var queues: [String: [UInt64]] = [:]
    func start(_ started: [UInt64]) {
      for request in started {
        let client = queues.first { $0.value.first == request }?.key
        #expect(client != nil, "request \(request) started before one that its client sent earlier")
        if let client { queues[client]?.removeFirst() }
        running.append(request)
      }
    }
    for next in 1...3_000 as ClosedRange<UInt64> {
      let waiting = queues.values.reduce(0) { $0 + $1.count }
      switch Int.random(in: 0..<5, using: &random) {
      case 0, 1:
        let client = "client \(Int.random(in: 0..<4, using: &random))"
        switch gate.arrive(next, client: client, cost: Int.random(in: 0..<500, using: &random)) {
        case .start:
          #expect(waiting == 0 && running.count < gate.limit)
          running.append(next)
        case .wait:
          #expect(running.count >= gate.limit)
          queues[client, default: []].append(next)
        case .refuse: #expect(waiting == 8)
        case .refuseClient: #expect(waiting < 8 && queues[client]?.count == 4)
        }
      case 2, 3:
        guard let leaving = (running + queues.values.joined()).randomElement(using: &random) else { continue }
        running.removeAll { $0 == leaving }
        for client in queues.keys { queues[client]?.removeAll { $0 == leaving } }
        start(gate.leave(leaving, used: Int.random(in: 0..<300, using: &random)))
      default: start(gate.setLimit(Int.random(in: 1...4, using: &random)))
      }
      let left = queues.values.reduce(0) { $0 + $1.count }
      #expect(gate.runningCount == running.count && gate.waitingCount == left)
      #expect(left <= 8 && queues.allSatisfy { $0.value.count <= 4 && gate.waitingCount(of: $0.key) == $0.value.count })
      #expect(left == 0 || running.count >= gate.limit)
    }
  }

  @Test("clients that always wait get the same tokens, within one request and what runs of theirs", arguments: 0..<10)
  func fairness(seed: UInt64) {
    print("fairness seed \(seed)")
    var random = SplitMix64(seed: seed)
    let (slots, largest, most) = (3, 400, 200)
    var gate = Self.gate(limit: slots)
    let clients = ["a", "b", "c", "d"]
    // One sends many small requests, one few large ones.
    let scale = ["a": 4, "b": 40, "c": 400, "d": 200]
    var owner: [UInt64: (client: String, cost: Int)] = [:]
    var served: [String: Int] = [:]
    var running: [UInt64] = []
    var next: UInt64 = 1
    func send(_ client: String) {
      let cost = Int.random(in: 1...min(largest, scale[client] ?? 1), using: &random)
      let request = next
      next += 1
      owner[request] = (client, cost)
      if gate.arrive(request, client: client, cost: cost) == .start { note([request]) }
    }
    func note(_ started: [UInt64]) {
      for request in started {
        guard let entry = owner[request] else { continue }
        running.append(request)
        served[entry.client, default: 0] += entry.cost
        send(entry.client)
      }
    }
    for client in clients { for _ in 0..<5 { send(client) } }
    for _ in 0..<4_000 {
      guard let index = running.indices.randomElement(using: &random) else { break }
      let request = running.remove(at: index)
      let used = Int.random(in: 0...most, using: &random)
      if let entry = owner[request] { served[entry.client, default: 0] += used }
      note(gate.leave(request, used: used))
      let totals = clients.map { served[$0] ?? 0 }
      // The theorem's bound is a largest request for each of two; a running request's later tokens come on top.
      let bound = 2 * (largest + slots * (largest + most))
      #expect((totals.max() ?? 0) - (totals.min() ?? 0) <= bound)
    }
    #expect((served.values.min() ?? 0) > 20_000, "nobody got far enough to tell: \(served)")
  }

  @Test("one request behind another client's ten thousand starts next, and theirs go on behind it", arguments: [1, 4])
  func newcomer(slots: Int) {
    var gate = Self.gate(limit: slots)
    for request in 1...10_000 as ClosedRange<UInt64> { _ = gate.arrive(request, client: "crowd", cost: 50) }
    var running = Array(1...UInt64(slots))
    // The first of the crowd are through, so that its time is far on.
    for _ in 0..<500 { running += gate.leave(running.removeFirst()) }
    #expect(gate.arrive(20_000, client: "one", cost: 4_000) == .wait)
    let started = gate.leave(running.removeFirst())
    #expect(started == [20_000])
    running += started
    // Its next one is as much behind as it was given tokens: that is eighty of the crowd's.
    #expect(gate.arrive(20_001, client: "one", cost: 1) == .wait)
    var passed = 0
    while passed < 200 {
      let started = gate.leave(running.removeFirst())
      if started.contains(20_001) { break }
      running += started
      passed += 1
    }
    #expect((70...90).contains(passed))
  }

  @Test("what was used beyond the cost counts: a client whose answers are long waits longer")
  func longAnswers() {
    var gate = Self.gate()
    #expect(gate.arrive(0, client: "third", cost: 1) == .start)
    for request in 1...20 as ClosedRange<UInt64> {
      #expect(gate.arrive(request, client: request <= 10 ? "long" : "short", cost: 10) == .wait)
    }
    var order: [UInt64] = []
    var started = gate.leave(0)
    while let request = started.first, order.count < 12 {
      order.append(request)
      started = gate.leave(request, used: request <= 10 ? 90 : 0)
    }
    #expect(order.count { $0 <= 10 } == 2, "\(order)")
  }

  @Test("books stay small: clients that come, give up and never return are forgotten")
  func bounded() {
    var gate = Self.gate(limit: 2)
    #expect(gate.arrive(1, client: "a", cost: 1) == .start)
    #expect(gate.arrive(2, client: "b", cost: 1) == .start)
    for next in 3...60_000 as ClosedRange<UInt64> {
      #expect(gate.arrive(next, client: next % 2 == 0 ? "client \(next)" : "always", cost: 100) == .wait)
      #expect(gate.leave(next) == [])
    }
    #expect(gate.waitingCount == 0 && gate.runningCount == 2)
    #expect(gate.entries < 10_000, "\(gate.entries)")
    // Nor do they grow while everyone is served in turn.
    var running: [UInt64] = [1, 2]
    for next in 60_001...120_000 as ClosedRange<UInt64> {
      #expect(gate.arrive(next, client: "client \(next)", cost: 100) == .wait)
      running += gate.leave(running.removeFirst())
    }
    #expect(gate.entries < 10_000, "\(gate.entries)")
    for request in running { _ = gate.leave(request) }
    #expect(gate.entries == 0)
  }
}

@Suite struct RequestMeterTests {
  private static let second: UInt64 = 1_000_000_000

  @Test("tokens per second are those of the last ten seconds")
  func rate() {
    var window = RateWindow(start: 100 * Self.second)
    for tenth in 0..<300 as Range<UInt64> { window.add(3, now: 100 * Self.second + tenth * Self.second / 10) }
    #expect(abs(window.perSecond(now: 130 * Self.second - 1) - 30) < 1)
    // Five seconds later half of the window is empty, fifteen seconds later all of it.
    #expect(abs(window.perSecond(now: 135 * Self.second) - 15) < 1)
    #expect(window.perSecond(now: 145 * Self.second) == 0)
    window.add(20, now: 500 * Self.second)
    #expect(abs(window.perSecond(now: 501 * Self.second) - 2) < 0.1)
  }

  @Test("right after the start the rate is over the time there was")
  func young() {
    var window = RateWindow(start: 0)
    for event in 0..<40 as Range<UInt64> { window.add(1, now: event * Self.second / 20) }
    #expect(abs(window.perSecond(now: 2 * Self.second) - 20) < 1)
  }

  @Test("the advice follows queue, slots and durations, within 1 to 60 seconds")
  func advice() {
    var estimate = DurationEstimate()
    #expect(estimate.wait(behind: 100, slots: 1) == .seconds(1))
    for _ in 0..<50 { estimate.add(4 * Self.second) }
    #expect(estimate.wait(behind: 9, slots: 4) == .seconds(10))
    #expect(estimate.wait(behind: 0, slots: 8) == .seconds(1))
    #expect(estimate.wait(behind: 1_000, slots: 1) == .seconds(60))
    // Recent ones count more than old ones.
    for _ in 0..<50 { estimate.add(Self.second / 2) }
    #expect(estimate.wait(behind: 9, slots: 1) == .seconds(6))
  }
}

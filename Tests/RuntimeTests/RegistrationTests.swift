import Core
import Logging
import Testing
import Wire

@testable import Coordinator

/// Runs `hook` when a line is logged, on the thread that logs it.
private struct HookedLog: LogHandler {
  let line: String
  var logLevel = Logger.Level.info
  var metadata: Logger.Metadata = [:]
  let hook: @Sendable () -> Void

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) { if "\(event.message)" == line { hook() } }
}

/// How a worker becomes a replica, step by step, and what it then knows.
@Suite(.serialized) struct RegistrationTests {
  @Test("a worker that registers again and again while its vocabulary is compared is let in in the end")
  func slowComparison() async throws {
    let house = try PoolHouse()
    let registration = PoolHouse.registration(vocabulary: "its own")
    let worker = try house.dial(registration)
    var answered = 0
    for _ in 0..<3 {
      try await eventually("a query", 30) { worker.queries.count > answered }
      // It takes long over the page, and so does not know yet that it was heard.
      worker.send(.register(registration))
      try await eventually("the query again", 30) { worker.queries.count > answered + 1 }
      let asked = worker.queries
      for query in asked[min(answered, asked.count)...] { worker.send(PoolHouse.page(query)) }
      answered = asked.count
    }
    try await eventually("registration", 30) { worker.isRegistered }
    #expect(worker.queries.map(\.first) == [0, 0, 1_024, 1_024, 2_048, 2_048])
    #expect(worker.refusal == nil && house.replica != nil)
    worker.stop()
    house.stop()
  }

  @Test(
    "a step of whoever finds a replica serving comes after the word that it does",
    arguments: ["the router's", "its own"])
  func registeredFirst(_ vocabulary: String) async throws {
    let hook = LockedBox<(@Sendable () -> Void)?>(nil)
    let house = try PoolHouse(
      logger: Logger(label: "hooked") { _ in HookedLog(line: "worker registered") { hook.withValue { $0 }?() } })
    let pool = house.pool
    // What any task may do as soon as the replica is there to be found.
    let place: @Sendable () -> Void = {
      guard
        let placed = pool.place(PoolHouse.expert, sequence: 1, pin: nil, prefix: .none, excluding: []),
        let peer = pool.state.withLock({ $0.registry.peer(of: placed.id) })
      else { return }
      pool.send(
        .step(
          Step(
            request: 1, coordinator: pool.incarnation, sequence: 1, epoch: 0, baseLength: 0, baseHash: .empty,
            append: [1], wants: [], deadlineMilliseconds: 1_000)), to: peer)
    }
    hook.withValue { $0 = place }
    let worker = try house.dial(PoolHouse.registration(vocabulary: vocabulary))
    try await worker.showVocabulary()
    try await eventually("the step", 30) { worker.steps == 1 }
    let order = worker.received.withValue { messages in
      messages.compactMap { message -> String? in
        switch message {
        case .registered: "registered"
        case .step: "step"
        default: nil
        }
      }
    }
    #expect(order == ["registered", "step"])
    hook.withValue { $0 = nil }
    worker.stop()
    house.stop()
  }

  @Test("a worker that missed the answer to its registration gets its credit with the next, and one that did not none")
  func creditAgain() async throws {
    let house = try PoolHouse()
    let worker = try await house.worker()
    let replica = house.replica
    // As if nothing had come.
    worker.send(.register(PoolHouse.registration()))
    try await eventually("the second answer", 30) { worker.welcomes.count == 2 }
    // It knows, and another coordinator has come.
    worker.send(.heartbeat(Heartbeat(sender: 1, count: 1, progress: 1)))
    worker.send(.register(PoolHouse.registration(slots: 1)))
    try await eventually("the third answer", 30) { worker.welcomes.count == 3 }
    #expect(worker.welcomes.map(\.creditBytes) == [8 << 20, 8 << 20, 0])
    #expect(worker.welcomes.map(\.leasedSlots) == [2, 2, 1])
    #expect(house.replica == replica && replica != nil)
    worker.stop()
    house.stop()
  }

  @Test("a worker whose registration was answered into the void sends whole rows all the same")
  func wholeRowsAfterLostAnswer() async throws {
    let model = try SeamTests.model.get()
    var options = SeamCluster.Options()
    (options.replicas, options.stepTimeout) = (1, .seconds(5))
    let cluster = try SeamCluster(model: model.path, scratch: try Scratch("void"), options)
    #expect(await cluster.until { cluster.serving == 1 })
    let (trigger, lost, isTold) = (Turn(after: 0), Turn(after: 0), LockedBox(false))
    cluster.proxies[0].interfere { message, direction in
      switch (message, direction) {
      case (.registered, .toWorker):
        if lost.comes() { return .drop }
        isTold.withValue { $0 = true }
        return .pass
      // What makes it register anew.
      case (.heartbeat, .toCoordinator): return trigger.comes() ? .garble : .pass
      default: return .pass
      }
    }
    #expect(await cluster.until { isTold.withValue { $0 } })
    let link = cluster.newLink(1)
    let want = Step.Want(position: model.prompt.count - 1, fullRow: true)
    let answer = try? await link.step(TokenChain(model.prompt), wants: [want])
    if case .full(let row)? = answer?.result.rows.first {
      #expect(row.count == model.vocabulary)
    } else {
      Issue.record("no row came")
    }
    await link.end()
    await cluster.stop()
  }

  @Test("a heartbeat with a number that no worker has costs it its registration")
  func impossibleNumbers() async throws {
    let house = try PoolHouse()
    let worker = try await house.worker()
    worker.send(.heartbeat(Heartbeat(sender: 1, count: 1, progress: 1, kvTokens: UInt64(Int.max))))
    try await eventually("its loss", 30) { house.replica == nil }
    #expect(house.pool.state.withLock { $0.turnedAway.malformedMessages } == 1)
    worker.stop()
    house.stop()
  }

  @Test("a change between the look for a replica and the wait for one is not missed")
  func changesCounted() async throws {
    let house = try PoolHouse()
    let pool = house.pool
    let seen = pool.changes
    pool.changed()
    let isBack = LockedBox(false)
    let early = Task {
      await pool.waitForChange(since: seen, until: .max)
      isBack.withValue { $0 = true }
    }
    try await eventually("its return", 30) { isBack.withValue { $0 } }
    // One that has seen all waits for the next.
    let all = pool.changes
    let late = Task { await pool.waitForChange(since: all, until: .max) }
    try await eventually("its wait", 30) { pool.state.withLock { !$0.waiters.isEmpty } }
    let worker = try await house.worker()
    try await eventually("its return", 30) { pool.state.withLock { $0.waiters.isEmpty } }
    worker.stop()
    house.stop()
    await early.value
    await late.value
  }
}

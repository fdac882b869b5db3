import Core
import Fusion
import Testing
import Wire

@testable import Coordinator

/// What a scoring worker may send, and what it is granted for it.
@Suite(.serialized) struct ScoringRowTests {
  private static func chunk(_ score: Score) -> WireMessage {
    .rowChunk(
      RowChunk(
        request: score.request, coordinator: score.coordinator, position: 0, offset: 0,
        total: PoolHouse.vocabularySize, values: [1, 2]))
  }

  @Test("rows that a scoring request did not ask for cost the worker its registration; those it asked for do not")
  func unaskedRows() async throws {
    for fullRows in [true, false] {
      let house = try PoolHouse()
      let worker = try await house.worker()
      let replica = try #require(house.replica)
      let parts = house.pool.score(
        [1, 2, 3], first: 1, topK: 1, fullRows: fullRows, replica: replica, timeout: .seconds(600), trace: nil)
      let chunks = LockedBox(0)
      let reader = Task {
        for try await part in parts { if case .chunk = part { chunks.withValue { $0 += 1 } } }
      }
      try await eventually("the request", 30) { worker.scores.count == 1 }
      let score = try #require(worker.scores.first)
      for _ in 0..<2 { worker.send(Self.chunk(score)) }
      if fullRows {
        try await eventually("the rows", 30) { chunks.withValue { $0 } == 2 }
        #expect(house.replica == replica)
      } else {
        try await eventually("its loss", 30) { house.replica == nil }
      }
      // In this order, so that it is not lost with its worker.
      house.stop()
      worker.stop()
      do {
        try await reader.value
        Issue.record("the request ended as if it were done")
      } catch let error as FusionRouteError {
        #expect(!fullRows && error.code == .unavailable && error.message.contains("nobody asked for"), "\(error)")
      } catch {
        // It was under way when the coordinator stopped.
        #expect(fullRows && error is CancellationError, "\(error)")
      }
      #expect(chunks.withValue { $0 } == (fullRows ? 2 : 0))
    }
  }

  @Test("scores earn a worker no credit: only rows use any up")
  func scoresAreFree() async throws {
    let scratch = try Scratch("free")
    let models = try TestModels.make(in: scratch, experts: 2)
    try await withCluster(models, scratch: scratch) { cluster in
      let coordinator = cluster.coordinator
      let tokens = GenerationTests.prompt(60)
      let scores = try await coordinator.score(
        tokens, first: 1, mode: .expert(models.experts[0].name), alternatives: 5)
      #expect(scores.count == tokens.count - 1)
      #expect(coordinator.pool.state.withLock { $0.consumed.values.reduce(0, +) } == 0)
    }
  }
}

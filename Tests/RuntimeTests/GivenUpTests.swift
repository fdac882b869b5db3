import Core
import Testing
import Wire

@testable import Coordinator

/// Requests that are given up while an expert reads their prompt.
@Suite(.serialized) struct GivenUpTests {
  enum Wait: String, CaseIterable { case step, rollBack, settle }

  @Test("a request that is given up ends at once, and the expert is told to stop reading", arguments: Wait.allCases)
  func duringWarmUp(_ wait: Wait) async throws {
    let house = try PoolHouse()
    // It takes steps, and answers none.
    let worker = try await house.worker()
    let link = ExpertLink(
      expert: PoolHouse.expert, sequence: 1, pool: house.pool,
      settings: .init(stepTimeout: .seconds(600), expertWait: .seconds(600)), logger: PoolHouse.quiet)
    let chain = TokenChain([1, 2, 3] as [Token])
    await link.prepare(chain)
    try await eventually("the warm-up", 30) { worker.steps == 1 }
    let hasEnded = LockedBox(false)
    let request = Task {
      switch wait {
      case .step: _ = try? await link.step(chain, wants: [Step.Want(position: 2, topK: 1)])
      case .rollBack: await link.rollBack(to: 2)
      case .settle: await link.settle(chain)
      }
      hasEnded.withValue { $0 = true }
    }
    request.cancel()
    try await eventually("its end", 30) { hasEnded.withValue { $0 } }
    try await eventually("the word to stop", 30) { worker.cancels.count == 1 }
    #expect(worker.steps == 1)
    await link.end()
    #expect(house.pool.state.withLock { $0.calls.isEmpty && $0.steps.isEmpty })
    worker.stop()
    house.stop()
    await request.value
  }
}

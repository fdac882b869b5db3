import Core
import Testing

@testable import Journal

@Suite struct BatchLifeTests {
  private static let events: [BatchLife.Event] = [
    .validated(items: 3), .validated(items: 0), .refused, .itemEnded(succeeded: true), .itemEnded(succeeded: false),
    .cancel, .windowEnded, .finalized,
  ]

  /// Who may follow whom, written apart from the code.
  private static let successors: [BatchLife.Status: Set<BatchLife.Status>] = [
    .validating: [.inProgress, .failed, .cancelling, .finalizing], .inProgress: [.finalizing, .cancelling],
    .finalizing: [.completed, .expired], .cancelling: [.cancelled], .completed: [], .expired: [], .cancelled: [],
    .failed: [],
  ]

  @Test("any events in any order: allowed steps only, counts that add up, times that do not go back, ends that last")
  func anyEvents() throws {
    let seed = UInt64.random(in: 0...UInt64.max)
    print("batch life: seed \(seed)")
    var random = SplitMix64(seed: seed)
    var reached: Set<BatchLife.Status> = []
    for _ in 0..<5_000 {
      var life = BatchLife(created: 1_000, window: 500)
      var now = 1_000
      var recorded = (succeeded: 0, failed: 0)
      for _ in 0..<12 {
        now += Int.random(in: -5...50, using: &random)
        let event = Self.events.randomElement(using: &random) ?? .cancel
        let before = life
        let changed = life.apply(event, now: now)
        #expect(changed || life == before, "seed \(seed): \(event) changed \(before)")
        if life.status != before.status {
          #expect(Self.successors[before.status]?.contains(life.status) == true, "seed \(seed): \(event) on \(before)")
          #expect(life.times[life.status].map { $0 >= before.times.values.max() ?? 0 } == true, "seed \(seed)")
        }
        if changed, case .itemEnded(let succeeded) = event {
          #expect(before.takesResults, "seed \(seed): a result counted in \(before)")
          if succeeded { recorded.succeeded += 1 } else { recorded.failed += 1 }
        }
        #expect(life.completed == recorded.succeeded && life.failed == recorded.failed, "seed \(seed)")
        #expect(life.ended <= life.total, "seed \(seed)")
        #expect(!before.status.isFinal || !changed, "seed \(seed): \(event) on \(before)")
        if life.status == .completed { #expect(life.ended == life.total && life.total > 0, "seed \(seed)") }
        reached.insert(life.status)
      }
    }
    #expect(reached == Set(BatchLife.Status.allCases))
  }

  @Test("whatever happens, a batch that is looked after ends")
  func alwaysEnds() {
    let seed = UInt64.random(in: 0...UInt64.max)
    print("batches end: seed \(seed)")
    var random = SplitMix64(seed: seed)
    for _ in 0..<2_000 {
      var life = BatchLife(created: 0, window: 100)
      var now = 0
      var steps = 0
      while !life.status.isFinal {
        now += Int.random(in: 0...20, using: &random)
        steps += 1
        if now >= life.expires { _ = life.apply(.windowEnded, now: now) }
        if Int.random(in: 0..<15, using: &random) == 0 { _ = life.apply(.cancel, now: now) }
        switch life.status {
        case .validating:
          _ = life.apply(Int.random(in: 0..<5, using: &random) == 0 ? .refused : .validated(items: 4), now: now)
        case .inProgress: _ = life.apply(.itemEnded(succeeded: Bool.random(using: &random)), now: now)
        default: if life.awaitsFinalization { _ = life.apply(.finalized, now: now) }
        }
        guard steps < 100 else {
          Issue.record("seed \(seed): it goes on and on: \(life)")
          return
        }
      }
    }
  }

  @Test func items() {
    #expect(ItemState.waiting.recording(succeeded: true) == .succeeded)
    #expect(ItemState.waiting.recording(succeeded: false) == .failed)
    for state in [ItemState.succeeded, .failed] {
      #expect(state.recording(succeeded: true) == nil && state.recording(succeeded: false) == nil)
    }
  }
}

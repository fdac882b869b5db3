import Core
import Testing

@testable import Inference

/// Random histories against a model of the KV cache that only knows what llama.cpp would do.
@Suite struct SlotTableTests {
  /// What the cache holds per slot, changed only as a placement says.
  private struct Cache {
    var slots: [[Token]]

    mutating func carryOut(_ placement: SlotTable.Placement) -> Int {
      switch placement {
      case .inPlace(let slot, let keep, let rollBack):
        if rollBack { slots[slot] = Array(slots[slot].prefix(keep)) }
        return slot
      case .copy(let from, let to, let keep):
        slots[to] = Array(slots[from].prefix(keep))
        return to
      }
    }
  }

  /// Few tokens, so that prefixes are shared often.
  private func tokens(_ generator: inout SplitMix64) -> [Token] {
    (0..<Int.random(in: 1...12, using: &generator)).map { _ in Token.random(in: 0...1, using: &generator) }
  }

  @Test(arguments: [1, 2, 3, 8], [UInt64(1), 2, 3, 4, 5])
  func tableAndCacheAgree(slots: Int, seed: UInt64) throws {
    var generator = SplitMix64(seed: seed &* 1000 &+ UInt64(slots))
    var table = SlotTable(count: slots)
    var cache = Cache(slots: Array(repeating: [], count: slots))
    var pinned: [UInt64: Int] = [:]
    for step in 0..<800 {
      let sequence = UInt64.random(in: 0...9, using: &generator)
      switch Int.random(in: 0..<10, using: &generator) {
      case 0..<6:
        let wantedTokens = tokens(&generator)
        let reusable = Int.random(in: 0...wantedTokens.count, using: &generator)
        let copyCost = [0, 2, Int.max].randomElement(using: &generator)!
        let before = cache.slots
        let pinnedSlots = Set(pinned.keys.compactMap { table.slot(of: $0) })
        let had = table.slot(of: sequence)
        guard
          let placement = table.place(
            sequence, tokens: wantedTokens, reusable: reusable, copyCost: copyCost)
        else {
          // Only if there is really no room.
          #expect(had == nil)
          #expect(pinnedSlots.count == slots, "step \(step)")
          continue
        }
        let slot = cache.carryOut(placement)
        // Never the slot of another pinned sequence, never a second slot for one sequence.
        if had == nil { #expect(!pinnedSlots.contains(slot), "step \(step)") } else { #expect(slot == had) }
        if case .copy(let from, let to, _) = placement {
          #expect(from != to)
          #expect(before[from] == cache.slots[from])
        }
        let kept: Int
        switch placement {
        case .inPlace(_, let keep, _), .copy(_, _, let keep): kept = keep
        }
        #expect(kept <= reusable)
        #expect(kept <= cache.slots[slot].count)
        #expect(Array(cache.slots[slot].prefix(kept)) == Array(wantedTokens.prefix(kept)), "step \(step)")
        // At least what its own slot, or a copy at no cost, offers.
        let own = had.map { commonPrefix(before[$0], wantedTokens) } ?? 0
        #expect(kept >= min(own, reusable))
        if copyCost == 0 {
          let best = before.map { commonPrefix($0, wantedTokens) }.max() ?? 0
          #expect(kept >= min(best, reusable), "step \(step)")
        }
        // Evaluate the rest, or only some of it.
        if kept < wantedTokens.count {
          let rest = wantedTokens[kept..<Int.random(in: kept...wantedTokens.count, using: &generator)]
          table.append(rest, to: slot)
          cache.slots[slot] += rest
        }
      case 6:
        table.pin(sequence)
        pinned[sequence, default: 0] += 1
      case 7:
        if let some = pinned.keys.sorted().randomElement(using: &generator) {
          table.unpin(some)
          pinned[some] = pinned[some]! > 1 ? pinned[some]! - 1 : nil
        }
      case 8:
        if pinned[sequence] == nil { table.release(sequence) }
      default:
        // A failed computation.
        let slot = Int.random(in: 0..<slots, using: &generator)
        let count = Int.random(in: 0...5, using: &generator)
        table.truncate(slot, to: count)
        if cache.slots[slot].count > count { cache.slots[slot] = Array(cache.slots[slot].prefix(count)) }
      }
      for slot in 0..<slots { try #require(table.tokens(of: slot) == cache.slots[slot], "step \(step), seed \(seed)") }
      try #require(table.checkInvariants(), "step \(step), seed \(seed)")
      for (sequence, _) in pinned { #expect(table.isPinned(sequence)) }
    }
    #expect(table.residentTokens == cache.slots.reduce(0) { $0 + $1.count })
  }

  @Test func takesTheLowestEmptySlotAndThenTheOldest() {
    var table = SlotTable(count: 3)
    for sequence in UInt64(0)..<3 {
      let placement = table.place(sequence, tokens: [Token(sequence)], reusable: 1, copyCost: 4)
      #expect(placement == .inPlace(slot: Int(sequence), keep: 0, rollBack: false))
      table.append([Token(sequence)], to: Int(sequence))
    }
    _ = table.place(0, tokens: [0, 1], reusable: 2, copyCost: 4)
    table.append([1], to: 0)
    // 1 is the oldest now; 2 is released, which comes before age.
    table.release(2)
    #expect(table.place(7, tokens: [9], reusable: 1, copyCost: 4) == .inPlace(slot: 2, keep: 0, rollBack: true))
    table.append([9], to: 2)
    #expect(table.evictions == 0)
    #expect(table.place(8, tokens: [8], reusable: 1, copyCost: 4) == .inPlace(slot: 1, keep: 0, rollBack: true))
    #expect(table.evictions == 1)
    #expect(table.slot(of: 1) == nil)
  }

  @Test func waitsWhenAllArePinned() {
    var table = SlotTable(count: 1)
    _ = table.place(1, tokens: [1], reusable: 1, copyCost: 4)
    table.pin(1)
    table.pin(1)
    #expect(table.place(2, tokens: [1], reusable: 1, copyCost: 4) == nil)
    table.unpin(1)
    #expect(table.place(2, tokens: [1], reusable: 1, copyCost: 4) == nil)
    table.unpin(1)
    #expect(table.place(2, tokens: [1], reusable: 1, copyCost: 4) != nil)
  }
}

@Suite struct StepPlannerTests {
  /// Every way to cover the slots, for the least total cost.
  private func leastCost(
    _ slots: ArraySlice<Int>, _ maximumRun: Int, _ maximumSteps: Int, _ fillable: (Int) -> Bool,
    _ cost: (Int) -> Double
  ) -> Double {
    guard let first = slots.first else { return 0 }
    var best = Double.infinity
    for (offset, last) in slots.enumerated().prefix(maximumSteps) {
      let run = first...last
      let holes = run.filter { !slots.contains($0) }
      guard run.count <= maximumRun, holes.allSatisfy(fillable) else { break }
      best = min(
        best, cost(run.count) + leastCost(slots.dropFirst(offset + 1), maximumRun, maximumSteps, fillable, cost))
    }
    return best
  }

  @Test(arguments: UInt64(1)...60)
  func plansAreValidAndCheapest(seed: UInt64) {
    var generator = SplitMix64(seed: seed)
    let slots = (0..<12).filter { _ in Bool.random(using: &generator) }
    let blocked = Set((0..<12).filter { _ in Int.random(in: 0..<4, using: &generator) == 0 })
    let share = Double.random(in: 0...1, using: &generator)
    let cost: (Int) -> Double = { 1 + share * Double($0 - 1) }
    let maximumRun = Int.random(in: 1...12, using: &generator)
    let fillable: (Int) -> Bool = { !blocked.contains($0) }
    let maximumSteps = Int.random(in: 1...12, using: &generator)
    let runs = StepPlanner.runs(
      slots, maximumRun: maximumRun, maximumSteps: maximumSteps, fillable: fillable, cost: cost)
    // Each slot once, in order; holes may be filled; no run too long.
    #expect(runs.flatMap { run in slots.filter(run.contains) } == slots)
    for run in runs {
      #expect(run.count <= maximumRun && slots.count(where: run.contains) <= maximumSteps)
      #expect(run.allSatisfy { slots.contains($0) || fillable($0) })
    }
    for (earlier, later) in zip(runs, runs.dropFirst()) { #expect(earlier.upperBound < later.lowerBound) }
    let total = runs.reduce(0) { $0 + cost($1.count) }
    #expect(abs(total - leastCost(slots[...], maximumRun, maximumSteps, fillable, cost)) < 1e-9)
  }

  @Test(arguments: UInt64(1)...60)
  func groupsAreFewAndEqual(seed: UInt64) {
    var generator = SplitMix64(seed: seed)
    let slots = (0..<40).filter { _ in Bool.random(using: &generator) }
    let most = Int.random(in: 1...20, using: &generator)
    let groups = StepPlanner.groups(slots, maximumSteps: most)
    #expect(groups.flatMap(\.self) == slots)
    #expect(groups.allSatisfy { (1...most).contains($0.count) })
    #expect(groups.count == Int((Double(slots.count) / Double(most)).rounded(.up)))
    #expect((groups.map(\.count).max() ?? 0) - (groups.map(\.count).min() ?? 0) <= 1)
  }

  @Test func costsComeFromMeasurement() {
    var costs = StepCosts()
    #expect(costs.milliseconds(sequences: 3) > costs.milliseconds(sequences: 1))
    costs.record(sequences: 1, milliseconds: 10)
    costs.record(sequences: 4, milliseconds: 16)
    #expect(costs.milliseconds(sequences: 1) == 10)
    #expect(costs.milliseconds(sequences: 2) == 12)
    // On their line: as far as the times are known, a further sequence costs 2 ms.
    #expect(costs.milliseconds(sequences: 8) == 24)
    // One outlier moves it little.
    costs.record(sequences: 1, milliseconds: 1000)
    #expect(costs.milliseconds(sequences: 1) < 15)
  }
}

@Suite struct GatherPolicyTests {
  private func cpu(_ k: Int) -> Double { 10 + 3 * Double(k - 1) }

  @Test func waitsOnlyForSequencesThatStepped() {
    var policy = GatherPolicy()
    #expect(policy.expected(besides: [], now: 1000) == 0)
    policy.stepped(1, now: 1000)
    policy.stepped(2, now: 1000)
    policy.stepped(3, now: 1000)
    #expect(policy.expected(besides: [1], now: 2000) == 2)
    policy.forget(2)
    #expect(policy.expected(besides: [1], now: 2000) == 1)
    #expect(policy.expected(besides: [1], now: 2000 + GatherPolicy.memoryNanoseconds) == 0)
    #expect(policy.wait(ready: 1, expected: 0, cost: cpu) == 0)
    #expect(policy.wait(ready: 0, expected: 2, cost: cpu) == 0)
    // A small share of the 10 ms step.
    #expect((1...500_000).contains(policy.wait(ready: 1, expected: 1, cost: cpu)))
  }

  @Test func doesNotWaitWhereBatchingDoesNotPay() {
    var policy = GatherPolicy()
    #expect(policy.wait(ready: 1, expected: 3, cost: { 10 * Double($0) }) == 0)
  }

  @Test func givesUpWhenNothingComesAndTriesAgain() {
    var policy = GatherPolicy()
    var waits = 0
    for _ in 0..<200 {
      if policy.wait(ready: 1, expected: 3, cost: cpu) > 0 {
        waits += 1
        policy.record(gathered: false)
      }
    }
    #expect(waits < 40)
    for _ in 0..<200 where policy.wait(ready: 1, expected: 3, cost: cpu) > 0 { policy.record(gathered: true) }
    #expect(policy.wait(ready: 1, expected: 3, cost: cpu) > 0)
  }
}

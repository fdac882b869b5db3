import Core
import Testing

@testable import Launch

@Suite struct RestartPolicyTests {
  let limits = RestartPolicy.Limits(
    restarts: 4, window: .seconds(60), backOff: .seconds(1), maximumBackOff: .seconds(5))

  @Test func backsOffThenGivesUp() {
    var policy = RestartPolicy(limits: limits)
    var waits: [Duration] = []
    for second in 0..<4 {
      guard case .restart(let wait) = policy.ended(.signal(11), ran: .zero, now: .seconds(second)) else {
        Issue.record("gave up early")
        return
      }
      waits.append(wait)
    }
    #expect(waits == [.seconds(1), .seconds(2), .seconds(4), .seconds(5)])
    guard case .giveUp(let reason) = policy.ended(.signal(11), ran: .zero, now: .seconds(5)) else {
      Issue.record("never gave up")
      return
    }
    #expect(reason == "it ended 5 times within 60.0 seconds")
  }

  @Test func aLongRunStartsAfresh() {
    var policy = RestartPolicy(limits: limits)
    for second in 0..<4 { _ = policy.ended(.code(1), ran: .zero, now: .seconds(second)) }
    #expect(policy.ended(.code(0), ran: .seconds(100), now: .seconds(110)) == .restart(after: .seconds(1)))
  }

  @Test(arguments: [64, 65] as [Int32]) func hopelessStartsAreNotRepeated(_ code: Int32) {
    var policy = RestartPolicy(limits: limits)
    guard case .giveUp = policy.ended(.code(code), ran: .seconds(1000), now: .seconds(1000)) else {
      Issue.record("restarted after exit code \(code)")
      return
    }
  }

  /// Whatever the times, never more restarts than the limit in any window, and never a wait outside the bounds.
  @Test func limitsHoldForRandomHistories() {
    for seed in 0..<200 as Range<UInt64> {
      var generator = SplitMix64(seed: seed)
      var policy = RestartPolicy(limits: limits)
      var now = Duration.zero
      var restarts: [Duration] = []
      for _ in 0..<50 {
        let ran = Duration.milliseconds(Int.random(in: 0..<90_000, using: &generator))
        now += ran
        guard case .restart(let wait) = policy.ended(.code(70), ran: ran, now: now) else { continue }
        #expect(wait >= limits.backOff && wait <= limits.maximumBackOff, "seed \(seed)")
        restarts.append(now)
        #expect(restarts.count { now - $0 < limits.window } <= limits.restarts, "seed \(seed)")
      }
    }
  }

  @Test func noRestartsAtAll() {
    var policy = RestartPolicy(limits: .init(restarts: 0))
    guard case .giveUp = policy.ended(.code(1), ran: .zero, now: .zero) else {
      Issue.record("restarted although none is allowed")
      return
    }
  }
}

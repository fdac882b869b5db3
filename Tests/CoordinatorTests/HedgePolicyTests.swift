import Core
import Testing

@testable import Coordinator

@Suite struct HedgePolicyTests {
  static let millisecond: UInt64 = 1_000_000

  @Test("no budget before enough is known; then a multiple of the percentile of steps of the same kind")
  func budget() {
    var limits = HedgePolicy.Limits()
    limits.minimum = 1
    var policy = HedgePolicy(limits: limits)
    for time in 1...UInt64(HedgePolicy.minimumSamples) {
      #expect(policy.began(tokens: 1, fullRow: false) == nil)
      policy.observed(time * Self.millisecond, tokens: 1, fullRow: false)
    }
    // The 99th percentile of 1 to 32 ms is 32 ms.
    #expect(policy.began(tokens: 1, fullRow: false) == 64 * Self.millisecond)
    #expect(policy.began(tokens: 2, fullRow: false) == nil && policy.began(tokens: 1, fullRow: true) == nil)
    // Old times are forgotten.
    for _ in 0..<HedgePolicy.window + 16 { policy.observed(Self.millisecond, tokens: 1, fullRow: false) }
    #expect(policy.began(tokens: 1, fullRow: false) == 2 * Self.millisecond)
    var careful = HedgePolicy()
    for _ in 0..<100 { careful.observed(Self.millisecond, tokens: 1, fullRow: false) }
    #expect(careful.began(tokens: 1, fullRow: false) == HedgePolicy.Limits().minimum)
  }

  @Test("whatever is slow, hedges never exceed their share of the steps, and with a share of 0 there are none")
  func share() {
    let seed = UInt64.random(in: 0...UInt64.max)
    print("HedgePolicyTests.share: seed \(seed)")
    var random = SplitMix64(seed: seed)
    for _ in 0..<50 {
      var limits = HedgePolicy.Limits()
      limits.share = Bool.random(using: &random) ? Double.random(in: 0...0.3, using: &random) : 0
      limits.savings = Double.random(in: 1...20, using: &random)
      var policy = HedgePolicy(limits: limits)
      for step in 1...2000 {
        let tokens = Int.random(in: 0...100, using: &random)
        let budget = policy.began(tokens: tokens, fullRow: false)
        #expect(limits.share > 0 || budget == nil)
        policy.observed(UInt64.random(in: 1...1_000_000_000, using: &random), tokens: tokens, fullRow: false)
        for _ in 0..<Int.random(in: 0...3, using: &random) { _ = policy.spend() }
        #expect(Double(policy.hedges) <= limits.share * Double(step) + 1e-6)
      }
      #expect(limits.share == 0 || policy.hedges > 0 || limits.share * 2000 < 1.1)
      #expect(policy.steps == 2000)
    }
  }

  @Test("what was saved up covers a replica that fails with many sequences, and no more")
  func savings() {
    var policy = HedgePolicy()
    for _ in 0..<10_000 { _ = policy.began(tokens: 1, fullRow: false) }
    let allowed = (0..<100).count { _ in policy.spend() }
    #expect(allowed == Int(HedgePolicy.Limits().savings))
  }
}

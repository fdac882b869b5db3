import Core
import Testing

@testable import Coordinator

@Suite struct TokenBucketTests {
  @Test("in any window no key gets more than its burst and what regrows, and never less than its rate allows")
  func rates() {
    let seed = UInt64.random(in: 0...UInt64.max)
    print("token buckets: seed \(seed)")
    var random = SplitMix64(seed: seed)
    for _ in 0..<50 {
      let (burst, rate) = (Int.random(in: 1...20, using: &random), Int.random(in: 1...100, using: &random))
      var buckets = TokenBuckets<Int>(burst: burst, perSecond: rate)
      var passed: [Int: [Double]] = [:]
      var now: UInt64 = 5_000_000_000
      for _ in 0..<2_000 {
        now += UInt64.random(in: 0...40_000_000, using: &random)
        let key = Int.random(in: 0..<3, using: &random)
        if buckets.take(key, now: now) { passed[key, default: []].append(Double(now) / 1e9) }
      }
      for times in passed.values {
        for (i, start) in times.enumerated() {
          for j in i..<min(times.count, i + 60) {
            let allowed = Double(burst) + (times[j] - start) * Double(rate)
            #expect(Double(j - i + 1) <= allowed + 1e-6, "seed \(seed)")
          }
        }
      }
      // Whoever keeps to the rate is never refused.
      var steady: UInt64 = now + 100_000_000_000
      for _ in 0..<100 {
        let isWithin = buckets.take(9, now: steady)
        #expect(isWithin, "seed \(seed)")
        steady += 1_000_000_000 / UInt64(rate) + 1
      }
    }
  }

  @Test("the number of keys is bounded: those that are idle make room, and new ones wait until they do")
  func capacity() {
    var buckets = TokenBuckets<Int>(burst: 2, perSecond: 1, capacity: 100)
    func take(_ key: Int, at now: UInt64) -> Bool { buckets.take(key, now: now) }
    for key in 0..<100 { #expect(take(key, at: 0)) }
    for key in 100..<10_000 { #expect(!take(key, at: 500_000_000)) }
    #expect(buckets.count == 100)
    // Known ones are served all the while.
    #expect(take(7, at: 500_000_001) && !take(7, at: 500_000_002))
    // After a second all but one are full again.
    #expect(take(10_000, at: 1_100_000_000))
    #expect(buckets.count == 2)
    buckets.forget(7)
    #expect(buckets.count == 1)
  }
}

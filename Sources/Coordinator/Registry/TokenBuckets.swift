/// A rate limit for each of many keys: a bucket holds `burst` tokens, regains `perSecond`, and what finds it empty is
/// over the limit. Times are nanoseconds of a monotonic clock.
///
/// Keys come from outside, so their number is bounded: a bucket that is full again is the same as none and is forgotten;
/// when none is, new keys are over the limit.
struct TokenBuckets<Key: Hashable & Sendable>: Sendable {
  private struct Bucket {
    var tokens: Double
    var updated: UInt64
  }

  let burst: Double
  let perSecond: Double
  let capacity: Int
  private var buckets: [Key: Bucket] = [:]
  /// When making room was last of no use.
  private var sweptInVain: UInt64?

  init(burst: Int, perSecond: Int, capacity: Int = 8_192) {
    self.burst = Double(max(1, burst))
    self.perSecond = Double(max(1, perSecond))
    self.capacity = max(1, capacity)
  }

  var count: Int { buckets.count }

  /// Takes a token of the key's; false if there is none left.
  mutating func take(_ key: Key, now: UInt64) -> Bool {
    if buckets[key] == nil, buckets.count >= capacity, !makeRoom(now: now) { return false }
    var bucket = buckets[key] ?? Bucket(tokens: burst, updated: now)
    bucket.tokens = level(of: bucket, now: now)
    bucket.updated = now
    let isWithin = bucket.tokens >= 1
    if isWithin { bucket.tokens -= 1 }
    buckets[key] = bucket
    return isWithin
  }

  mutating func forget(_ key: Key) { buckets[key] = nil }

  private func level(of bucket: Bucket, now: UInt64) -> Double {
    guard now > bucket.updated else { return bucket.tokens }
    return min(burst, bucket.tokens + Double(now - bucket.updated) / 1e9 * perSecond)
  }

  private mutating func makeRoom(now: UInt64) -> Bool {
    // Not for every message of a flood.
    if let sweptInVain, now >= sweptInVain, now - sweptInVain < 100_000_000 { return false }
    buckets = buckets.filter { level(of: $0.value, now: now) < burst }
    sweptInVain = buckets.count < capacity ? nil : now
    return buckets.count < capacity
  }
}

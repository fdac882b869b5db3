internal import Foundation

/// Which replica gets a sequence: where it costs least, counted in tokens' forward passes at the expert's usual speed.
///
/// A sequence pays for the tokens of its prefix that the replica lacks, for the company it would have there, both times
/// the replica's slowness, and for faults that the replica had of late. One without a free slot is taken only when none
/// has one: a further sequence there pushes another out of the cache.
struct PlacementPolicy: Sendable {
  struct Candidate: Sendable, Equatable {
    var id: ReplicaID
    var slots: Int
    /// Sequences placed on it.
    var assigned = 0
    /// Requests under way with it.
    var pending = 0
    /// Leading tokens of the new sequence that it holds.
    var held = 0
    /// Its step time over that of the fastest, 1 if nothing is known.
    var slowness = 1.0
    /// Recent faults, weighted.
    var burden = 0.0

    var hasRoom: Bool { assigned < slots }
  }

  /// What a replica whose slots are all taken costs more than an empty one: as much as so many tokens to read.
  static let fullLoad = 512.0
  /// What one recent fault costs.
  static let fault = 4096.0
  /// A replica is held to be at most so many times slower than another, however it was measured.
  static let maximumSlowness = 16.0

  /// - Parameter tokens: of the sequence's prefix.
  static func cost(_ candidate: Candidate, tokens: Int) -> Double {
    let missing = Double(max(0, tokens - candidate.held))
    let load = Double(candidate.assigned) / Double(max(1, candidate.slots))
    let slowness = min(max(1, candidate.slowness), maximumSlowness)
    return slowness * (missing + load * fullLoad) + candidate.burden * fault
  }

  /// The cheapest, of those with a free slot if there are any; of equal ones the least busy, then the eldest.
  static func choose(_ candidates: [Candidate], tokens: Int) -> ReplicaID? {
    let free = candidates.filter(\.hasRoom)
    return (free.isEmpty ? candidates : free).map { ($0, cost($0, tokens: tokens)) }
      .min { ($0.1, $0.0.pending, $0.0.id) < ($1.1, $1.0.pending, $1.0.id) }?.0.id
  }
}

/// How long a replica's small steps take: a mean that recent ones dominate.
struct StepTime: Sendable, Equatable {
  /// Steps of more tokens say more about the prompt than about the replica.
  static let maximumTokens = 4
  private static let share = 0.1

  /// Nanoseconds from sending to the answer; nil before the first.
  private(set) var mean: Double?
  private(set) var measured: UInt64 = 0

  mutating func add(_ nanoseconds: UInt64, now: UInt64) {
    let value = Double(nanoseconds)
    mean = mean.map { $0 + Self.share * (value - $0) } ?? value
    measured = now
  }

  /// How many times slower than `best` it is; what was measured long ago counts ever less, so that a replica which was
  /// slow once is tried again.
  func slowness(comparedTo best: Double, now: UInt64) -> Double {
    guard let mean, best > 0, mean > best else { return 1 }
    let age = Double(now > measured ? now - measured : 0)
    return 1 + (mean / best - 1) * exp2(-age / HealthBook.halfLife)
  }
}

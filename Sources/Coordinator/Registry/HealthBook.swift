internal import Foundation

/// Which processes and hosts have failed of late; forgiven by half every ten seconds.
struct HealthBook: Sendable {
  /// Nanoseconds in which a fault loses half of its weight.
  static let halfLife = 10e9
  /// Processes and hosts remembered; the least burdened are forgotten first.
  static let capacity = 2048
  /// What a fault of another process on the same host counts.
  static let hostShare = 0.25

  private struct Entry {
    var weight: Double
    var time: UInt64

    func weight(at now: UInt64) -> Double {
      weight * exp2(-Double(now > time ? now - time : 0) / HealthBook.halfLife)
    }
  }

  private var processes: [UInt64: Entry] = [:]
  private var hosts: [String: Entry] = [:]

  /// - Parameters:
  ///   - weight: 1 for a replica that was lost, less for one that was merely slow.
  ///   - now: nanoseconds of a clock that never goes back.
  mutating func fault(incarnation: UInt64, host: String, weight: Double = 1, now: UInt64) {
    Self.add(weight, to: &processes, incarnation, now)
    Self.add(weight * Self.hostShare, to: &hosts, host, now)
  }

  /// Recent faults, weighted; 0 for a process that has none.
  func burden(incarnation: UInt64, host: String, now: UInt64) -> Double {
    (processes[incarnation]?.weight(at: now) ?? 0) + (hosts[host]?.weight(at: now) ?? 0)
  }

  private static func add<Key>(_ weight: Double, to entries: inout [Key: Entry], _ key: Key, _ now: UInt64) {
    entries[key] = Entry(weight: (entries[key]?.weight(at: now) ?? 0) + weight, time: now)
    guard entries.count > capacity / 2 else { return }
    let kept = entries.sorted { $0.value.weight(at: now) > $1.value.weight(at: now) }.prefix(capacity / 4)
    entries = Dictionary(uniqueKeysWithValues: kept.map { ($0.key, $0.value) })
  }
}

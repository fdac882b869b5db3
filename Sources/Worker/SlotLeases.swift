internal import Synchronization

/// Shares this worker's cache slots out among its coordinators: the leases never add up to more than there are.
final class SlotLeases: Sendable {
  private let leases = Mutex<[String: Int]>([:])

  /// Slots that may be offered to a coordinator: all that are not leased to others.
  func available(to endpoint: String, of slots: Int) -> Int {
    leases.withLock { max(0, slots - $0.reduce(0) { $1.key == endpoint ? $0 : $0 + $1.value }) }
  }

  func lease(_ slots: Int, to endpoint: String) { leases.withLock { $0[endpoint] = slots } }

  func end(_ endpoint: String) { leases.withLock { _ = $0.removeValue(forKey: endpoint) } }
}

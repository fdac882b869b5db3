internal import Synchronization

/// Shares this worker's cache slots out among its coordinators: what is leased never adds up to more than there is.
///
/// Each coordinator that is there gets an even share, the earlier ones of the list the odd slots; what is due to those
/// that are not there goes to the others meanwhile. One that comes back waits until the others have given up its share.
struct SlotLedger: Sendable, Equatable {
  let slots: Int
  /// In the order they were given in.
  private let endpoints: [String]
  private var present: Set<String> = []
  /// Offered or leased, whichever is more.
  private(set) var held: [String: Int] = [:]

  init(slots: Int, endpoints: [String]) {
    self.slots = slots
    self.endpoints = endpoints
  }

  /// What a coordinator's share comes to, now or once the others have given it up.
  private func share(of endpoint: String) -> Int {
    let there = endpoints.filter { present.contains($0) || $0 == endpoint }
    guard let place = there.firstIndex(of: endpoint) else { return 0 }
    return slots / there.count + (place < slots % there.count ? 1 : 0)
  }

  /// Slots that can be offered to a coordinator at this moment.
  func due(to endpoint: String) -> Int {
    let others = held.reduce(0) { $1.key == endpoint ? $0 : $0 + $1.value }
    return max(0, min(share(of: endpoint), slots - others))
  }

  /// Offers them: until it is answered they, and those leased before, are nobody else's.
  mutating func offer(to endpoint: String) -> Int {
    present.insert(endpoint)
    let offered = due(to: endpoint)
    held[endpoint] = max(offered, held[endpoint] ?? 0)
    return offered
  }

  /// The coordinator took so many; no more than others have left.
  mutating func lease(_ leased: Int, to endpoint: String) {
    present.insert(endpoint)
    let others = held.reduce(0) { $1.key == endpoint ? $0 : $0 + $1.value }
    held[endpoint] = min(max(0, leased), max(0, slots - others))
  }

  /// The coordinator has gone.
  mutating func end(_ endpoint: String) {
    present.remove(endpoint)
    held[endpoint] = nil
  }
}

/// The ledger, shared by the worker's links.
final class SlotLeases: Sendable {
  private let ledger: Mutex<SlotLedger>

  init(slots: Int, endpoints: [String]) { ledger = Mutex(SlotLedger(slots: slots, endpoints: endpoints)) }

  func due(to endpoint: String) -> Int { ledger.withLock { $0.due(to: endpoint) } }

  func offer(to endpoint: String) -> Int { ledger.withLock { $0.offer(to: endpoint) } }

  func lease(_ slots: Int, to endpoint: String) { ledger.withLock { $0.lease(slots, to: endpoint) } }

  func end(_ endpoint: String) { ledger.withLock { $0.end(endpoint) } }
}

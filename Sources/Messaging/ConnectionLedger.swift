/// The book of open connections: who is over a limit. Times are nanoseconds of a monotonic clock that the caller passes
/// in; connections are known by any number that is theirs while they are open.
///
/// ZeroMQ does not say which connection has finished its handshake. But one that has not is closed after
/// `handshake`, so those that came within that time are all that can be half-open.
struct ConnectionLedger: Sendable {
  private struct Address {
    var open = 0
    /// When its connections came that are younger than `handshake`; some may have ended since.
    var arrivals: [UInt64] = []
    var isEmpty: Bool { open == 0 && arrivals.isEmpty }
  }

  let handshake: UInt64
  private var addresses: [String: Address] = [:]
  private var connections: [Int32: String] = [:]
  private var arrivals: [UInt64] = []
  private var lastSweep: UInt64 = 0

  init(handshake: UInt64) { self.handshake = handshake }

  var count: Int { connections.count }
  var addressCount: Int { addresses.count }

  /// Whether a new connection may stay. One that may not is not counted: a flood does not lock its address out for
  /// longer than it lasts.
  mutating func accept(_ connection: Int32, from address: String, limits: ConnectionLimits, now: UInt64) -> Bool {
    // The number is in use again: the one before has ended.
    end(connection)
    sweep(now: now)
    var entry = addresses[address] ?? Address()
    // In order of time.
    entry.arrivals = Array(entry.arrivals.drop { isOld($0, now) })
    arrivals = Array(arrivals.drop { isOld($0, now) })
    defer { addresses[address] = entry.isEmpty ? nil : entry }
    guard count < limits.total, entry.open < limits.perAddress, arrivals.count < limits.new,
      entry.arrivals.count < limits.newPerAddress
    else { return false }
    entry.open += 1
    entry.arrivals.append(now)
    arrivals.append(now)
    connections[connection] = address
    return true
  }

  mutating func end(_ connection: Int32) {
    guard let address = connections.removeValue(forKey: connection), var entry = addresses[address] else { return }
    entry.open -= 1
    addresses[address] = entry.isEmpty ? nil : entry
  }

  private func isOld(_ arrival: UInt64, _ now: UInt64) -> Bool { now >= arrival && now - arrival >= handshake }

  /// Forgets addresses without connections whose arrivals have grown old.
  private mutating func sweep(now: UInt64) {
    guard isOld(lastSweep, now) else { return }
    lastSweep = now
    for (address, entry) in addresses where entry.open == 0 && entry.arrivals.allSatisfy({ isOld($0, now) }) {
      addresses[address] = nil
    }
  }
}

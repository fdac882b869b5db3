#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// Keeps a server's TCP connections within their limits. ZeroMQ has no such limits, but its monitor names the descriptor
/// of every connection it accepts.
struct ConnectionGuard {
  /// Between two lines in the log.
  private static let complaintInterval = Duration.seconds(10)

  private struct Refused {
    var descriptor: Int32
    var peer: [UInt8]
  }

  private var ledger: ConnectionLedger
  private let limits: ConnectionLimits
  /// The ports it listens on, in network order.
  private let ports: Set<UInt16>
  private var refused: [Refused] = []
  private var complaint = Timer()
  private var hasComplained = false

  init(endpoints: [String], limits: ConnectionLimits, handshake: Duration) {
    ledger = ConnectionLedger(handshake: Monotonic.nanoseconds(handshake))
    self.limits = limits
    ports = Set(
      endpoints.filter { $0.hasPrefix("tcp://") }.compactMap { UInt16($0.split(separator: ":").last ?? "") }.map(
        \.bigEndian)
    )
  }

  /// Open connections.
  var count: Int { ledger.count }

  /// ZeroMQ has accepted a connection.
  mutating func accepted(_ descriptor: Int32) {
    // UNIX sockets have no address; who may connect is a matter of the file's permissions.
    guard let peer = Self.address(of: descriptor, getpeername), let host = Self.host(peer) else { return }
    if !ledger.accept(descriptor, from: host, limits: affordable, now: Monotonic.now()) {
      refused.append(Refused(descriptor: descriptor, peer: peer))
    }
  }

  /// ZeroMQ is about to close a connection.
  mutating func ended(_ descriptor: Int32) {
    ledger.end(descriptor)
    refused.removeAll { $0.descriptor == descriptor }
  }

  /// Hangs up on those over a limit; ZeroMQ then closes them. Returns how many.
  mutating func closeRefused() -> Int {
    defer { refused.removeAll() }
    return refused.count { Self.hangUp($0, ports: ports) }
  }

  /// Whether the log may have a line about it now.
  mutating func mayComplain() -> Bool {
    guard !hasComplained || complaint.fire(now: Monotonic.now()) else { return false }
    hasComplained = true
    complaint.set(after: Self.complaintInterval)
    return true
  }

  /// The limits, as far as the process has descriptors for them: others in it need some too.
  private var affordable: ConnectionLimits {
    var limits = limits
    var descriptors = rlimit()
    #if canImport(Glibc)
      let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
    #else
      let resource = RLIMIT_NOFILE
    #endif
    guard getrlimit(resource, &descriptors) == 0 else { return limits }
    let all = Int(clamping: descriptors.rlim_cur)
    limits.total = min(limits.total, max(1, all / 2))
    limits.new = min(limits.new, max(1, all / 4))
    return limits
  }

  /// The descriptor may be another's by now, and even while we look: a copy of it stays what it is, so look at that.
  private static func hangUp(_ refused: Refused, ports: Set<UInt16>) -> Bool {
    let copy = fcntl(refused.descriptor, F_DUPFD_CLOEXEC, 0)
    guard copy >= 0 else { return false }
    defer { _ = close(copy) }
    guard address(of: copy, getpeername) == refused.peer, let local = address(of: copy, getsockname),
      let port = port(local),
      ports.contains(port)
    else { return false }
    #if canImport(Glibc)
      return shutdown(copy, Int32(SHUT_RDWR)) == 0
    #else
      return shutdown(copy, SHUT_RDWR) == 0
    #endif
  }

  private typealias NameCall = (Int32, UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32

  /// The socket address as bytes; nil if there is none.
  private static func address(of descriptor: Int32, _ call: NameCall) -> [UInt8]? {
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    let status = withUnsafeMutablePointer(to: &storage) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { call(descriptor, $0, &length) }
    }
    guard status == 0, length <= socklen_t(MemoryLayout<sockaddr_storage>.size) else { return nil }
    return withUnsafeBytes(of: storage) { Array($0.prefix(Int(length))) }
  }

  private static func family(_ address: [UInt8]) -> Int32? {
    guard address.count >= MemoryLayout<sockaddr_in>.size else { return nil }
    return address.withUnsafeBytes { Int32($0.loadUnaligned(as: sockaddr.self).sa_family) }
  }

  private static func port(_ address: [UInt8]) -> UInt16? {
    switch family(address) {
    case AF_INET: address.withUnsafeBytes { $0.loadUnaligned(as: sockaddr_in.self).sin_port }
    case AF_INET6 where address.count >= MemoryLayout<sockaddr_in6>.size:
      address.withUnsafeBytes { $0.loadUnaligned(as: sockaddr_in6.self).sin6_port }
    default: nil
    }
  }

  /// What counts as one address: an IPv4 address, or an IPv6 network of 64 bits, which is what one host may have.
  private static func host(_ address: [UInt8]) -> String? {
    switch family(address) {
    case AF_INET:
      return address.withUnsafeBytes { bytes in
        withUnsafeBytes(of: bytes.loadUnaligned(as: sockaddr_in.self).sin_addr) { text($0) }
      }
    case AF_INET6 where address.count >= MemoryLayout<sockaddr_in6>.size:
      return address.withUnsafeBytes { bytes in
        withUnsafeBytes(of: bytes.loadUnaligned(as: sockaddr_in6.self).sin6_addr) { all in
          // ::ffff:a.b.c.d is an IPv4 address.
          let isMapped = all.prefix(10).allSatisfy { $0 == 0 } && all[10] == 0xFF && all[11] == 0xFF
          return text(UnsafeRawBufferPointer(rebasing: isMapped ? all[12...] : all[..<8]))
        }
      }
    default: return nil
    }
  }

  private static func text(_ bytes: UnsafeRawBufferPointer) -> String { bytes.map(String.init).joined(separator: ".") }
}

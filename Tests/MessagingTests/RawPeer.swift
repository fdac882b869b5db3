import Foundation

/// A peer that speaks ZMTP 3.0 (ZeroMQ RFC 23) by hand over a plain TCP socket, so that it can misbehave.
final class RawPeer {
  private var descriptor: Int32

  /// FF, eight zero bytes, 7F, version 3.0, mechanism NULL, not a server, filler.
  static let greeting: [UInt8] =
    [0xFF, 0, 0, 0, 0, 0, 0, 0, 0, 0x7F, 3, 0] + Array("NULL".utf8) + Array(repeating: 0, count: 48)

  /// READY of a DEALER, with a routing id of its own choice if given.
  static func ready(identity: [UInt8] = []) -> [UInt8] {
    var body: [UInt8] = [5] + Array("READY".utf8)
    body += [11] + Array("Socket-Type".utf8) + [0, 0, 0, 6] + Array("DEALER".utf8)
    if !identity.isEmpty { body += [8] + Array("Identity".utf8) + [0, 0, 0, UInt8(identity.count)] + identity }
    return [4, UInt8(body.count)] + body
  }

  static func frame(_ bytes: [UInt8], more: Bool = false) -> [UInt8] {
    guard bytes.count > 255 else { return [more ? 1 : 0, UInt8(bytes.count)] + bytes }
    return [more ? 3 : 2] + withUnsafeBytes(of: UInt64(bytes.count).bigEndian) { Array($0) } + bytes
  }

  /// Connects to `tcp://127.0.0.1:PORT`.
  init?(_ endpoint: String) {
    guard let port = UInt16(endpoint.split(separator: ":").last ?? "") else { return nil }
    #if canImport(Glibc)
      descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    #else
      descriptor = socket(AF_INET, SOCK_STREAM, 0)
    #endif
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    let status = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard status == 0 else { return nil }
  }

  func write(_ bytes: [UInt8]) {
    var sent = 0
    while sent < bytes.count {
      let count = bytes[sent...].withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
      guard count > 0 else { return }
      sent += count
    }
  }

  /// Shakes hands and sends one message.
  func introduce(_ message: [UInt8], identity: [UInt8] = []) {
    write(Self.greeting + Self.ready(identity: identity))
    // The other side's greeting and READY: what is sent before is a protocol error to it.
    read(count: 64)
    read(count: Int(read(count: 2).last ?? 0))
    write(Self.frame(message))
  }

  /// So many bytes, or fewer if the connection ends or nothing comes for 5 s.
  @discardableResult
  func read(count: Int) -> [UInt8] {
    limitWaiting(seconds: 5)
    var bytes = [UInt8](repeating: 0, count: count)
    var filled = 0
    while filled < count {
      let got = bytes[filled...].withUnsafeMutableBytes { recv(descriptor, $0.baseAddress, $0.count, 0) }
      guard got > 0 else { break }
      filled += got
    }
    return Array(bytes[..<filled])
  }

  private func limitWaiting(seconds: Int) {
    var timeout = timeval(tv_sec: seconds, tv_usec: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
  }

  /// Whether the other side has closed the connection, waiting up to a time.
  func isClosedByPeer(within seconds: Int) -> Bool {
    limitWaiting(seconds: seconds)
    var sink = [UInt8](repeating: 0, count: 4_096)
    while true {
      let count = recv(descriptor, &sink, sink.count, 0)
      if count == 0 || (count < 0 && errno != EAGAIN) { return true }
      if count < 0 { return false }
    }
  }

  func disconnect() {
    if descriptor >= 0 { close(descriptor) }
    descriptor = -1
  }

  deinit { disconnect() }
}

import Foundation
import Synchronization

/// Passes one TCP connection on to a server and keeps what the client sent.
final class Tap: Sendable {
  let endpoint: String
  private let bytes = Mutex<[UInt8]>([])
  private let listener: Int32
  private let done = DispatchSemaphore(value: 0)

  init?(to server: String) {
    guard let target = UInt16(server.split(separator: ":").last ?? "") else { return nil }
    let listener = Self.socket()
    self.listener = listener
    var address = Self.loopback(port: 0)
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let status = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { name in
        bind(listener, name, length) | listen(listener, 1) | getsockname(listener, name, &length)
      }
    }
    guard status == 0 else { return nil }
    endpoint = "tcp://127.0.0.1:\(UInt16(bigEndian: address.sin_port))"
    Thread { [self] in
      let client = accept(listener, nil, nil)
      let upstream = Self.socket()
      var address = Self.loopback(port: target)
      let status = withUnsafePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          connect(upstream, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
      }
      if client >= 0, status == 0 { pass(client, upstream) }
      close(client)
      close(upstream)
      close(listener)
      done.signal()
    }.start()
  }

  /// Waits for the client's end of the connection.
  func stop() { done.wait() }

  var recorded: [UInt8] { bytes.withLock { $0 } }

  /// Until either side hangs up.
  private func pass(_ client: Int32, _ server: Int32) {
    var buffer = [UInt8](repeating: 0, count: 65_536)
    var items = [
      pollfd(fd: client, events: Int16(POLLIN), revents: 0), pollfd(fd: server, events: Int16(POLLIN), revents: 0),
    ]
    while poll(&items, 2, -1) >= 0 {
      for (from, to) in [(0, server), (1, client)] where items[from].revents != 0 {
        let count = recv(items[from].fd, &buffer, buffer.count, 0)
        guard count > 0 else { return }
        if from == 0 { bytes.withLock { $0 += buffer[..<count] } }
        guard send(to, buffer, count, Int32(MSG_NOSIGNAL)) == count else { return }
      }
    }
  }

  private static func socket() -> Int32 {
    #if canImport(Glibc)
      Foundation.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    #else
      Foundation.socket(AF_INET, SOCK_STREAM, 0)
    #endif
  }

  private static func loopback(port: UInt16) -> sockaddr_in {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    return address
  }
}

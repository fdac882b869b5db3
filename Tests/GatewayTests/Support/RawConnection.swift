import Core
import Foundation

#if canImport(Darwin)
  import Darwin
#else
  import Glibc
#endif

/// A TCP connection that sends whatever a test wants, right or wrong, on a thread of its own.
final class RawConnection: @unchecked Sendable {
  // Unchecked: a test uses one from one task at a time.
  private let descriptor: Int32
  private var received: [UInt8] = []
  private var isOpen = true

  /// - Parameter receiveBuffer: bytes that the system keeps unread; small ones make a server wait soon.
  init(port: Int, receiveBuffer: Int32? = nil) throws {
    #if canImport(Darwin)
      let type = SOCK_STREAM
    #else
      let type = Int32(SOCK_STREAM.rawValue)
    #endif
    descriptor = socket(AF_INET, type, 0)
    guard descriptor >= 0 else { throw FusionRouteError.internal("no socket: \(errno)") }
    var on: Int32 = 1
    setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
    if var receiveBuffer {
      setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &receiveBuffer, socklen_t(MemoryLayout<Int32>.size))
    }
    // Nothing here waits for ever.
    var wait = timeval(tv_sec: 30, tv_usec: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &wait, socklen_t(MemoryLayout<timeval>.size))
    setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &wait, socklen_t(MemoryLayout<timeval>.size))
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = in_port_t(port).bigEndian
    address.sin_addr.s_addr = inet_addr("127.0.0.1")
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard result == 0 else { throw FusionRouteError.internal("cannot connect: \(errno)") }
  }

  deinit { disconnect() }

  func disconnect() {
    if isOpen { close(descriptor) }
    isOpen = false
  }

  /// Sends no more, but still reads.
  func finishSending() { shutdown(descriptor, Int32(SHUT_WR)) }

  /// False if the server has closed the connection.
  @discardableResult
  func send(_ text: String) -> Bool { send(Array(text.utf8)) }

  @discardableResult
  func send(_ bytes: [UInt8]) -> Bool {
    var rest = bytes[...]
    while !rest.isEmpty {
      #if canImport(Darwin)
        let count = rest.withUnsafeBytes { Darwin.send(descriptor, $0.baseAddress, $0.count, 0) }
      #else
        let count = rest.withUnsafeBytes {
          Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
        }
      #endif
      if count <= 0 { return false }
      rest = rest.dropFirst(count)
    }
    return true
  }

  /// Reads once; false at the end, whether it was closed or reset.
  private func receive() -> Bool {
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    let count = buffer.withUnsafeMutableBytes { recv(descriptor, $0.baseAddress, $0.count, 0) }
    guard count > 0 else { return false }
    received += buffer.prefix(count)
    return true
  }

  var text: String { String(decoding: received, as: UTF8.self) }

  /// Reads until the text contains `mark`; false if the connection ends, or is silent for 30 s, before.
  func read(until mark: String) async -> Bool {
    await Self.onThread { [self] in
      let mark = Array(mark.utf8)
      while received.firstRange(of: mark) == nil { if !receive() { return false } }
      return true
    }
  }

  /// Everything until the server closes the connection; nil if it does not within 30 s of silence.
  func readToEnd() async -> String? {
    await Self.onThread { [self] in
      while receive() {}
      return errno == EAGAIN || errno == EWOULDBLOCK ? nil : text
    }
  }

  /// Like `readToEnd`, but reads from now on, however long tasks have to wait for a thread: an answer that lies unread when the
  /// service resets the connection is lost.
  func readingToEnd() -> AsyncStream<String?> {
    AsyncStream { continuation in
      Thread.detachNewThread { [self] in
        errno = 0
        while receive() {}
        continuation.yield(errno == EAGAIN || errno == EWOULDBLOCK ? nil : text)
        continuation.finish()
      }
    }
  }

  static func onThread<R: Sendable>(_ work: @escaping @Sendable () -> R) async -> R {
    await withCheckedContinuation { continuation in
      Thread.detachNewThread {
        errno = 0
        continuation.resume(returning: work())
      }
    }
  }
}

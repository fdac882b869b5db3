internal import CZeroMQ
internal import Core

#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// A ZeroMQ context: its own I/O thread, its own inproc names.
final class Context: @unchecked Sendable {
  // Unchecked: a context handle may be used from any thread, and is not changed after `init`.
  private let handle: UnsafeMutableRawPointer

  init() throws {
    guard let handle = zmq_ctx_new() else { throw SocketError.last("cannot make a ZeroMQ context") }
    self.handle = handle
  }

  func socket(_ type: Int32) throws -> Socket {
    guard let socket = zmq_socket(handle, type) else { throw SocketError.last("cannot make a ZeroMQ socket") }
    return Socket(handle: socket)
  }

  /// Ends the context. All its sockets must be closed; waits for the lingering ones.
  func terminate() {
    while zmq_ctx_term(handle) != 0 && zmq_errno() == EINTR {}
  }
}

enum SocketError {
  static func text(_ code: Int32) -> String { String(cString: zmq_strerror(code)) }

  static func last(_ what: String) -> FusionRouteError {
    .unavailable("\(what): \(text(zmq_errno()))")
  }
}

/// A ZeroMQ socket, used by one thread at a time: made and configured by one, then owned by the I/O thread.
final class Socket {
  let handle: UnsafeMutableRawPointer

  init(handle: UnsafeMutableRawPointer) { self.handle = handle }

  func close() { zmq_close(handle) }

  func set(_ option: Int32, _ value: Int32) throws {
    var value = value
    guard zmq_setsockopt(handle, option, &value, MemoryLayout<Int32>.size) == 0 else {
      throw SocketError.last("cannot set ZeroMQ option \(option)")
    }
  }

  func set(_ option: Int32, _ value: Int64) throws {
    var value = value
    guard zmq_setsockopt(handle, option, &value, MemoryLayout<Int64>.size) == 0 else {
      throw SocketError.last("cannot set ZeroMQ option \(option)")
    }
  }

  /// Text options; Z85 keys are passed with their NUL, as the library wants them.
  func set(_ option: Int32, key: String) throws {
    guard zmq_setsockopt(handle, option, key, key.utf8.count + 1) == 0 else {
      throw SocketError.last("cannot set a CURVE key")
    }
  }

  func set(_ option: Int32, text: String) throws {
    guard zmq_setsockopt(handle, option, text, text.utf8.count) == 0 else {
      throw SocketError.last("cannot set ZeroMQ option \(option)")
    }
  }

  /// The address of the last bind, wildcards resolved.
  var lastEndpoint: String {
    var buffer = [CChar](repeating: 0, count: 512)
    var size = buffer.count
    guard zmq_getsockopt(handle, ZMQ_LAST_ENDPOINT, &buffer, &size) == 0 else { return "" }
    return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  /// Options every socket gets before it binds or connects.
  func configure(_ options: MessagingOptions, secured: Bool) throws {
    try set(ZMQ_LINGER, Int32(0))
    try set(ZMQ_SNDHWM, options.highWaterMark)
    try set(ZMQ_RCVHWM, options.highWaterMark)
    // The library counts the encrypted bytes: flags, nonce and authenticator are 33 more.
    try set(ZMQ_MAXMSGSIZE, Int64(options.maximumFrameBytes + (secured ? 64 : 0)))
    try set(ZMQ_HANDSHAKE_IVL, options.handshakeTimeout.milliseconds)
    try set(ZMQ_CONNECT_TIMEOUT, options.connectTimeout.milliseconds)
    try set(ZMQ_RECONNECT_IVL, options.reconnectInterval.first.milliseconds)
    try set(ZMQ_RECONNECT_IVL_MAX, options.reconnectInterval.longest.milliseconds)
    try set(ZMQ_IMMEDIATE, Int32(1))
    try set(ZMQ_BACKLOG, options.backlog)
    try set(ZMQ_HEARTBEAT_IVL, options.heartbeatInterval.milliseconds)
    try set(ZMQ_HEARTBEAT_TIMEOUT, options.heartbeatTimeout.milliseconds)
    try set(ZMQ_HEARTBEAT_TTL, options.heartbeatTimeout.milliseconds)
  }

  /// Sends one frame without waiting; the errno if it could not.
  func send(_ bytes: UnsafeRawBufferPointer, more: Bool) -> Int32 {
    while zmq_send(handle, bytes.baseAddress, bytes.count, ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0)) < 0 {
      let code = zmq_errno()
      if code != EINTR { return code }
    }
    return 0
  }

  /// Sends all frames of a message without waiting; the errno if not even the first could be sent.
  func send(_ frames: [[UInt8]], more: Bool = false) -> Int32 {
    for (i, frame) in frames.enumerated() {
      let code = frame.withUnsafeBytes { send($0, more: more || i + 1 < frames.count) }
      if code != 0 { return code }
    }
    return 0
  }
}

extension Duration {
  /// Whole milliseconds, at least 1 for anything above zero.
  var milliseconds: Int32 {
    let (seconds, attoseconds) = components
    guard seconds < 2_000_000 else { return 2_000_000_000 }
    let value = seconds * 1_000 + attoseconds / 1_000_000_000_000_000
    return self > .zero ? Int32(max(1, value)) : 0
  }
}

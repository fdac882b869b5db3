internal import CZeroMQ

#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// Reads whole messages off a socket, within the limits.
struct Receiver {
  enum Outcome {
    case message(Message)
    /// One message was read and dropped: too many frames or bytes, or a routing id of the peer's own making.
    case dropped
    case nothing
  }

  struct Message {
    var peer: PeerID?
    var frames: [[UInt8]]
    var bytes: Int
    /// What the ZAP handler said of the connection.
    var userID: String?
  }

  let options: MessagingOptions
  /// ROUTER: the first frame is the peer's routing id.
  let isRouter: Bool
  let isSecured: Bool

  func next(_ socket: Socket) -> Outcome {
    var message = zmq_msg_t()
    zmq_msg_init(&message)
    defer { zmq_msg_close(&message) }
    var result = Message(frames: [], bytes: 0)
    var isGood = true
    var isFirst = true
    while true {
      guard receive(&message, socket) else { return isFirst ? .nothing : .dropped }
      let bytes = UnsafeRawBufferPointer(start: zmq_msg_data(&message), count: zmq_msg_size(&message))
      if isFirst && isRouter {
        result.peer = PeerID(routingID: bytes)
        isGood = result.peer != nil
      } else if isGood {
        result.bytes += bytes.count
        isGood =
          result.frames.count < options.maximumFrames && result.bytes <= options.maximumMessageBytes
          && bytes.count <= options.maximumFrameBytes
        if isGood { result.frames.append(Array(bytes)) } else { result.frames = [] }
      }
      isFirst = false
      if zmq_msg_more(&message) == 0 { break }
    }
    guard isGood, !result.frames.isEmpty else { return .dropped }
    if isSecured, let userID = zmq_msg_gets(&message, "User-Id") {
      result.userID = String(cString: userID)
    }
    return .message(result)
  }

  private func receive(_ message: inout zmq_msg_t, _ socket: Socket) -> Bool {
    while zmq_msg_recv(&message, socket.handle, ZMQ_DONTWAIT) < 0 {
      if zmq_errno() != EINTR { return false }
    }
    return true
  }
}

/// An event of a socket's monitor.
struct MonitorEvent {
  let kind: Int32
  let value: Int32

  /// The next event; nil if there is none.
  static func next(_ monitor: Socket) -> MonitorEvent? {
    var buffer: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
    let size = zmq_recv(monitor.handle, &buffer, 32, ZMQ_DONTWAIT)
    guard size >= 0 else { return nil }
    var event: MonitorEvent?
    if size == 6 {
      event = withUnsafeBytes(of: buffer) {
        MonitorEvent(
          kind: Int32($0.loadUnaligned(fromByteOffset: 0, as: UInt16.self)),
          value: $0.loadUnaligned(fromByteOffset: 2, as: Int32.self))
      }
    }
    // The second frame is the endpoint.
    while hasMore(monitor) {
      if zmq_recv(monitor.handle, &buffer, 32, ZMQ_DONTWAIT) < 0 { break }
    }
    return event ?? MonitorEvent(kind: 0, value: 0)
  }

  private static func hasMore(_ socket: Socket) -> Bool {
    var more: Int32 = 0
    var size = MemoryLayout<Int32>.size
    return zmq_getsockopt(socket.handle, ZMQ_RCVMORE, &more, &size) == 0 && more != 0
  }
}

internal import CZeroMQ
internal import Core

/// Sockets of one context while it is being set up, so that a failure half-way closes what there is.
final class SocketScope {
  let context: Context
  private var sockets: [Socket] = []

  init(context: Context) { self.context = context }

  func socket(_ type: Int32) throws -> Socket {
    let socket = try context.socket(type)
    sockets.append(socket)
    try socket.set(ZMQ_LINGER, Int32(0))
    return socket
  }

  /// A PAIR socket that reports `events` of another.
  func monitor(_ socket: Socket, name: String, events: Int32) throws -> Socket {
    let address = "inproc://\(name)"
    guard zmq_socket_monitor(socket.handle, address, events) == 0 else {
      throw SocketError.last("cannot monitor a ZeroMQ socket")
    }
    let pair = try self.socket(ZMQ_PAIR)
    guard zmq_connect(pair.handle, address) == 0 else { throw SocketError.last("cannot monitor a ZeroMQ socket") }
    return pair
  }

  func closeAll() {
    for socket in sockets { socket.close() }
    context.terminate()
  }
}

internal import CZeroMQ
internal import Core

#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// What the client's I/O thread does. Made on the caller's thread, then used by the I/O thread alone.
final class ClientLoop {
  /// The only peer of a client's outbox.
  static let server = PeerID(number: 0)
  private static let receiveBatch = 256

  private let context: Context
  private let dealer: Socket
  private let monitor: Socket
  private let receiver: Receiver
  private let endpoint: Endpoint
  private let options: MessagingOptions
  private let handler: any ClientHandler
  private let outbox: Outbox
  private let counters: Counters
  private let link: ClientLink

  /// Messages that ZeroMQ has not taken yet (its queue is full), in order.
  private var stalled: [Outbox.Item] = []
  private var tick = Timer()
  /// ZeroMQ gives a connection up for good after some errors (a refused key, a frame over the limit): then, and
  /// whenever there has been no connection for long, it is made anew.
  private var reconnect = Timer()
  private var refusedPause = firstRefusedPause
  private static let firstRefusedPause = Duration.seconds(1)

  init(
    endpoint: Endpoint, security: ClientSecurity?, options: MessagingOptions, handler: any ClientHandler,
    outbox: Outbox, counters: Counters, link: ClientLink
  ) throws {
    self.endpoint = endpoint
    self.options = options
    self.handler = handler
    self.outbox = outbox
    self.counters = counters
    self.link = link
    receiver = Receiver(options: options, isRouter: false, isSecured: false)
    let scope = SocketScope(context: try Context())
    do {
      context = scope.context
      dealer = try scope.socket(ZMQ_DEALER)
      try dealer.configure(options, secured: security != nil)
      try security?.apply(to: dealer)
      try dealer.set(ZMQ_IPV6, Int32(endpoint.needsIPv6 ? 1 : 0))
      monitor = try scope.monitor(dealer, name: "client-monitor", events: Self.watched)
      guard zmq_connect(dealer.handle, endpoint.text) == 0 else {
        throw FusionRouteError.badInput("cannot connect to \"\(endpoint.text)\": \(SocketError.text(zmq_errno()))")
      }
    } catch {
      scope.closeAll()
      throw error
    }
  }

  private static let watched =
    ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH

  /// Until the outbox is closed.
  func run() {
    outbox.bindToThisThread()
    tick.set(after: options.tickInterval)
    reconnect.set(after: longWithout)
    var items = [
      zmq_pollitem_t(socket: nil, fd: outbox.wake.readEnd, events: Int16(ZMQ_POLLIN), revents: 0),
      zmq_pollitem_t(socket: dealer.handle, fd: 0, events: Int16(ZMQ_POLLIN), revents: 0),
      zmq_pollitem_t(socket: monitor.handle, fd: 0, events: Int16(ZMQ_POLLIN), revents: 0),
    ]
    while !outbox.isClosed {
      items[1].events = Int16(stalled.isEmpty ? ZMQ_POLLIN : ZMQ_POLLIN | ZMQ_POLLOUT)
      let wait = outbox.isEmpty ? Timer.wait([tick, reconnect]) : 0
      guard zmq_poll(&items, Int32(items.count), wait) >= 0 || zmq_errno() == EINTR else {
        options.logger.error("polling failed", metadata: ["error": "\(SocketError.text(zmq_errno()))"])
        break
      }
      if items[0].revents != 0 { outbox.wake.clear() }
      // Before sending: what waits from an earlier connection must not go out on the next.
      if items[2].revents != 0 { readMonitor() }
      if items[1].revents != 0 { receive() }
      flush()
      let now = Monotonic.now()
      if reconnect.fire(now: now) { connectAnew() }
      if tick.fire(now: now) {
        handler.tick()
        tick.set(after: options.tickInterval)
      }
    }
    flush()
    link.set(up: false)
    close()
  }

  /// Closes the sockets and ends the context; waits for what may linger.
  func close() {
    try? dealer.set(ZMQ_LINGER, outbox.flushing.milliseconds)
    zmq_socket_monitor(dealer.handle, nil, 0)
    monitor.close()
    dealer.close()
    context.terminate()
  }

  private func readMonitor() {
    while let event = MonitorEvent.next(monitor) {
      switch event.kind {
      case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
        link.set(up: true)
        reconnect.cancel()
        refusedPause = Self.firstRefusedPause
        handler.connected()
      case ZMQ_EVENT_DISCONNECTED:
        guard link.isUp else { continue }
        link.set(up: false)
        let lost = outbox.clear() + stalled.count
        stalled = []
        counters.update {
          $0.disconnects += 1
          $0.droppedUnreachable += UInt64(lost)
        }
        reconnect.set(after: longWithout)
        handler.disconnected()
      case 0: break
      default:
        counters.update { $0.handshakeFailures += 1 }
        reconnect.set(after: refusedPause)
        refusedPause = min(refusedPause * 2, options.reconnectInterval.longest)
        handler.refused(refusal(event))
      }
    }
  }

  /// Longer than any attempt ZeroMQ makes by itself, so that none is cut short.
  private var longWithout: Duration {
    options.reconnectInterval.longest + options.connectTimeout + options.handshakeTimeout
  }

  private func connectAnew() {
    zmq_disconnect(dealer.handle, endpoint.text)
    zmq_connect(dealer.handle, endpoint.text)
    reconnect.set(after: longWithout)
  }

  private func refusal(_ event: MonitorEvent) -> FusionRouteError {
    let what = "the coordinator at \"\(endpoint.text)\" did not let this worker in"
    switch event.kind {
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
      return .unavailable(
        "\(what): the worker's key is not in the allow-list; add it to allowed/ in its keys directory")
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
      return .unavailable("\(what): one side uses keys and the other does not, or they are not each other's keys")
    default:
      // The other side hung up: a server that expects keys does so on a client without, or with its wrong public key.
      return .unavailable(
        "\(what): it hung up during the handshake; see that both sides use keys or neither does, and that "
          + "coordinator.pub is this coordinator's")
    }
  }

  private func receive() {
    for _ in 0..<Self.receiveBatch {
      switch receiver.next(dealer) {
      case .nothing: return
      case .dropped: counters.update { $0.droppedMalformed += 1 }
      case .message(let message):
        counters.update {
          $0.received += 1
          $0.receivedBytes += UInt64(message.bytes)
        }
        handler.received(message.frames)
        if !outbox.isEmpty { flush() }
      }
    }
  }

  private func flush() {
    stalled += outbox.drain()
    guard !stalled.isEmpty else { return }
    var left = stalled[...]
    while let item = left.first {
      let code = dealer.send(item.frames)
      guard code == 0 else { break }
      left.removeFirst()
      outbox.settle(Self.server, bytes: item.bytes)
      counters.update {
        $0.sent += 1
        $0.sentBytes += UInt64(item.bytes)
      }
    }
    stalled = Array(left)
  }
}

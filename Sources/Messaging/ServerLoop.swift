internal import CZeroMQ
internal import Core

/// What the server's I/O thread does. Made on the caller's thread, then used by the I/O thread alone.
final class ServerLoop {
  /// Pause before a message that ZeroMQ would not take is offered again.
  private static let stallRetry = Duration.milliseconds(2)
  /// When the second `peerDisconnected` comes.
  private static let disconnectEcho = Duration.milliseconds(50)
  /// Messages read before other work gets its turn.
  private static let receiveBatch = 256

  var boundEndpoints: [String] { bound.map(\.endpoint) }

  private var bound: [Binding.Bound] = []
  private let context: Context
  private let router: Socket
  private let monitor: Socket
  private let zap: ZAPHandler?
  private let allowList: AllowList?
  private let receiver: Receiver
  private let options: MessagingOptions
  private let handler: any ServerHandler
  private let outbox: Outbox
  private let counters: Counters
  private var guardian: ConnectionGuard
  /// The allow-list that the handler knows of.
  private var accessRevision: UInt64 = 0

  /// Messages that ZeroMQ has not taken yet (its queue for the peer is full), in order.
  private var stalled: [PeerID: [Outbox.Item]] = [:]
  private var tick = Timer()
  private var retry = Timer()
  private var echo = Timer()

  init(
    endpoints: [Endpoint], security: ServerSecurity?, options: MessagingOptions, handler: any ServerHandler,
    outbox: Outbox, counters: Counters
  ) throws {
    self.options = options
    self.handler = handler
    self.outbox = outbox
    self.counters = counters
    allowList = security?.allowList
    receiver = Receiver(options: options, isRouter: true, isSecured: security != nil)
    let scope = SocketScope(context: try Context())
    do {
      context = scope.context
      // Before any server socket: a CURVE socket without it would let every key in.
      zap = try security.map {
        try ZAPHandler(scope: scope, allowList: $0.allowList, counters: counters, logger: options.logger)
      }
      router = try scope.socket(ZMQ_ROUTER)
      try router.configure(options, secured: security != nil)
      try router.set(ZMQ_ROUTER_MANDATORY, Int32(1))
      if let security { try security.apply(to: router) }
      monitor = try scope.monitor(router, name: "server-monitor", events: Self.watched)
      for endpoint in endpoints { bound.append(try Binding.bind(router, to: endpoint)) }
      guardian = ConnectionGuard(
        endpoints: bound.map(\.endpoint), limits: options.connections, handshake: options.handshakeTimeout)
      accessRevision = allowList?.revision ?? 0
    } catch {
      for bound in bound { bound.removeFile() }
      scope.closeAll()
      throw error
    }
  }

  private static let watched =
    ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL
    | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH

  /// Until the outbox is closed.
  func run() {
    outbox.bindToThisThread()
    tick.set(after: options.tickInterval)
    var items = [
      zmq_pollitem_t(socket: nil, fd: outbox.wake.readEnd, events: Int16(ZMQ_POLLIN), revents: 0),
      zmq_pollitem_t(socket: router.handle, fd: 0, events: Int16(ZMQ_POLLIN), revents: 0),
      zmq_pollitem_t(socket: monitor.handle, fd: 0, events: Int16(ZMQ_POLLIN), revents: 0),
    ]
    if let zap { items.append(zmq_pollitem_t(socket: zap.handle, fd: 0, events: Int16(ZMQ_POLLIN), revents: 0)) }
    while !outbox.isClosed {
      let wait = outbox.isEmpty ? Timer.wait([tick, retry, echo]) : 0
      guard zmq_poll(&items, Int32(items.count), wait) >= 0 || zmq_errno() == EINTR else {
        options.logger.error("polling failed", metadata: ["error": "\(SocketError.text(zmq_errno()))"])
        break
      }
      if items[0].revents != 0 { outbox.wake.clear() }
      if items.count > 3, items[3].revents != 0 { zap?.serve() }
      if items[2].revents != 0 { readMonitor() }
      if items[1].revents != 0 { receive() }
      flush()
      runTimers()
    }
    flush()
    close()
  }

  /// Closes the sockets and ends the context; waits for what may linger.
  func close() {
    try? router.set(ZMQ_LINGER, outbox.flushing.milliseconds)
    for bound in bound { bound.removeFile() }
    zmq_socket_monitor(router.handle, nil, 0)
    monitor.close()
    router.close()
    zap?.close()
    context.terminate()
  }

  private func runTimers() {
    let now = Monotonic.now()
    if echo.fire(now: now) { handler.peerDisconnected() }
    _ = retry.fire(now: now)
    if tick.fire(now: now) {
      if let revision = allowList?.revision, revision != accessRevision {
        accessRevision = revision
        handler.accessChanged()
      }
      handler.tick()
      tick.set(after: options.tickInterval)
    }
  }

  private func readMonitor() {
    var disconnected = false
    while let event = MonitorEvent.next(monitor) {
      switch event.kind {
      case ZMQ_EVENT_ACCEPTED: guardian.accepted(event.value)
      case ZMQ_EVENT_DISCONNECTED:
        disconnected = true
        guardian.ended(event.value)
        counters.update { $0.disconnects += 1 }
      case 0: break
      default: counters.update { $0.handshakeFailures += 1 }
      }
    }
    let refused = guardian.closeRefused()
    if refused > 0 {
      counters.update { $0.refusedConnections += UInt64(refused) }
      if guardian.mayComplain() {
        options.logger.warning(
          "connections refused: too many, or too many new ones, from one address or in all",
          metadata: ["refused": "\(counters.read().refusedConnections)", "open": "\(guardian.count)"])
      }
    }
    if disconnected {
      handler.peerDisconnected()
      echo.set(after: Self.disconnectEcho)
    }
  }
}

// MARK: - Receiving

extension ServerLoop {
  private func receive() {
    for _ in 0..<Self.receiveBatch {
      switch receiver.next(router) {
      case .nothing: return
      case .dropped: counters.update { $0.droppedMalformed += 1 }
      case .message(let message):
        guard let peer = message.peer else { continue }
        deliver(message, from: peer)
        if !outbox.isEmpty { flush() }
      }
    }
  }

  private func deliver(_ message: Receiver.Message, from peer: PeerID) {
    var user: String?
    if let allowList {
      guard let known = message.userID.flatMap({ allowList.user(of: $0) }) else {
        counters.update { $0.droppedUnauthorised += 1 }
        handler.disallowed(peer)
        return
      }
      user = known
    }
    counters.update {
      $0.received += 1
      $0.receivedBytes += UInt64(message.bytes)
    }
    handler.received(message.frames, from: peer, user: user)
  }
}

// MARK: - Sending

extension ServerLoop {
  /// Sends everything submitted; what ZeroMQ will not take yet waits in `stalled`.
  private func flush() {
    var gone: [PeerID] = []
    for (peer, items) in stalled {
      var left = items[...]
      while let item = left.first, send(item, &gone) { left.removeFirst() }
      if gone.contains(peer) {
        for item in left { drop(item) }
        left = []
      }
      stalled[peer] = left.isEmpty ? nil : Array(left)
    }
    for item in outbox.drain() {
      if gone.contains(item.peer) {
        drop(item)
      } else if stalled[item.peer] != nil || !send(item, &gone) {
        stalled[item.peer, default: []].append(item)
      }
    }
    if !stalled.isEmpty { retry.set(after: Self.stallRetry) }
    for peer in gone { handler.unreachable(peer) }
  }

  /// False if ZeroMQ cannot take it now.
  private func send(_ item: Outbox.Item, _ gone: inout [PeerID]) -> Bool {
    let code = withUnsafeBytes(of: item.peer.routingID) { router.send($0, more: true) }
    switch code {
    case 0:
      _ = router.send(item.frames)
      outbox.settle(item.peer, bytes: item.bytes)
      counters.update {
        $0.sent += 1
        $0.sentBytes += UInt64(item.bytes)
      }
    case EAGAIN:
      return false
    default:
      // EHOSTUNREACH: the connection has ended.
      drop(item)
      if !gone.contains(item.peer) { gone.append(item.peer) }
    }
    return true
  }

  private func drop(_ item: Outbox.Item) {
    outbox.settle(item.peer, bytes: item.bytes)
    counters.update { $0.droppedUnreachable += 1 }
  }
}

internal import Core
internal import Synchronization

/// The worker's side: one DEALER socket to one coordinator, owned by one thread, reconnecting by itself.
public final class MessageClient: Sendable {
  private let outbox: Outbox
  private let thread: IOThread
  private let counters: Counters
  private let link: ClientLink
  private let isJoined = Mutex(false)

  /// Starts connecting; `connected` tells when messages can be sent.
  ///
  /// - Throws: `.badInput` for an endpoint that is malformed or beyond this machine while `security` is nil.
  public init(
    endpoint: String, security: ClientSecurity? = nil, options: MessagingOptions, handler: any ClientHandler
  ) throws {
    let parsed = try Endpoint(parsing: endpoint)
    try parsed.requireSecurity(security != nil)
    let outbox = try Outbox(limit: options.outboxBytesPerPeer)
    let counters = Counters()
    let link = ClientLink()
    let loop = try ClientLoop(
      endpoint: parsed, security: security, options: options, handler: handler, outbox: outbox, counters: counters,
      link: link)
    self.outbox = outbox
    self.counters = counters
    self.link = link
    let gate = StartGate()
    // The loop is the thread's alone from here on.
    nonisolated(unsafe) let confined = loop
    do {
      thread = try IOThread(name: "fr-client") {
        gate.wait()
        confined.run()
      }
    } catch {
      loop.close()
      throw error
    }
    handler.started(self)
    gate.open()
  }

  deinit {
    outbox.close()
    guard !isJoined.withLock({ $0 }) else { return }
    if outbox.isOnIOThread { thread.detach() } else { thread.join() }
  }

  public var isConnected: Bool { link.isUp }

  /// Hands a message to the I/O thread; never waits. Messages of one thread arrive in order.
  ///
  /// - Returns: false if there is no connection (a message belongs to the connection it was sent on), if more than
  ///   `outboxBytesPerPeer` would be waiting, or after `shutdown`.
  @discardableResult
  public func send(_ frames: [[UInt8]]) -> Bool {
    guard link.isUp else {
      counters.update { $0.droppedUnreachable += 1 }
      return false
    }
    switch outbox.submit(frames, to: ClientLoop.server) {
    case .accepted: return true
    case .full: counters.update { $0.droppedOutbox += 1 }
    case .closed: break
    }
    return false
  }

  public var statistics: MessagingStatistics { counters.read() }

  /// Stops, closes the socket and waits for the thread. What has been submitted is still handed to the network if it
  /// takes no longer than `flushing`. From a callback it returns at once and the thread ends after the callback.
  public func shutdown(flushing: Duration = .zero) {
    outbox.close(flushing: flushing)
    guard !outbox.isOnIOThread else { return }
    isJoined.withLock { isJoined in
      if !isJoined { thread.join() }
      isJoined = true
    }
  }
}

/// Whether the connection stands.
final class ClientLink: Sendable {
  private let up = Atomic(false)
  var isUp: Bool { up.load(ordering: .acquiring) }
  func set(up value: Bool) { up.store(value, ordering: .releasing) }
}

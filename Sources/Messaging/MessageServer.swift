internal import Core
internal import Synchronization

/// The coordinator's side: one ROUTER socket, bound to any number of endpoints and owned by one thread.
public final class MessageServer: Sendable {
  /// What was bound, wildcard ports resolved, in the order of the given endpoints.
  public let boundEndpoints: [String]

  private let outbox: Outbox
  private let thread: IOThread
  private let counters: Counters
  private let allowList: AllowList?
  private let isJoined = Mutex(false)

  /// Binds and starts; when it returns, workers can connect.
  ///
  /// - Throws: `.badInput` for an endpoint that is not `tcp://` or `ipc://`, is malformed or can be reached from other
  ///   machines while `security` is nil; `.unavailable` for a port or socket file in use.
  public init(
    endpoints: [String], security: ServerSecurity? = nil, options: MessagingOptions, handler: any ServerHandler
  ) throws {
    let parsed = try endpoints.map { try Endpoint(parsing: $0) }
    for endpoint in parsed { try endpoint.requireSecurity(security != nil) }
    let outbox = try Outbox(limit: options.outboxBytesPerPeer)
    let counters = Counters()
    let loop = try ServerLoop(
      endpoints: parsed, security: security, options: options, handler: handler, outbox: outbox, counters: counters)
    boundEndpoints = loop.boundEndpoints
    self.outbox = outbox
    self.counters = counters
    allowList = security?.allowList
    let gate = StartGate()
    // The loop is the thread's alone from here on.
    nonisolated(unsafe) let confined = loop
    do {
      thread = try IOThread(name: "fr-server") {
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

  /// Hands a message to the I/O thread; never waits. Messages of one thread to one peer arrive in order.
  ///
  /// - Returns: false if the server is shut down or more than `outboxBytesPerPeer` would be waiting for the peer. A
  ///   message to a peer that has gone is reported by `unreachable`.
  @discardableResult
  public func send(_ frames: [[UInt8]], to peer: PeerID) -> Bool {
    switch outbox.submit(frames, to: peer) {
    case .accepted: return true
    case .full: counters.update { $0.droppedOutbox += 1 }
    case .closed: break
    }
    return false
  }

  /// Whether the key of that name is in the allow-list now; false without security.
  public func isAuthorised(user: String) -> Bool { allowedKey(user: user) != nil }

  /// Whether peers need keys.
  public var isSecured: Bool { allowList != nil }

  /// What the key of that name may do now; nil if it is not in the allow-list, or without security.
  public func allowedKey(user: String) -> AllowedKey? { allowList?.entry(name: user) }

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

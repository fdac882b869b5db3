public import Core

/// What a `MessageServer` tells its owner. All calls come from the server's I/O thread, one at a time, and must be quick:
/// while one runs, nothing is sent or received.
public protocol ServerHandler: Sendable {
  /// Before any other call, from the thread that makes the server.
  func started(_ server: MessageServer)
  /// A whole message. `user` is the name of the peer's key; nil without security.
  func received(_ frames: [[UInt8]], from peer: PeerID, user: String?)
  /// The peer has gone (a send failed). What was still to be sent to it is lost.
  func unreachable(_ peer: PeerID)
  /// The key that let the peer in is no longer allowed: a message of it was dropped. Its connection stands, so that it can
  /// be told. For every such message, possibly before `accessChanged` and without end.
  func disallowed(_ peer: PeerID)
  /// Some connection has ended; ZeroMQ does not say whose. Send each peer something: `unreachable` follows for the lost
  /// ones. Called at once and once more a little later, since the socket may learn of it after its monitor does.
  func peerDisconnected()
  /// The allow-list has changed: keys came, went, or may do other things now. Within a `tickInterval` of the change.
  func accessChanged()
  /// Every `tickInterval`.
  func tick()
}

extension ServerHandler {
  public func started(_ server: MessageServer) {}
  public func unreachable(_ peer: PeerID) {}
  public func disallowed(_ peer: PeerID) {}
  public func peerDisconnected() {}
  public func accessChanged() {}
  public func tick() {}
}

/// What a `MessageClient` tells its owner. All calls come from the client's I/O thread, one at a time, and must be quick.
public protocol ClientHandler: Sendable {
  /// Before any other call, from the thread that makes the client.
  func started(_ client: MessageClient)
  /// The connection stands and its handshake is done: messages can be sent. Again after every reconnect.
  func connected()
  /// The connection has ended; what was not sent yet is dropped. The client goes on trying to reconnect.
  func disconnected()
  /// The server did not let the client in (wrong key, not in the allow-list, other security). It goes on trying.
  func refused(_ reason: FusionRouteError)
  func received(_ frames: [[UInt8]])
  /// Every `tickInterval`.
  func tick()
}

extension ClientHandler {
  public func started(_ client: MessageClient) {}
  public func connected() {}
  public func disconnected() {}
  public func refused(_ reason: FusionRouteError) {}
  public func tick() {}
}

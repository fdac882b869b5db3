internal import HummingbirdCore
internal import Logging
internal import NIOCore
internal import NIOHTTP1
internal import Synchronization

/// Connections open now.
final class ConnectionCount: Sendable {
  enum Entry: Equatable {
    case admitted
    /// One too many; it counts until ``leave()`` all the same.
    ///
    /// - Parameter isFirst: since there was room to spare, a tenth of the limit: the log is told once, not for each of a
    ///   flood.
    case refused(isFirst: Bool)
  }

  let limit: Int
  private let count = Atomic(0)
  private let refuses = Atomic(false)

  init(limit: Int) { self.limit = limit }

  var value: Int { count.load(ordering: .relaxed) }

  func enter() -> Entry {
    guard count.add(1, ordering: .relaxed).newValue > limit else { return .admitted }
    return .refused(isFirst: !refuses.exchange(true, ordering: .relaxed))
  }

  func leave() {
    if count.subtract(1, ordering: .relaxed).newValue < limit - limit / 10 { refuses.store(false, ordering: .relaxed) }
  }
}

/// Refuses connections beyond a limit: at once, so that clients hear of it, and before descriptors run out.
struct LimitedChannel<Base: ServerChildChannel>: ServerChildChannel {
  typealias Value = Base.Value

  let base: Base
  let connections: ConnectionCount
  /// Whether clients expect TLS, in which a refusal in plain text would be noise.
  let isEncrypted: Bool
  /// The service's own: Hummingbird's is kept quiet.
  let log: Logger

  func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<Value> {
    let entry = connections.enter()
    let isAdmitted = entry == .admitted
    channel.closeFuture.whenComplete { _ in connections.leave() }
    if entry == .refused(isFirst: true) {
      log.warning("connections are refused: too many are open", metadata: ["limit": "\(connections.limit)"])
    }
    return base.setup(channel: channel, logger: logger).flatMapThrowing { value in
      // Next to the parser: what comes after it no longer tells HTTP/1.0 from HTTP/1.1.
      let parser = try channel.pipeline.syncOperations.handler(type: ByteToMessageHandler<HTTPRequestDecoder>.self)
      try channel.pipeline.syncOperations.addHandler(PersistenceHandler(), position: .after(parser))
      if !isAdmitted {
        try channel.pipeline.syncOperations.addHandler(RefusingHandler(speaks: !isEncrypted), position: .first)
      }
      return value
    }
  }

  func handle(value: Value, logger: Logger) async { await base.handle(value: value, logger: logger) }
}

/// Says that the server is busy, whatever is asked, and closes.
private final class RefusingHandler: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  private let speaks: Bool

  init(speaks: Bool) { self.speaks = speaks }

  func handlerAdded(context: ChannelHandlerContext) { if context.channel.isActive { refuse(context) } }
  func channelActive(context: ChannelHandlerContext) { refuse(context) }
  func channelRead(context: ChannelHandlerContext, data: NIOAny) {}

  private func refuse(_ context: ChannelHandlerContext) {
    if speaks {
      let body = GatewayError(
        .serviceUnavailable, "too many connections are open; try again later", code: "too_many_connections"
      ).body
      let head =
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\nConnection: close\r\n"
        + "Content-Length: \(body.count)\r\n\r\n"
      context.writeAndFlush(wrapOutboundOut(ByteBuffer(bytes: Array(head.utf8) + body)), promise: nil)
    }
    context.close(promise: nil)
  }
}

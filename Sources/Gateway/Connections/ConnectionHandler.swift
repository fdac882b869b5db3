internal import HTTPTypes
internal import NIOCore
internal import NIOHTTP1
internal import NIOHTTPTypes

/// What Hummingbird leaves open between the parser of one connection's requests and their handlers: it answers
/// malformed requests in OpenAI's shape, `Expect: 100-continue`, bodies and readers that stall, closes where a response
/// says so, and notices that the client has gone while its answer is computed.
final class ConnectionHandler: ChannelDuplexHandler, RemovableChannelHandler {
  typealias InboundIn = HTTPRequestPart
  typealias InboundOut = HTTPRequestPart
  typealias OutboundIn = HTTPResponsePart
  typealias OutboundOut = HTTPResponsePart

  struct BodyTimeout: Error {}

  private enum Reading {
    case head
    case body
    /// The connection ends: what still comes is dropped.
    case dropping
  }

  let monitor = ConnectionMonitor()
  /// Within which a body must end, and an answer's bytes be read.
  private let timeout: TimeAmount
  private let maximumBody: Int
  private var reading = Reading.head
  /// Requests whose response has not ended.
  private var open = 0
  private var closesAfterResponse = false
  private var bodyTimer: Scheduled<Void>?
  private var writeTimer: Scheduled<Void>?

  init(timeout: Duration, maximumBody: Int) {
    self.timeout = TimeAmount(timeout)
    self.maximumBody = maximumBody
  }

  // MARK: Requests

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard reading != .dropping else { return }
    switch unwrapInboundIn(data) {
    case .head(let request):
      open += 1
      reading = .body
      bodyTimer = context.eventLoop.assumeIsolated().scheduleTask(in: timeout) { [self] in
        bodyTimer = nil
        context.fireErrorCaught(BodyTimeout())
      }
      if open == 1, expectsContinue(request) {
        context.writeAndFlush(wrapOutboundOut(.head(HTTPResponse(status: .continue))), promise: nil)
      }
    case .body: break
    case .end:
      reading = .head
      bodyTimer?.cancel()
      bodyTimer = nil
    }
    context.fireChannelRead(data)
  }

  /// A body that will be refused by its length is not asked for.
  private func expectsContinue(_ request: HTTPRequest) -> Bool {
    guard request.headerFields[.expect]?.lowercased() == "100-continue" else { return false }
    return (request.headerFields[.contentLength].flatMap { Int($0) } ?? 0) <= maximumBody
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    guard reading != .dropping else { return }
    // Within a body the request's handler reads the error and answers.
    guard reading == .head, open == 0 else { return context.fireErrorCaught(error) }
    guard error is HTTPParserError else {
      reading = .dropping
      return context.close(promise: nil)
    }
    let isOverflow = (error as? HTTPParserError) == .headerOverflow
    refuse(
      context,
      isOverflow
        ? GatewayError(.requestHeaderFieldsTooLarge, "the request's headers are too large", code: "headers_too_large")
        : GatewayError(.badRequest, "the request is not HTTP", code: "malformed_request"))
  }

  /// Answers for a request that never became one.
  private func refuse(_ context: ChannelHandlerContext, _ error: GatewayError) {
    reading = .dropping
    let body = error.body
    var response = HTTPResponse(status: error.status)
    response.headerFields[.contentType] = "application/json"
    response.headerFields[.contentLength] = "\(body.count)"
    response.headerFields[.connection] = "close"
    context.write(wrapOutboundOut(.head(response)), promise: nil)
    context.write(wrapOutboundOut(.body(ByteBuffer(bytes: body))), promise: nil)
    context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
    linger(context)
  }

  // MARK: Responses

  func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
    let part = unwrapOutboundIn(data)
    if case .head(let response) = part, response.headerFields[.connection]?.lowercased() == "close" {
      closesAfterResponse = true
    }
    guard case .end = part else { return context.write(data, promise: promise) }
    open -= 1
    guard closesAfterResponse else { return context.write(data, promise: promise) }
    context.writeAndFlush(data, promise: promise)
    if reading == .head {
      reading = .dropping
      context.close(promise: nil)
    } else {
      reading = .dropping
      linger(context)
    }
  }

  /// Closing with bytes unread resets the connection, which may take the response from a client that is still sending.
  private func linger(_ context: ChannelHandlerContext) {
    bodyTimer?.cancel()
    bodyTimer = nil
    // Tells the client that nothing more comes; when it ends, too, so do we.
    context.close(mode: .output, promise: nil)
    context.eventLoop.assumeIsolated().scheduleTask(in: TimeAmount(GatewayLimits.linger)) {
      context.close(promise: nil)
    }
  }

  func channelWritabilityChanged(context: ChannelHandlerContext) {
    writeTimer?.cancel()
    writeTimer = nil
    if !context.channel.isWritable {
      writeTimer = context.eventLoop.assumeIsolated().scheduleTask(in: timeout) {
        context.close(promise: nil)
      }
    }
    context.fireChannelWritabilityChanged()
  }

  // MARK: The client's end

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if let event = event as? ChannelEvent, event == .inputClosed {
      monitor.gone()
      if reading == .dropping { context.close(promise: nil) }
    }
    context.fireUserInboundEventTriggered(event)
  }

  func channelInactive(context: ChannelHandlerContext) {
    stop()
    context.fireChannelInactive()
  }

  func handlerRemoved(context: ChannelHandlerContext) { stop() }

  private func stop() {
    bodyTimer?.cancel()
    writeTimer?.cancel()
    (bodyTimer, writeTimer) = (nil, nil)
    monitor.gone()
  }
}

internal import CZeroMQ
internal import Core
internal import Logging

/// Decides which keys may connect (ZeroMQ RFC 27), on the server's I/O thread.
final class ZAPHandler {
  static let domain = "fusionroute"
  private static let address = "inproc://zeromq.zap.01"
  private static let largestFrame = 255

  private let socket: Socket
  private let allowList: AllowList
  private let counters: Counters
  private let logger: Logger

  /// Binds; must come before any server socket of the context.
  init(scope: SocketScope, allowList: AllowList, counters: Counters, logger: Logger) throws {
    socket = try scope.socket(ZMQ_REP)
    self.allowList = allowList
    self.counters = counters
    self.logger = logger
    guard zmq_bind(socket.handle, Self.address) == 0 else { throw SocketError.last("cannot start the key check") }
  }

  var handle: UnsafeMutableRawPointer { socket.handle }

  func close() { socket.close() }

  /// Answers the requests that are waiting.
  func serve() {
    let options = MessagingOptions(logger: logger)
    let receiver = Receiver(options: options, isRouter: false, isSecured: false)
    while case .message(let request) = receiver.next(socket) {
      let frames = request.frames
      let decision = decide(frames)
      if !decision.isAdmitted { counters.update { $0.refusedKeys += 1 } }
      let requestID = frames.count > 1 && frames[1].count <= Self.largestFrame ? frames[1] : []
      let reply: [[UInt8]] = [
        Array("1.0".utf8), requestID, Array(decision.status.utf8), Array(decision.text.utf8),
        Array(decision.userID.utf8), [],
      ]
      _ = socket.send(reply)
    }
  }

  private struct Decision {
    var status = "400"
    var text: String
    var userID = ""
    var isAdmitted: Bool { status == "200" }
  }

  /// Frames: version, request id, domain, address, identity, mechanism, credentials.
  private func decide(_ frames: [[UInt8]]) -> Decision {
    guard frames.count == 7, frames[0] == Array("1.0".utf8), frames[2] == Array(Self.domain.utf8),
      frames[5] == Array("CURVE".utf8), frames[6].count == 32
    else {
      logger.warning("connection refused: not a CURVE handshake")
      return Decision(text: "CURVE required")
    }
    let key = frames[6].withUnsafeBytes { Keys.text($0) }
    guard let userID = allowList.admit(key: key) else {
      logger.warning(
        "connection refused: its key is not in the allow-list",
        metadata: ["address": "\(String(decoding: frames[3], as: UTF8.self))", "key": "\(key)"])
      return Decision(text: "key not allowed")
    }
    return Decision(status: "200", text: "OK", userID: userID)
  }
}

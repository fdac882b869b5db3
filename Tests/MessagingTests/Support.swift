import Core
import Foundation
import Logging
import Synchronization

@testable import Messaging

/// A server handler that records what it sees and, if told so, sends it back.
final class RecordingServer: ServerHandler {
  struct Message: Sendable {
    let frames: [[UInt8]]
    let peer: PeerID
    let user: String?
  }

  struct Record: Sendable {
    var messages: [Message] = []
    var unreachable: [PeerID] = []
    var disallowed: [PeerID] = []
    var disconnects = 0
    var ticks = 0
  }

  let record = Mutex(Record())
  private let server = Mutex<MessageServer?>(nil)
  private let echoes: Bool

  init(echoes: Bool = false) { self.echoes = echoes }

  func started(_ server: MessageServer) { self.server.withLock { $0 = server } }

  func received(_ frames: [[UInt8]], from peer: PeerID, user: String?) {
    record.withLock { $0.messages.append(Message(frames: frames, peer: peer, user: user)) }
    if echoes { server.withLock { $0 }?.send(frames, to: peer) }
  }

  func unreachable(_ peer: PeerID) { record.withLock { $0.unreachable.append(peer) } }
  func disallowed(_ peer: PeerID) { record.withLock { $0.disallowed.append(peer) } }
  func peerDisconnected() { record.withLock { $0.disconnects += 1 } }
  func tick() { record.withLock { $0.ticks += 1 } }

  var messages: [Message] { record.withLock { $0.messages } }
  var unreachablePeers: [PeerID] { record.withLock { $0.unreachable } }
  var disallowedPeers: [PeerID] { record.withLock { $0.disallowed } }
  var disconnects: Int { record.withLock { $0.disconnects } }
  var ticks: Int { record.withLock { $0.ticks } }

  /// Ends the server and breaks the cycle with it.
  func stop() {
    let held = server.withLock { server in
      defer { server = nil }
      return server
    }
    held?.shutdown()
  }
}

final class RecordingClient: ClientHandler {
  struct Record: Sendable {
    var messages: [[[UInt8]]] = []
    var connects = 0
    var disconnects = 0
    var refusals: [FusionRouteError] = []
  }

  let record = Mutex(Record())

  func connected() { record.withLock { $0.connects += 1 } }
  func disconnected() { record.withLock { $0.disconnects += 1 } }
  func refused(_ reason: FusionRouteError) { record.withLock { $0.refusals.append(reason) } }
  func received(_ frames: [[UInt8]]) { record.withLock { $0.messages.append(frames) } }

  var messages: [[[UInt8]]] { record.withLock { $0.messages } }
  var refusals: [FusionRouteError] { record.withLock { $0.refusals } }
  var connects: Int { record.withLock { $0.connects } }
  var disconnects: Int { record.withLock { $0.disconnects } }
}

/// Polls until the condition holds; false after the time-out.
func eventually(within seconds: Double = 10, _ condition: () -> Bool) -> Bool {
  let end = Date().addingTimeInterval(seconds)
  while Date() < end {
    if condition() { return true }
    usleep(2_000)
  }
  return condition()
}

/// Whether a condition that should never hold stays away for a while.
func never(within seconds: Double = 0.6, _ condition: () -> Bool) -> Bool { !eventually(within: seconds, condition) }

/// A directory of its own, removed at the end.
final class Scratch {
  let path: String

  init() throws {
    path = FileManager.default.temporaryDirectory.appendingPathComponent("fr-" + UUID().uuidString.prefix(8)).path
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  var ipc: String { "ipc://\(path)/s" }
}

func testOptions() -> MessagingOptions {
  var logger = Logger(label: "test")
  logger.logLevel = .critical
  return MessagingOptions(logger: logger)
}

/// Calls `body`, which must throw one of our errors.
func failure(_ body: () throws -> Void) -> FusionRouteError? {
  do {
    try body()
    return nil
  } catch { return error as? FusionRouteError }
}

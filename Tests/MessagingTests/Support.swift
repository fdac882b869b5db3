import Core
import Foundation
import Logging
import Synchronization

@testable import Messaging

/// A server handler that hands what it sees to closures and records it.
final class RecordingServer: ServerHandler {
  struct Record: Sendable {
    var messages: [(frames: [[UInt8]], peer: PeerID, user: String?)] = []
    var unreachable: [PeerID] = []
    var disconnects = 0
    var ticks = 0
  }

  let record = Mutex(Record())
  private let server = Mutex<MessageServer?>(nil)
  private let echoes: Bool

  init(echoes: Bool = false) { self.echoes = echoes }

  func started(_ server: MessageServer) { self.server.withLock { $0 = server } }

  func received(_ frames: [[UInt8]], from peer: PeerID, user: String?) {
    record.withLock { $0.messages.append((frames, peer, user)) }
    if echoes { _ = server.withLock { $0 }?.send(frames, to: peer) }
  }

  func unreachable(_ peer: PeerID) { record.withLock { $0.unreachable.append(peer) } }
  func peerDisconnected() { record.withLock { $0.disconnects += 1 } }
  func tick() { record.withLock { $0.ticks += 1 } }

  var messages: [(frames: [[UInt8]], peer: PeerID, user: String?)] { record.withLock { $0.messages } }

  /// Breaks the cycle with the server.
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
  /// Instead of recording, where set.
  private let onMessage: (@Sendable ([[UInt8]]) -> Void)?

  init(onMessage: (@Sendable ([[UInt8]]) -> Void)? = nil) { self.onMessage = onMessage }

  func connected() { record.withLock { $0.connects += 1 } }
  func disconnected() { record.withLock { $0.disconnects += 1 } }
  func refused(_ reason: FusionRouteError) { record.withLock { $0.refusals.append(reason) } }
  func received(_ frames: [[UInt8]]) {
    if let onMessage { onMessage(frames) } else { record.withLock { $0.messages.append(frames) } }
  }

  var messages: [[[UInt8]]] { record.withLock { $0.messages } }
}

/// Polls until the condition holds; false after the time-out.
func eventually(within seconds: Double = 5, _ condition: () -> Bool) -> Bool {
  let end = Date().addingTimeInterval(seconds)
  while Date() < end {
    if condition() { return true }
    usleep(2_000)
  }
  return condition()
}

/// A directory of its own, removed at the end.
final class Scratch {
  let path: String

  init() throws {
    path = FileManager.default.temporaryDirectory.appendingPathComponent("fr-" + UUID().uuidString.prefix(8)).path
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }
}

func testOptions() -> MessagingOptions {
  var logger = Logger(label: "test")
  logger.logLevel = .critical
  return MessagingOptions(logger: logger)
}

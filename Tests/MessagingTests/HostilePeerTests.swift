import Core
import Foundation
import Testing

@testable import Messaging

@Suite struct HostilePeerTests {
  /// A server on TCP with an honest client beside whatever else happens.
  private final class Bench {
    let handler = RecordingServer(echoes: true)
    let client = RecordingClient()
    let server: MessageServer
    let honest: MessageClient

    init(_ change: (inout MessagingOptions) -> Void = { _ in }) throws {
      var options = testOptions()
      change(&options)
      server = try MessageServer(endpoints: ["tcp://127.0.0.1:*"], options: options, handler: handler)
      honest = try MessageClient(endpoint: server.boundEndpoints[0], options: testOptions(), handler: client)
      #expect(eventually { self.honest.isConnected })
    }

    /// The honest client is still served.
    func isAlive() -> Bool {
      let before = client.messages.count
      honest.send([[42]])
      return eventually { client.messages.count > before }
    }

    deinit {
      honest.shutdown()
      handler.stop()
    }
  }

  @Test func garbageBytes() throws {
    let bench = try Bench()
    var generator = SplitMix64(seed: 99)
    for round in 0..<40 {
      let peer = try #require(RawPeer(bench.server.boundEndpoints[0]))
      let garbage = (0..<Int.random(in: 1...2_000, using: &generator)).map { _ in
        UInt8(truncatingIfNeeded: generator.next())
      }
      switch round % 4 {
      case 0: peer.write(garbage)
      case 1: peer.write(Array("GET / HTTP/1.1\r\nHost: x\r\n\r\n".utf8))
      case 2: peer.write(RawPeer.greeting + garbage)
      default: peer.write(RawPeer.greeting + RawPeer.ready() + garbage)
      }
    }
    #expect(bench.isAlive())
    // Only a whole ZMTP frame by chance could have got through to the handler.
    #expect(bench.handler.messages.filter { $0.frames == [[42]] }.count == 1)
  }

  /// A connection that never finishes its handshake is closed.
  @Test func silentConnection() throws {
    let bench = try Bench { $0.handshakeTimeout = .milliseconds(300) }
    let peer = try #require(RawPeer(bench.server.boundEndpoints[0]))
    peer.write([0xFF])
    #expect(peer.isClosedByPeer(within: 3))
  }

  @Test func oversizeFrame() throws {
    let bench = try Bench { $0.maximumFrameBytes = 10_000 }
    let peer = try #require(RawPeer(bench.server.boundEndpoints[0]))
    peer.introduce([1])
    #expect(eventually { bench.handler.messages.count == 1 })
    peer.write(RawPeer.frame([UInt8](repeating: 0, count: 10_001)))
    #expect(peer.isClosedByPeer(within: 3))
    #expect(bench.isAlive())
    #expect(!bench.handler.messages.contains { $0.frames[0].count == 10_001 })
  }

  @Test func tooManyFramesOrBytes() throws {
    let bench = try Bench {
      $0.maximumFrames = 4
      $0.maximumMessageBytes = 1_000
    }
    bench.honest.send(Array(repeating: [1], count: 5))
    bench.honest.send(Array(repeating: [UInt8](repeating: 0, count: 300), count: 4))
    bench.honest.send(Array(repeating: [2], count: 4))
    #expect(eventually { bench.handler.messages.count == 1 })
    #expect(bench.handler.messages.map(\.frames) == [Array(repeating: [2], count: 4)])
    #expect(bench.server.statistics.droppedMalformed == 2)
    #expect(bench.isAlive())
  }

  /// A peer that names itself could take over another's place: it is not heard.
  @Test func ownRoutingID() throws {
    let bench = try Bench()
    for (i, identity) in [Array("coordinator".utf8), [1, 2, 3, 4, 5]].enumerated() {
      let peer = try #require(RawPeer(bench.server.boundEndpoints[0]))
      peer.introduce([1], identity: identity)
      #expect(eventually { bench.server.statistics.droppedMalformed == UInt64(i) + 1 })
    }
    #expect(bench.handler.messages.isEmpty)
    #expect(bench.isAlive())
  }

  @Test func closedSocket() throws {
    let bench = try Bench()
    let peer = try #require(RawPeer(bench.server.boundEndpoints[0]))
    peer.introduce([1])
    try #require(eventually { bench.handler.messages.count == 1 })
    let id = bench.handler.messages[0].peer
    peer.disconnect()
    #expect(eventually(within: 1) { bench.handler.disconnects >= 1 })
    // The second call comes when the socket knows for certain.
    #expect(eventually(within: 1) { bench.handler.disconnects >= 2 })
    bench.server.send([[1]], to: id)
    #expect(eventually(within: 1) { bench.handler.unreachablePeers == [id] })
    #expect(bench.server.statistics.droppedUnreachable == 1)
    #expect(bench.isAlive())
  }

  /// The peer is a process of its own (a shell with a TCP connection) and dies by SIGKILL.
  @Test func killedProcess() throws {
    let bench = try Bench()
    let port = bench.server.boundEndpoints[0].split(separator: ":").last ?? ""
    func escaped(_ bytes: [UInt8]) -> String {
      bytes.map { "\\x" + ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
    let hello = escaped(RawPeer.greeting + RawPeer.ready())
    let shell = Process()
    shell.executableURL = URL(fileURLWithPath: "/bin/bash")
    shell.arguments = [
      "-c",
      """
      exec 3<>/dev/tcp/127.0.0.1/\(port)
      printf '\(hello)' >&3
      head -c 66 <&3 >/dev/null
      printf '\(escaped(RawPeer.frame([7])))' >&3
      exec sleep 60
      """,
    ]
    try shell.run()
    defer { shell.terminate() }
    try #require(eventually { bench.handler.messages.count == 1 })
    kill(shell.processIdentifier, SIGKILL)
    #expect(eventually(within: 1) { bench.handler.disconnects >= 1 })
    let id = bench.handler.messages[0].peer
    #expect(
      eventually(within: 1) {
        bench.server.send([[1]], to: id)
        return bench.handler.unreachablePeers.contains(id)
      })
  }

  /// A peer that does not read fills its own outbox and nobody else's.
  @Test func slowPeer() throws {
    let bench = try Bench {
      $0.outboxBytesPerPeer = 2_000_000
      $0.highWaterMark = 10
    }
    let peer = try #require(RawPeer(bench.server.boundEndpoints[0]))
    peer.introduce([1])
    try #require(eventually { bench.handler.messages.count == 1 })
    let id = bench.handler.messages[0].peer
    let chunk = [UInt8](repeating: 0, count: 64_000)
    var accepted = 0
    while accepted < 10_000, bench.server.send([chunk], to: id) {
      accepted += 1
      if accepted % 20 == 0 { usleep(10_000) }
    }
    // Ten messages in ZeroMQ's queue, some megabytes in the kernel's, 2 MB in the outbox.
    #expect(accepted < 1_000)
    #expect(bench.server.statistics.droppedOutbox == 1)
    #expect(bench.isAlive())
    peer.disconnect()
    #expect(eventually { bench.handler.unreachablePeers == [id] })
    // Nothing of it stays behind.
    #expect(eventually { bench.server.send([chunk], to: id) })
  }
}

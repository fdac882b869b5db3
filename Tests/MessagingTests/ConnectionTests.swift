import Core
import Foundation
import Testing

@testable import Messaging

@Suite struct ConnectionTests {
  /// Against a plain account of every connection there ever was.
  @Test func ledger() {
    let seed = UInt64.random(in: 0...UInt64.max)
    print("connection ledger: seed \(seed)")
    var random = SplitMix64(seed: seed)
    for _ in 0..<200 {
      var limits = ConnectionLimits()
      limits.total = Int.random(in: 1...12, using: &random)
      limits.perAddress = Int.random(in: 1...8, using: &random)
      limits.new = Int.random(in: 1...10, using: &random)
      limits.newPerAddress = Int.random(in: 1...6, using: &random)
      let handshake: UInt64 = 100
      var ledger = ConnectionLedger(handshake: handshake)
      var open: [Int32: String] = [:]
      var arrivals: [(time: UInt64, address: String)] = []
      var now: UInt64 = 0
      for _ in 0..<300 {
        now += UInt64.random(in: 0...30, using: &random)
        if Int.random(in: 0..<3, using: &random) == 0, let victim = open.keys.sorted().randomElement(using: &random) {
          ledger.end(victim)
          open[victim] = nil
        } else {
          let connection = Int32.random(in: 0..<20, using: &random)
          let address = ["a", "b", "c"].randomElement(using: &random) ?? "a"
          open[connection] = nil
          let young = arrivals.filter { now - $0.time < handshake }
          let expected =
            open.count < limits.total && open.values.count { $0 == address } < limits.perAddress
            && young.count < limits.new && young.count { $0.address == address } < limits.newPerAddress
          let stays = ledger.accept(connection, from: address, limits: limits, now: now)
          #expect(stays == expected, "seed \(seed)")
          if stays {
            open[connection] = address
            arrivals.append((now, address))
          }
        }
        #expect(ledger.count == open.count, "seed \(seed)")
      }
      // Nothing is kept of addresses that have gone.
      for connection in open.keys { ledger.end(connection) }
      _ = ledger.accept(1, from: "z", limits: limits, now: now + 1_000)
      ledger.end(1)
      _ = ledger.accept(1, from: "z", limits: limits, now: now + 2_000)
      #expect(ledger.addressCount == 1, "seed \(seed)")
    }
  }

  private static func openDescriptors() -> Int {
    ((try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")) ?? []).count
  }

  /// One address opens connections that never say a word: it gets its share of them, no more, and others are served.
  @Test func halfOpenFlood() throws {
    var options = testOptions()
    options.handshakeTimeout = .milliseconds(500)
    options.connections.newPerAddress = 16
    let handler = RecordingServer(echoes: true)
    let server = try MessageServer(endpoints: ["tcp://127.0.0.1:*"], options: options, handler: handler)
    defer { handler.stop() }
    let client = RecordingClient()
    let honest = try MessageClient(endpoint: server.boundEndpoints[0], options: testOptions(), handler: client)
    defer { honest.shutdown() }
    #expect(eventually { honest.isConnected })
    let before = Self.openDescriptors()
    do {
      // Both ends of each are in this process.
      let peers = (0..<200).compactMap { _ in RawPeer(server.boundEndpoints[0]) }
      #expect(peers.count == 200)
      #expect(eventually { server.statistics.refusedConnections >= 184 })
      let sent = client.messages.count
      honest.send([[42]])
      #expect(eventually { client.messages.count > sent })
      #expect(eventually { peers.allSatisfy { $0.isClosedByPeer(within: 1) } })
    }
    // Of 400; other tests of this process open some meanwhile.
    #expect(eventually { Self.openDescriptors() <= before + 100 })
    // Its address is not locked out for longer.
    let again = RecordingClient()
    let second = try MessageClient(endpoint: server.boundEndpoints[0], options: testOptions(), handler: again)
    defer { second.shutdown() }
    #expect(eventually { second.isConnected })
    #expect(honest.isConnected && client.disconnects == 0)
  }

  @Test func tooManyOpen() throws {
    var options = testOptions()
    options.connections.perAddress = 3
    let handler = RecordingServer(echoes: true)
    let server = try MessageServer(endpoints: ["tcp://127.0.0.1:*"], options: options, handler: handler)
    defer { handler.stop() }
    let peers = try (0..<3).map { _ in try #require(RawPeer(server.boundEndpoints[0])) }
    for peer in peers { peer.introduce([1]) }
    #expect(eventually { handler.messages.count == 3 })
    let fourth = try #require(RawPeer(server.boundEndpoints[0]))
    #expect(fourth.isClosedByPeer(within: 5))
    // Counted after it was closed.
    #expect(eventually { server.statistics.refusedConnections > 0 })
    #expect(server.statistics.refusedConnections == 1)
    peers[0].disconnect()
    #expect(eventually { server.statistics.disconnects >= 2 })
    let fifth = try #require(RawPeer(server.boundEndpoints[0]))
    fifth.introduce([2])
    #expect(eventually { handler.messages.count == 4 })
  }
}

/// Handshakes that are cut off, or that were overheard and are played again.
@Suite struct HandshakeTests {
  /// Bytes of an honest worker's connection, frame by frame as ZMTP (RFC 23) delimits them.
  private struct Recording {
    var frames: [[UInt8]] = []

    init(_ bytes: [UInt8]) {
      var rest = bytes[...]
      func take(_ count: Int) -> [UInt8] {
        defer { rest = rest.dropFirst(count) }
        return Array(rest.prefix(count))
      }
      frames.append(take(64))
      while let flags = rest.first {
        let isLong = flags & 2 != 0
        let header = rest.prefix(isLong ? 9 : 2)
        let size = header.dropFirst().reduce(0) { $0 << 8 | Int($1) }
        frames.append(take(header.count + size))
      }
    }

    var bytes: [UInt8] { frames.flatMap { $0 } }
  }

  private final class Bench {
    let scratch: Scratch
    let handler = RecordingServer(echoes: true)
    let server: MessageServer

    init() throws {
      scratch = try Scratch()
      try Keys.generate(directory: scratch.path + "/keys", workers: ["alice"])
      var options = testOptions()
      options.handshakeTimeout = .milliseconds(700)
      options.connections.newPerAddress = 2_000
      server = try MessageServer(
        endpoints: ["tcp://127.0.0.1:*"], security: try ServerSecurity.load(keysDirectory: scratch.path + "/keys"),
        options: options, handler: handler)
    }

    /// What alice sends to be let in and to say one thing.
    func overhear() throws -> Recording {
      let tap = try #require(Tap(to: server.boundEndpoints[0]))
      let client = RecordingClient()
      let connection = try MessageClient(
        endpoint: tap.endpoint, security: try ClientSecurity.load(keysDirectory: scratch.path + "/keys"),
        options: testOptions(), handler: client)
      #expect(eventually { connection.isConnected })
      connection.send([Array("secret".utf8)])
      #expect(eventually { client.messages.count == 1 })
      connection.shutdown()
      tap.stop()
      return Recording(tap.recorded)
    }

    deinit { handler.stop() }
  }

  @Test func replayed() throws {
    let bench = try Bench()
    let recording = try bench.overhear()
    // Greeting, HELLO, INITIATE, and at least one message, which cannot be read on the way.
    #expect(recording.frames.count >= 4)
    #expect(
      recording.frames[0].starts(with: [0xFF]) && recording.frames[1].dropFirst(2).starts(with: [5] + "HELLO".utf8))
    #expect(!recording.bytes.contains(Array("secret".utf8)))
    let heard = bench.handler.messages.count
    // All at once, and in step with the server's answers.
    let hasty = try #require(RawPeer(bench.server.boundEndpoints[0]))
    hasty.write(recording.bytes)
    #expect(hasty.isClosedByPeer(within: 5))
    let patient = try #require(RawPeer(bench.server.boundEndpoints[0]))
    patient.write(recording.frames[0])
    patient.read(count: 64)
    patient.write(recording.frames[1])
    let welcome = patient.read(count: 2)
    patient.read(count: Int(welcome.last ?? 0))
    for frame in recording.frames.dropFirst(2) { patient.write(frame) }
    #expect(patient.isClosedByPeer(within: 5))
    #expect(bench.handler.messages.count == heard)
    // Alice herself is let in as before.
    _ = try bench.overhear()
    #expect(bench.handler.messages.count == heard + 1)
  }

  @Test func truncated() throws {
    let bench = try Bench()
    let recording = try bench.overhear()
    let heard = bench.handler.messages.count
    let handshake = Array(recording.frames.prefix(3).joined())
    var waiting: [RawPeer] = []
    for length in stride(from: 0, to: handshake.count, by: 7) {
      let peer = try #require(RawPeer(bench.server.boundEndpoints[0]))
      peer.write(Array(handshake.prefix(length)))
      // Half of them hang up, half wait to be hung up on.
      if length % 2 == 0 { peer.disconnect() } else { waiting.append(peer) }
    }
    for peer in waiting { #expect(peer.isClosedByPeer(within: 5)) }
    #expect(bench.handler.messages.count == heard)
    _ = try bench.overhear()
    #expect(bench.handler.messages.count == heard + 1)
  }
}

extension [UInt8] {
  fileprivate func contains(_ part: [UInt8]) -> Bool {
    indices.contains { self[$0...].starts(with: part) }
  }
}

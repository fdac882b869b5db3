import Core
import Foundation
import Testing

@testable import Messaging

@Suite struct ExchangeTests {
  @Test(arguments: ["ipc", "tcp"]) func echo(transport: String) throws {
    let scratch = try Scratch()
    let handler = RecordingServer(echoes: true)
    let server = try MessageServer(
      endpoints: [transport == "ipc" ? scratch.ipc : "tcp://127.0.0.1:*"], options: testOptions(), handler: handler)
    defer { handler.stop() }
    let client = RecordingClient()
    let connection = try MessageClient(endpoint: server.boundEndpoints[0], options: testOptions(), handler: client)
    defer { connection.shutdown() }
    #expect(eventually { connection.isConnected })
    let frames: [[UInt8]] = [[1, 2, 3], [], Array(repeating: 7, count: 100_000)]
    #expect(connection.send(frames))
    #expect(eventually { client.messages.count == 1 })
    #expect(client.messages == [frames])
    #expect(handler.messages.count == 1)
    #expect(handler.messages.first?.user == nil)
    #expect(server.statistics.received == 1 && server.statistics.sent == 1)
    #expect(server.statistics.receivedBytes == 100_003)
    #expect(eventually { handler.ticks >= 2 })
  }

  /// One server on several endpoints at once.
  @Test func severalEndpoints() throws {
    let scratch = try Scratch()
    let handler = RecordingServer(echoes: true)
    let server = try MessageServer(
      endpoints: [scratch.ipc, "tcp://127.0.0.1:*", "tcp://localhost:0"], options: testOptions(), handler: handler)
    defer { handler.stop() }
    #expect(Set(server.boundEndpoints).count == 3)
    for endpoint in server.boundEndpoints {
      #expect(!endpoint.hasSuffix(":0") && !endpoint.hasSuffix("*"))
      let client = RecordingClient()
      let connection = try MessageClient(endpoint: endpoint, options: testOptions(), handler: client)
      defer { connection.shutdown() }
      #expect(eventually { connection.isConnected })
      connection.send([Array(endpoint.utf8)])
      #expect(eventually { client.messages == [[Array(endpoint.utf8)]] })
    }
  }

  /// Many threads, one connection: what one thread sends arrives in its order, nothing twice, nothing lost.
  @Test func orderPerSender() throws {
    let scratch = try Scratch()
    let handler = RecordingServer(echoes: true)
    let server = try MessageServer(endpoints: [scratch.ipc], options: testOptions(), handler: handler)
    defer { handler.stop() }
    let client = RecordingClient()
    let connection = try MessageClient(endpoint: server.boundEndpoints[0], options: testOptions(), handler: client)
    defer { connection.shutdown() }
    #expect(eventually { connection.isConnected })
    let (threads, each) = (8, 1_000)
    DispatchQueue.concurrentPerform(iterations: threads) { thread in
      for i in 0..<each {
        connection.send([[UInt8(thread), UInt8(i & 0xFF), UInt8(i >> 8)], [UInt8](repeating: 1, count: i)])
      }
    }
    #expect(eventually(within: 30) { client.messages.count == threads * each })
    var next = [Int](repeating: 0, count: threads)
    for frames in client.messages {
      let (thread, i) = (Int(frames[0][0]), Int(frames[0][1]) | Int(frames[0][2]) << 8)
      #expect(next[thread] == i)
      #expect(frames[1].count == i)
      next[thread] = i + 1
    }
  }

  @Test func clientReconnects() throws {
    let scratch = try Scratch()
    let first = RecordingServer()
    _ = try MessageServer(endpoints: [scratch.ipc], options: testOptions(), handler: first)
    let client = RecordingClient()
    let connection = try MessageClient(endpoint: scratch.ipc, options: testOptions(), handler: client)
    defer { connection.shutdown() }
    #expect(eventually { connection.isConnected })
    #expect(connection.send([[1]]))
    #expect(eventually { first.messages.count == 1 })
    first.stop()
    #expect(eventually { client.disconnects == 1 })
    // Without a connection nothing is kept for the next one.
    #expect(!connection.send([[2]]))
    let second = RecordingServer()
    _ = try MessageServer(endpoints: [scratch.ipc], options: testOptions(), handler: second)
    defer { second.stop() }
    #expect(eventually { client.connects == 2 })
    #expect(connection.send([[3]]))
    #expect(eventually { second.messages.count == 1 })
    #expect(second.messages.map(\.frames) == [[[3]]])
  }

  /// What is still to be sent when it ends can be given a moment: a last word arrives.
  @Test func lastWord() throws {
    let scratch = try Scratch()
    let handler = RecordingServer()
    _ = try MessageServer(endpoints: [scratch.ipc], options: testOptions(), handler: handler)
    defer { handler.stop() }
    for i in 0..<20 {
      let client = RecordingClient()
      let connection = try MessageClient(endpoint: scratch.ipc, options: testOptions(), handler: client)
      #expect(eventually { connection.isConnected })
      for word in 0..<10 { connection.send([[UInt8(word)]]) }
      connection.shutdown(flushing: .seconds(1))
      #expect(eventually { handler.messages.count == 10 * (i + 1) })
      #expect(!connection.send([[9]]))
    }
  }

  @Test func shutdownWhileBusy() throws {
    let scratch = try Scratch()
    for round in 0..<10 {
      let handler = RecordingServer(echoes: true)
      let server = try MessageServer(endpoints: ["\(scratch.ipc)\(round)"], options: testOptions(), handler: handler)
      let client = RecordingClient()
      let connection = try MessageClient(endpoint: server.boundEndpoints[0], options: testOptions(), handler: client)
      #expect(eventually { connection.isConnected })
      let flood = Thread {
        for _ in 0..<20_000 { connection.send([[UInt8](repeating: 0, count: 1_000)]) }
      }
      flood.start()
      usleep(useconds_t(5_000 * round))
      let start = Date()
      if round % 2 == 0 {
        handler.stop()
        connection.shutdown()
      } else {
        connection.shutdown()
        handler.stop()
      }
      #expect(Date().timeIntervalSince(start) < 2)
    }
  }

  /// From a callback, and by merely letting go.
  @Test func shutdownFromCallbackAndDeinit() throws {
    final class Quitter: ServerHandler {
      let holder = RecordingServer()
      func started(_ server: MessageServer) { holder.started(server) }
      func received(_ frames: [[UInt8]], from peer: PeerID, user: String?) { holder.stop() }
    }
    let scratch = try Scratch()
    _ = try MessageServer(endpoints: [scratch.ipc], options: testOptions(), handler: Quitter())
    let client = RecordingClient()
    do {
      let connection = try MessageClient(endpoint: scratch.ipc, options: testOptions(), handler: client)
      #expect(eventually { connection.isConnected })
      connection.send([[1]])
      #expect(eventually { client.disconnects == 1 })
    }
    #expect(!FileManager.default.fileExists(atPath: "\(scratch.path)/s"))
  }
}

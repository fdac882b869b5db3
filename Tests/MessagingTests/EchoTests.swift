import Core
import Foundation
import Synchronization
import Testing

@testable import Messaging

@Suite(.serialized) struct EchoTests {
  @Test(arguments: ["ipc", "tcp"]) func echo(transport: String) throws {
    let scratch = try Scratch()
    let handler = RecordingServer(echoes: true)
    let server = try MessageServer(
      endpoints: [transport == "ipc" ? "ipc://\(scratch.path)/s" : "tcp://127.0.0.1:*"], options: testOptions(),
      handler: handler)
    defer { handler.stop() }
    let client = RecordingClient()
    let connection = try MessageClient(
      endpoint: server.boundEndpoints[0], options: testOptions(), handler: client)
    defer { connection.shutdown() }
    #expect(eventually { connection.isConnected })
    let frames: [[UInt8]] = [[1, 2, 3], [], Array(repeating: 7, count: 100_000)]
    #expect(connection.send(frames))
    #expect(eventually { client.messages.count == 1 })
    #expect(client.messages == [frames])
    #expect(handler.messages.first?.user == nil)
  }
}

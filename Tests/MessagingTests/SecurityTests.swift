import Core
import Foundation
import Testing

@testable import Messaging

@Suite struct SecurityTests {
  private final class Bench {
    let scratch: Scratch
    let handler = RecordingServer(echoes: true)
    let server: MessageServer

    init(workers: [String] = ["alice"], endpoint: String = "tcp://127.0.0.1:*") throws {
      scratch = try Scratch()
      try Keys.generate(directory: scratch.path + "/keys", workers: workers)
      server = try MessageServer(
        endpoints: [endpoint], security: try ServerSecurity.load(keysDirectory: scratch.path + "/keys"),
        options: testOptions(), handler: handler)
    }

    var keys: String { scratch.path + "/keys" }

    func connect(_ security: ClientSecurity?, _ client: RecordingClient) throws -> MessageClient {
      try MessageClient(
        endpoint: server.boundEndpoints[0], security: security, options: testOptions(), handler: client)
    }

    deinit { handler.stop() }
  }

  @Test func allowedKey() throws {
    let bench = try Bench(workers: ["alice", "bob"])
    for name in ["alice", "bob"] {
      let client = RecordingClient()
      let connection = try bench.connect(try ClientSecurity.load(keysDirectory: bench.keys, worker: name), client)
      defer { connection.shutdown() }
      #expect(eventually { connection.isConnected })
      connection.send([Array(name.utf8), [UInt8](repeating: 1, count: 70_000)])
      #expect(eventually { client.messages.count == 1 })
      #expect(bench.handler.messages.last?.user == name)
      #expect(bench.server.isAuthorised(user: name))
    }
    #expect(!bench.server.isAuthorised(user: "carol"))
  }

  /// Beyond loopback is allowed with keys: a wildcard bind works.
  @Test func wildcardWithKeys() throws {
    let bench = try Bench(endpoint: "tcp://*:0")
    let port = bench.server.boundEndpoints[0].split(separator: ":").last ?? ""
    let client = RecordingClient()
    let connection = try MessageClient(
      endpoint: "tcp://127.0.0.1:\(port)", security: try ClientSecurity.load(keysDirectory: bench.keys),
      options: testOptions(), handler: client)
    defer { connection.shutdown() }
    #expect(eventually { connection.isConnected })
  }

  @Test func keyNotInTheAllowList() throws {
    let bench = try Bench()
    let other = try Scratch()
    // A pair of its own, with the right coordinator's public key.
    try Keys.generate(directory: other.path + "/k", workers: ["mallory"])
    try FileManager.default.removeItem(atPath: other.path + "/k/coordinator.pub")
    try FileManager.default.copyItem(atPath: bench.keys + "/coordinator.pub", toPath: other.path + "/k/coordinator.pub")
    let client = RecordingClient()
    let connection = try bench.connect(try ClientSecurity.load(keysDirectory: other.path + "/k"), client)
    defer { connection.shutdown() }
    #expect(eventually { !client.refusals.isEmpty })
    #expect(client.refusals.first?.code == .unavailable)
    #expect(
      client.refusals.first?.message
        == "the coordinator at \"\(bench.server.boundEndpoints[0])\" did not let this worker in: the worker's key is not "
        + "in the allow-list; add it to allowed/ in its keys directory")
    #expect(never { !bench.handler.messages.isEmpty || connection.isConnected })
    #expect(bench.server.statistics.handshakeFailures > 0)
    #expect(bench.server.statistics.refusedKeys > 0)
    // Allowed later, without a restart of either side.
    let key = try KeyFile.load(other.path + "/k/workers/mallory.pub", isSecret: false)
    try Keys.allow("mallory", publicKey: key, directory: bench.keys)
    #expect(eventually { connection.isConnected })
    connection.send([[1]])
    #expect(eventually { bench.handler.messages.first?.user == "mallory" })
  }

  @Test func plainClient() throws {
    let bench = try Bench()
    let client = RecordingClient()
    let connection = try bench.connect(nil, client)
    defer { connection.shutdown() }
    let raw = try #require(RawPeer(bench.server.boundEndpoints[0]))
    raw.write(RawPeer.greeting + RawPeer.ready() + RawPeer.frame([1]))
    #expect(raw.isClosedByPeer(within: 5))
    #expect(never { !bench.handler.messages.isEmpty || connection.isConnected })
    #expect(eventually { !client.refusals.isEmpty })
    // Which of the two depends on whether the client has read the server's greeting when it hangs up.
    let sentences = [
      "did not let this worker in: one side uses keys and the other does not, or they are not each other's keys",
      "did not let this worker in: it hung up during the handshake; see that both sides use keys or neither does, and "
        + "that coordinator.pub is this coordinator's",
    ]
    for refusal in client.refusals {
      #expect(refusal.code == .unavailable)
      #expect(
        sentences.contains { refusal.message == "the coordinator at \"\(bench.server.boundEndpoints[0])\" \($0)" })
    }
  }

  /// The worker insists on its coordinator: another one, even with the worker's key in its list, gets nothing.
  @Test func wrongCoordinator() throws {
    let bench = try Bench()
    let other = try Scratch()
    try Keys.generate(directory: other.path + "/k", workers: ["alice"])
    let key = try KeyFile.load(other.path + "/k/workers/alice.pub", isSecret: false)
    try Keys.allow("alice", publicKey: key, directory: bench.keys, force: true)
    let client = RecordingClient()
    let connection = try bench.connect(try ClientSecurity.load(keysDirectory: other.path + "/k"), client)
    defer { connection.shutdown() }
    #expect(never(within: 1.5) { connection.isConnected || !bench.handler.messages.isEmpty })
  }

  /// A CURVE client and a server without keys.
  @Test func plainServer() throws {
    let scratch = try Scratch()
    try Keys.generate(directory: scratch.path + "/k", workers: ["alice"])
    let handler = RecordingServer()
    let server = try MessageServer(endpoints: ["tcp://127.0.0.1:*"], options: testOptions(), handler: handler)
    defer { handler.stop() }
    let client = RecordingClient()
    let connection = try MessageClient(
      endpoint: server.boundEndpoints[0], security: try ClientSecurity.load(keysDirectory: scratch.path + "/k"),
      options: testOptions(), handler: client)
    defer { connection.shutdown() }
    #expect(never { connection.isConnected || !handler.messages.isEmpty })
  }

  /// ZAP decides at the handshake only; an open connection must end with its key all the same.
  @Test func revokedBetweenMessages() throws {
    let bench = try Bench(workers: ["alice", "bob"])
    let (alice, bob) = (RecordingClient(), RecordingClient())
    let first = try bench.connect(try ClientSecurity.load(keysDirectory: bench.keys, worker: "alice"), alice)
    let second = try bench.connect(try ClientSecurity.load(keysDirectory: bench.keys, worker: "bob"), bob)
    defer {
      first.shutdown()
      second.shutdown()
    }
    #expect(eventually { first.isConnected && second.isConnected })
    first.send([[1]])
    #expect(eventually { bench.handler.messages.count == 1 })
    try Keys.revoke("alice", directory: bench.keys)
    #expect(eventually(within: 1) { !bench.server.isAuthorised(user: "alice") })
    first.send([[2]])
    #expect(eventually { bench.server.statistics.droppedUnauthorised == 1 })
    #expect(eventually { bench.handler.disallowedPeers == [bench.handler.messages[0].peer] })
    second.send([[3]])
    #expect(eventually { bench.handler.messages.count == 2 })
    #expect(bench.handler.messages.map(\.frames) == [[[1]], [[3]]])
  }

  /// The name stays, its key does not: connections made with the old key are no longer heard.
  @Test func replacedKey() throws {
    let bench = try Bench()
    let client = RecordingClient()
    let connection = try bench.connect(try ClientSecurity.load(keysDirectory: bench.keys), client)
    defer { connection.shutdown() }
    #expect(eventually { connection.isConnected })
    connection.send([[1]])
    #expect(eventually { bench.handler.messages.count == 1 })
    try Keys.addWorker("alice", directory: bench.keys, force: true)
    usleep(100_000)
    #expect(bench.server.isAuthorised(user: "alice"))
    connection.send([[2]])
    #expect(eventually { bench.server.statistics.droppedUnauthorised == 1 })
    #expect(bench.handler.messages.count == 1)
  }

  /// No folder, no list: nobody.
  @Test func missingAllowList() throws {
    let bench = try Bench()
    try FileManager.default.removeItem(atPath: bench.keys + "/allowed")
    let client = RecordingClient()
    let connection = try bench.connect(try ClientSecurity.load(keysDirectory: bench.keys), client)
    defer { connection.shutdown() }
    #expect(eventually { !client.refusals.isEmpty })
    #expect(never { connection.isConnected })
  }

  /// A CURVE socket whose ZAP handler is missing lets nobody in. Without the option it would let in everyone.
  @Test(arguments: [true, false]) func failsClosedWithoutHandler(enforced: Bool) throws {
    let scratch = try Scratch()
    try Keys.generate(directory: scratch.path + "/k", workers: ["alice"])
    let context = try Context()
    let router = try context.socket(6)
    try router.configure(testOptions(), secured: true)
    try ServerSecurity.load(keysDirectory: scratch.path + "/k").apply(to: router)
    if !enforced { try router.set(93, Int32(0)) }
    let endpoint = try Binding.bind(router, to: try Endpoint(parsing: "tcp://127.0.0.1:*")).endpoint
    let client = RecordingClient()
    let connection = try MessageClient(
      endpoint: endpoint, security: try ClientSecurity.load(keysDirectory: scratch.path + "/k"),
      options: testOptions(), handler: client)
    if enforced {
      #expect(never { connection.isConnected })
    } else {
      #expect(eventually { connection.isConnected })
    }
    connection.shutdown()
    router.close()
    context.terminate()
  }
}

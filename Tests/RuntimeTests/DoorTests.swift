import Core
import Foundation
import FuzzSupport
import Logging
import Messaging
import Testing
import Wire

/// A peer with a key of its own that says what it is told to.
private final class KeyedPeer: ClientHandler {
  private let client = LockedBox<MessageClient?>(nil)
  private let heard = LockedBox<[WireMessage]>([])
  private let beats: Bool

  init(_ endpoint: String, keys: String, name: String, beats: Bool = false) throws {
    self.beats = beats
    var logger = Logger(label: "peer")
    logger.logLevel = .critical
    _ = try MessageClient(
      endpoint: endpoint, security: try ClientSecurity.load(keysDirectory: keys, worker: name),
      options: MessagingOptions(logger: logger), handler: self)
  }

  func started(_ client: MessageClient) { self.client.withValue { $0 = client } }

  func received(_ frames: [[UInt8]]) {
    if let message = try? WireCodec.decode(frames, from: .coordinator) { heard.withValue { $0.append(message) } }
  }

  func tick() { if beats { send(.heartbeat(Heartbeat(sender: 1, count: 1, progress: 1))) } }

  func send(_ message: WireMessage) { _ = client.withValue { $0 }?.send(WireCodec.encode(message)) }

  var isConnected: Bool { client.withValue { $0?.isConnected ?? false } }
  var messages: [WireMessage] { heard.withValue { $0 } }
  var refusals: [Refused] { messages.compactMap { if case .refused(let refused) = $0 { refused } else { nil } } }
  var isRegistered: Bool { messages.contains { if case .registered = $0 { true } else { false } } }
  var toldToRegister: Int { messages.count { $0 == .registerAgain } }

  func stop() {
    let held = client.withValue { client in
      defer { client = nil }
      return client
    }
    held?.shutdown()
  }
}

private func wait(_ what: String, _ seconds: Double = 10, until condition: () -> Bool) async throws {
  for _ in 0..<Int(seconds * 100) where !condition() { try await Task.sleep(for: .milliseconds(10)) }
  #expect(condition(), "\(what) did not happen within \(seconds) s")
}

/// Who may take part, and as what.
extension ProcessSuites {
  @Suite(.serialized) struct DoorTests {
    /// A coordinator with keys, and an honest worker for each expert.
    private struct House {
      let scratch: Scratch
      let keys: String
      let endpoint: String
      let run: Program
      let workers: [Program]
      let reference: PrintedAnswer
      static let prompt = FaultTests.line("The river", tokens: 60)

      init(_ name: String) async throws {
        scratch = try Scratch(name)
        keys = scratch.path("keys")
        try Messaging.Keys.generate(directory: keys, workers: ["a", "b"])
        let port = try FreePort.find()
        endpoint = "tcp://127.0.0.1:\(port)"
        let cluster = try FaultModels.shared.get().cluster(
          in: scratch,
          extra: "listen: { workers: \"\(endpoint)\" }\nexpert_wait: 1s\nsecurity: { keys: \(keys) }\n")
        run = try Program(
          ["run", "-c", cluster, "--attach", "--format", "json", "--log-level", "info"], in: scratch, input: nil)
        workers = [
          try Self.worker(0, "a", keys, endpoint, scratch), try Self.worker(1, "b", keys, endpoint, scratch),
        ]
        try await run.until("two workers") { FaultTests.registered($0).count == 2 }
        reference = try await FaultTests.answer(run, Self.prompt).answer
        #expect(reference.error == nil)
      }

      static func worker(
        _ expert: Int, _ key: String, _ keys: String, _ endpoint: String, _ scratch: Scratch
      ) throws -> Program {
        let models = try FaultModels.shared.get()
        return try Program(
          [
            "worker", "--expert", models.models.experts[expert].name, "--model", models.expert(expert),
            "--coordinator", endpoint, "--context", "1024", "--orphan-after", "30s", "--keys", keys, "--key", key,
          ], in: scratch)
      }

      func worker(_ expert: Int, key: String) throws -> Program {
        try Self.worker(expert, key, keys, endpoint, scratch)
      }

      var lost: [String] { run.logged("replica lost", "reason") }

      func stillAnswers(sourceLocation: SourceLocation = #_sourceLocation) async throws {
        let answer = try await FaultTests.answer(run, Self.prompt).answer
        #expect(answer.tokens == reference.tokens && answer.failovers == nil, sourceLocation: sourceLocation)
        #expect(workers.allSatisfy { $0.poll() == nil }, sourceLocation: sourceLocation)
      }

      func end(_ code: Int32 = 0) async throws {
        run.closeInput()
        #expect(try await run.wait() == .exit(code), "\(run.errors)")
        for worker in workers { worker.signal(SIGTERM) }
        for worker in workers { _ = try await worker.wait() }
      }

      /// A registration that would be accepted from the right worker.
      func registration(expert: Int, incarnation: UInt64) throws -> Register {
        let models = try FaultModels.shared.get()
        let digest = SHA256Digest(hashing: Array("made up".utf8))
        return Register(
          expert: models.models.experts[expert].name, incarnation: incarnation, modelFingerprint: digest,
          vocabularyFingerprint: digest, vocabularySize: 512,
          numerics: Numerics(label: "x", probeHash: digest, batchInvariant: true), slots: 4, context: 1024,
          maximumPositions: 16, host: "nowhere", pid: 1, software: "test")
      }
    }

    @Test("a key serves the experts of its entry and no other, and a coordinator's key serves none: 69, one sentence")
    func experts() async throws {
      let house = try await House("experts")
      try Messaging.Keys.addWorker("narrow", directory: house.keys, experts: ["math"])
      try Messaging.Keys.addWorker("boss", directory: house.keys)
      let boss = try #require(Messaging.Keys.entries(directory: house.keys).first { $0.name == "boss" })
      try Messaging.Keys.allow(
        "boss", publicKey: boss.key, role: .coordinator, directory: house.keys, force: true)
      for (expert, key, words) in [
        (1, "narrow", "the key \"narrow\" may not serve expert \"code\": it may serve math"),
        (0, "boss", "the key \"boss\" is a coordinator's, not a worker's"),
      ] {
        let worker = try house.worker(expert, key: key)
        #expect(try await worker.wait(20) == .exit(69), "\(worker.errors)")
        #expect(worker.errorLines.count == 1 && worker.errors.contains(words), "\(worker.errors)")
      }
      let fitting = try house.worker(0, key: "narrow")
      try await house.run.until("the third worker") { FaultTests.registered($0).count == 3 }
      fitting.signal(SIGTERM)
      #expect(try await fitting.wait() == .exit(0))
      try await house.stillAnswers()
      try await house.end()
    }

    @Test("an entry that goes, is narrowed or changes its role ends registrations at once; others go on")
    func changedEntries() async throws {
      let house = try await House("changed")
      let changes: [(String, (String) throws -> Void)] = [
        ("removed", { try Messaging.Keys.revoke($0, directory: house.keys) }),
        (
          "narrowed",
          { name in
            let entry = try #require(Messaging.Keys.entries(directory: house.keys).first { $0.name == name })
            try Messaging.Keys.allow(
              name, publicKey: entry.key, experts: ["code"], directory: house.keys, force: true)
          }
        ),
        (
          "another role",
          { name in
            let entry = try #require(Messaging.Keys.entries(directory: house.keys).first { $0.name == name })
            try Messaging.Keys.allow(
              name, publicKey: entry.key, role: .coordinator, directory: house.keys, force: true)
          }
        ),
        (
          "replaced",
          { try Messaging.Keys.addWorker($0, directory: house.keys, force: true) }
        ),
      ]
      for (index, (what, change)) in changes.enumerated() {
        let name = "w\(index)"
        try Messaging.Keys.addWorker(name, directory: house.keys)
        let worker = try house.worker(0, key: name)
        try await house.run.until("registration") { FaultTests.registered($0).count == 3 + index }
        try change(name)
        try await house.run.until("its end: \(what)") { _ in house.lost.count == index + 1 }
        #expect(try await worker.wait(20) == .exit(69), "\(what): \(worker.errors)")
        try await house.stillAnswers()
      }
      try await house.end()
    }

    /// Its messages come before the coordinator has gone through its registrations, and after.
    @Test("a worker that talks all the time is told that its key was revoked, whether it was registered or not")
    func revokedWhileTalking() async throws {
      let house = try await House("talking")
      for (index, registers) in [true, false].enumerated() {
        let name = "talker\(index)"
        try Messaging.Keys.addWorker(name, directory: house.keys)
        let peer = try KeyedPeer(house.endpoint, keys: house.keys, name: name)
        try await wait("connection") { peer.isConnected }
        if registers {
          peer.send(.register(try await Listener.introduction(of: 0, in: house.scratch)))
          try await wait("registration") { peer.isRegistered }
        }
        try Messaging.Keys.revoke(name, directory: house.keys)
        let start = ContinuousClock.now
        for count in 0..<400 {
          peer.send(.heartbeat(Heartbeat(sender: 1, count: UInt64(count), progress: 1)))
          try await Task.sleep(for: .milliseconds(2))
        }
        try await wait("a refusal") { !peer.refusals.isEmpty }
        #expect(peer.refusals.allSatisfy { $0.code == .authorisation && $0.message.contains("allow-list") })
        // 20 at once and 10 a second, and the one that ends a registration.
        let seconds = (ContinuousClock.now - start) / .seconds(1)
        #expect(Double(peer.refusals.count) <= 22 + 10 * seconds)
        peer.stop()
        try await house.stillAnswers()
      }
      #expect(house.lost.count == 1, "\(house.lost)")
      try await house.end()
    }

    @Test("a worker's key cannot speak as a coordinator, take another's registration, or flood")
    func misuse() async throws {
      let house = try await House("misuse")
      try Messaging.Keys.addWorker("mallory", directory: house.keys)
      // The coordinator's messages, from a peer that is not registered and from one that is not known.
      let peer = try KeyedPeer(house.endpoint, keys: house.keys, name: "mallory")
      try await wait("connection") { peer.isConnected }
      let coordinators: [WireMessage] = [
        .registerAgain, .credit(Credit(bytes: 1 << 30)), .cancel(Cancel(request: 1)), .release(Release(sequence: 1)),
        .drain, .vocabularyQuery(VocabularyQuery(first: 0, count: 10)),
        .refused(Refused(code: .model, message: "go away")),
        .registered(
          Registered(
            coordinator: 1, leasedSlots: 1, heartbeatMilliseconds: 1, creditBytes: 1, commonVocabulary: 512)),
        .step(
          Step(
            request: 1, coordinator: 1, sequence: 1, epoch: 0, baseLength: 0, baseHash: .empty, append: [1],
            wants: [], deadlineMilliseconds: 1_000)),
      ]
      for message in coordinators { peer.send(message) }
      try await wait("an answer") { peer.toldToRegister > 0 }
      try await house.stillAnswers()
      // Thousands of messages before it has registered: a few are answered.
      for request in 0..<3_000 {
        peer.send(
          .failure(Failure(request: UInt64(request), coordinator: 1, code: .internal, message: "It broke.")))
      }
      try await house.stillAnswers()
      // Answers to the first of them; the limit is 20 at once and 10 a second.
      #expect(peer.toldToRegister < 1_000)
      peer.stop()
      #expect(house.lost.isEmpty, "\(house.lost)")

      // Registrations that are refused, hundreds of them: no more are looked at than the limit allows.
      let eager = try KeyedPeer(house.endpoint, keys: house.keys, name: "mallory")
      try await wait("connection") { eager.isConnected }
      for index in 0..<500 {
        eager.send(.register(try house.registration(expert: 0, incarnation: UInt64(index + 1))))
      }
      try await wait("a refusal") { !eager.refusals.isEmpty }
      try await house.stillAnswers()
      #expect(eager.refusals.allSatisfy { $0.code == .model } && eager.refusals.count < 200)
      eager.stop()
      #expect(house.lost.isEmpty, "\(house.lost)")
      try await house.end()
    }

    @Test("a worker that dials in at another's address is not fooled by one that has a worker's key")
    func falseCoordinator() async throws {
      let scratch = try Scratch("false")
      let keys = scratch.path("keys")
      try Messaging.Keys.generate(directory: keys, workers: ["a", "mallory"])
      // Mallory listens with his own pair, and would let a in.
      let own = scratch.path("own")
      try Messaging.Keys.generate(directory: own, workers: [])
      for (from, to) in [("mallory.key", "coordinator.key"), ("mallory.pub", "coordinator.pub")] {
        try FileManager.default.removeItem(atPath: "\(own)/\(to)")
        try FileManager.default.copyItem(atPath: "\(keys)/workers/\(from)", toPath: "\(own)/\(to)")
      }
      let a = try String(contentsOfFile: keys + "/workers/a.pub", encoding: .utf8).trimmingCharacters(in: .newlines)
      try Messaging.Keys.allow("a", publicKey: a, directory: own)
      final class Listener: ServerHandler {
        let count = LockedBox(0)
        func received(_ frames: [[UInt8]], from peer: PeerID, user: String?) { count.withValue { $0 += 1 } }
      }
      let listener = Listener()
      let server = try MessageServer(
        endpoints: ["tcp://127.0.0.1:*"], security: try ServerSecurity.load(keysDirectory: own),
        options: MessagingOptions(), handler: listener)
      let models = try FaultModels.shared.get()
      let worker = try Program(
        [
          "worker", "--expert", "math", "--model", models.expert(0), "--coordinator", server.boundEndpoints[0],
          "--keys", keys, "--key", "a", "--orphan-after", "4s",
        ], in: scratch)
      #expect(try await worker.wait(30) == .exit(69), "\(worker.errors)")
      #expect(worker.errorLines.count == 1, "\(worker.errors)")
      #expect(listener.count.withValue { $0 } == 0)
      server.shutdown()
    }

    @Test("50,000 hostile messages through codec, coordinator and worker: no rule is broken")
    func hostileMessages() async throws {
      let seed = UInt64.random(in: 0...UInt64.max)
      print("hostile messages: seed \(seed)")
      let violations = try await FuzzSession(messages: 50_000, seed: seed, rounds: 1).run { print($0) }
      #expect(violations.isEmpty)
    }
  }
}

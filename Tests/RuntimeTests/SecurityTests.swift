import Core
import Foundation
import Logging
import Messaging
import Testing
import Wire

/// A worker of our own making: registers what it is given and answers steps as `answer` says.
private final class FakeWorker: ClientHandler {
  let received = LockedBox<[WireMessage]>([])
  private let registration: [[UInt8]]
  private let beats = LockedBox(true)
  private let client = LockedBox<MessageClient?>(nil)
  private let answer: @Sendable (Step, FakeWorker) -> Void

  init(_ registration: [[UInt8]], answer: @escaping @Sendable (Step, FakeWorker) -> Void = { _, _ in }) {
    self.registration = registration
    self.answer = answer
  }

  func dial(_ endpoint: String) throws {
    var logger = Logger(label: "fake")
    logger.logLevel = .critical
    _ = try MessageClient(endpoint: endpoint, options: MessagingOptions(logger: logger), handler: self)
  }

  func started(_ client: MessageClient) { self.client.withValue { $0 = client } }
  func connected() { send(registration) }
  func send(_ frames: [[UInt8]]) { _ = client.withValue { $0 }?.send(frames) }
  func send(_ message: WireMessage) { send(WireCodec.encode(message)) }
  func fallSilent() { beats.withValue { $0 = false } }

  func received(_ frames: [[UInt8]]) {
    guard let message = try? WireCodec.decode(frames, from: .coordinator) else { return }
    received.withValue { $0.append(message) }
    if case .step(let step) = message { answer(step, self) }
  }

  func tick() {
    if beats.withValue({ $0 }) { send(.heartbeat(Heartbeat(sender: 1, count: 1, progress: 1))) }
  }

  func stop() {
    let held = client.withValue { client in
      defer { client = nil }
      return client
    }
    held?.shutdown()
  }

  var steps: Int { received.withValue { $0.count { if case .step = $0 { true } else { false } } } }
  var refusal: Refused? {
    received.withValue { $0.compactMap { if case .refused(let refused) = $0 { refused } else { nil } }.first }
  }
  var isRegistered: Bool {
    received.withValue { $0.contains { if case .registered = $0 { true } else { false } } }
  }
}

/// A coordinator that only listens, to learn how a real worker introduces itself.
private final class Listener: ServerHandler {
  let register = LockedBox<Register?>(nil)

  func received(_ frames: [[UInt8]], from peer: PeerID, user: String?) {
    if case .register(let message)? = try? WireCodec.decode(frames, from: .worker) {
      register.withValue { $0 = message }
    }
  }

  /// What the worker of an expert says of itself.
  static func introduction(of expert: Int, in scratch: Scratch) async throws -> Register {
    let listener = Listener()
    let endpoint = "ipc://\(scratch.path("l\(expert).sock"))"
    let server = try MessageServer(endpoints: [endpoint], options: MessagingOptions(), handler: listener)
    let worker = try SecurityWorker.start(expert, endpoint, in: scratch)
    try await worker.until("an introduction") { _ in listener.register.withValue { $0 != nil } }
    worker.signal(SIGKILL)
    _ = try await worker.wait()
    server.shutdown()
    return try #require(listener.register.withValue { $0 })
  }
}

private enum SecurityWorker {
  static func start(_ expert: Int, _ endpoint: String, in scratch: Scratch, _ more: [String] = []) throws -> Program {
    let models = try FaultModels.shared.get()
    return try Program(
      [
        "worker", "--expert", models.models.experts[expert].name, "--model", models.expert(expert), "--coordinator",
        endpoint, "--context", "1024",
      ] + more, in: scratch)
  }
}

private func wait(_ what: String, _ seconds: Double = 10, until condition: () -> Bool) async throws {
  for _ in 0..<Int(seconds * 100) where !condition() { try await Task.sleep(for: .milliseconds(10)) }
  #expect(condition(), "\(what) did not happen within \(seconds) s")
}

/// Peers that do not play by the rules, against a coordinator that goes on.
extension ProcessSuites {
  @Suite(.serialized) struct SecurityTests {
    /// A `run --attach` on a loopback port.
    private func coordinator(
      _ scratch: Scratch, extra: String = ""
    ) throws -> (run: Program, endpoint: String, port: Int) {
      let port = try FreePort.find()
      let endpoint = "tcp://127.0.0.1:\(port)"
      let cluster = try FaultModels.shared.get().cluster(
        in: scratch, extra: "listen: { workers: \"\(endpoint)\" }\nexpert_wait: 1s\n" + extra)
      let run = try Program(
        ["run", "-c", cluster, "--attach", "--format", "json", "--log-level", "info"], in: scratch, input: nil)
      return (run, endpoint, port)
    }

    private func end(_ run: Program, _ workers: [Program], code: Int32 = 0) async throws {
      run.closeInput()
      #expect(try await run.wait() == .exit(code), "\(run.errors)")
      for worker in workers { worker.signal(SIGTERM) }
      for worker in workers { _ = try await worker.wait() }
    }

    @Test("raw bytes, half-open connections and random frames on the workers' port: answers go on unchanged")
    func garbage() async throws {
      let scratch = try Scratch("garbage")
      let (run, endpoint, port) = try coordinator(scratch)
      let workers = [
        try SecurityWorker.start(0, endpoint, in: scratch), try SecurityWorker.start(1, endpoint, in: scratch),
      ]
      try await run.until("two workers") { FaultTests.registered($0).count == 2 }
      let (reference, _) = try await FaultTests.answer(run, FaultTests.prompts[1])
      let seed = UInt64.random(in: 0...UInt64.max)
      print("garbage: seed \(seed)")
      var random = SplitMix64(seed: seed)
      func bytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) } }
      // The greeting of ZMTP 3 with the NULL mechanism.
      let greeting: [UInt8] =
        [0xFF] + Array(repeating: 0, count: 8) + [0x7F, 3, 0] + Array("NULL".utf8) + Array(repeating: 0, count: 48)
      var open: [Int32] = []
      for index in 0..<60 {
        let descriptor = try RawConnection.open(port: port)
        open.append(descriptor)
        switch index % 4 {
        case 0: RawConnection.write(descriptor, bytes(Int.random(in: 1...5_000, using: &random)))
        case 1: RawConnection.write(descriptor, greeting + bytes(Int.random(in: 1...5_000, using: &random)))
        case 2: RawConnection.write(descriptor, Array(greeting.prefix(Int.random(in: 0..<64, using: &random))))
        default: RawConnection.write(descriptor, Array("GET / HTTP/1.1\r\nHost: x\r\n\r\n".utf8))
        }
      }
      let fakes = (0..<3).map { _ in FakeWorker([[0]]) }
      for fake in fakes { try fake.dial(endpoint) }
      let (during, _) = try await FaultTests.answer(run, FaultTests.prompts[1]) {
        for _ in 0..<200 {
          for fake in fakes {
            fake.send(
              (0..<Int.random(in: 1...4, using: &random)).map { _ in
                bytes(Int.random(in: 0...300, using: &random))
              })
          }
        }
        fakes[0].send([[UInt8]](repeating: [1], count: 2_000))
        fakes[1].send([bytes(5 << 20)])
      }
      #expect(during.tokens == reference.tokens && during.failovers == nil)
      for descriptor in open { close(descriptor) }
      for fake in fakes { fake.stop() }
      #expect(try await FaultTests.answer(run, FaultTests.prompts[1]).answer.tokens == reference.tokens)
      try await end(run, workers)
    }

    @Test("registered workers that misbehave in every way lose the request to one that does not")
    func misbehaving() async throws {
      let scratch = try Scratch("misb")
      var introduction = try await Listener.introduction(of: 0, in: scratch)
      let (run, endpoint, _) = try coordinator(scratch)
      typealias Answer = @Sendable (Step, FakeWorker) -> Void
      @Sendable func reply(_ step: Step, epoch: UInt32 = 0, rows: [StepReply.Row]) -> WireMessage {
        .stepReply(
          StepReply(
            request: step.request, coordinator: step.coordinator, sequence: step.sequence, epoch: step.epoch &+ epoch,
            length: step.baseLength + step.append.count, rows: rows, evaluated: 1, queueMicroseconds: 0,
            computeMicroseconds: 0))
      }
      let behaviours: [(name: String, answer: Answer)] = [
        ("random bytes", { _, worker in worker.send([[0xDE, 0xAD, 0xBE, 0xEF]]) }),
        ("a coordinator's message", { step, worker in worker.send(.release(Release(sequence: step.sequence))) }),
        ("a reply without rows", { step, worker in worker.send(reply(step, rows: [])) }),
        ("another epoch", { step, worker in worker.send(reply(step, epoch: 1, rows: [])) }),
        (
          "NaN",
          { step, worker in
            let rows = step.wants.map {
              StepReply.Row(
                position: $0.position, topIDs: Array(0..<Int32($0.topK)),
                topLogits: Array(repeating: .nan, count: $0.topK),
                namedLogits: Array(repeating: 0, count: $0.named.count), floor: -1)
            }
            worker.send(reply(step, rows: rows))
          }
        ),
        (
          "never the right prefix",
          { step, worker in
            worker.send(
              .prefixMissing(
                PrefixMissing(
                  request: step.request, coordinator: step.coordinator, sequence: step.sequence, epoch: step.epoch,
                  haveLength: 0, haveHash: .empty)))
          }
        ),
        (
          "failures",
          { step, worker in
            worker.send(
              .failure(
                Failure(request: step.request, coordinator: step.coordinator, code: .internal, message: "It broke.")))
          }
        ),
        ("goodbye", { _, worker in worker.send(.goodbye(Goodbye(sender: 1, reason: "no"))) }),
        ("silence", { _, worker in worker.fallSilent() }),
      ]
      var fakes: [FakeWorker] = []
      for (index, behaviour) in behaviours.enumerated() {
        introduction.incarnation = UInt64(1000 + index)
        let fake = FakeWorker(WireCodec.encode(.register(introduction)), answer: behaviour.answer)
        fakes.append(fake)
        try fake.dial(endpoint)
        try await wait("registration of \(behaviour.name)") { fake.isRegistered }
      }
      // The honest ones come last, so that everyone else is asked first.
      let workers = [
        try SecurityWorker.start(0, endpoint, in: scratch), try SecurityWorker.start(1, endpoint, in: scratch),
      ]
      try await run.until("all workers") { FaultTests.registered($0).count == behaviours.count + 2 }
      let prompt = #"{"prompt":"The river","raw":true,"max_tokens":40,"mode":"expert:math"}"#
      let (answer, took) = try await FaultTests.answer(run, prompt)
      print("misbehaving: answered after \(took), \(answer.failovers ?? 0) failovers")
      #expect(answer.error == nil, "\(answer.error?.message ?? "")")
      for (fake, behaviour) in zip(fakes, behaviours) { #expect(fake.steps > 0, "\(behaviour.name) was not asked") }
      #expect(answer.failovers == behaviours.count)
      for fake in fakes { fake.stop() }
      // Without any of them it is the same, and without the honest one too it is a clear error, not a defect.
      let (alone, _) = try await FaultTests.answer(run, prompt)
      #expect(alone.tokens == answer.tokens && alone.failovers == nil)
      workers[0].signal(SIGKILL)
      let (none, _) = try await FaultTests.answer(run, prompt)
      #expect(none.error?.code == "unavailable" && none.error?.message.contains("\"math\"") == true)
      try await end(run, workers, code: 69)
    }

    @Test("another protocol version is refused with both sides' versions")
    func protocolVersion() async throws {
      let scratch = try Scratch("proto")
      var introduction = try await Listener.introduction(of: 0, in: scratch)
      let (run, endpoint, _) = try coordinator(scratch)
      introduction.protocols = 99...99
      let fake = FakeWorker(WireCodec.encode(.register(introduction), protocol: 99))
      try fake.dial(endpoint)
      try await wait("a refusal") { fake.refusal != nil }
      #expect(fake.refusal?.code == .protocolVersion)
      #expect(fake.refusal?.message.contains("99") == true && fake.refusal?.message.contains("1") == true)
      // A newer worker that still speaks our version is served.
      introduction.protocols = 1...99
      let newer = FakeWorker(WireCodec.encode(.register(introduction)))
      try newer.dial(endpoint)
      try await wait("registration of the newer one") { newer.isRegistered }
      fake.stop()
      newer.stop()
      #expect(run.poll() == nil, "\(run.errors)")
      run.signal(SIGINT)
      #expect(try await run.wait() == .exit(130))
    }

    @Test("a coordinator of another protocol version refuses the worker: one sentence, 65")
    func foreignCoordinator() async throws {
      final class Foreign: ServerHandler {
        let server = LockedBox<MessageServer?>(nil)
        func started(_ server: MessageServer) { self.server.withValue { $0 = server } }
        func received(_ frames: [[UInt8]], from peer: PeerID, user: String?) {
          let refused = Refused(code: .protocolVersion, message: "this coordinator serves protocol versions 98 to 99")
          server.withValue { $0 }?.send(WireCodec.encode(.refused(refused), protocol: 99), to: peer)
        }
      }
      let scratch = try Scratch("foreign")
      let endpoint = "ipc://\(scratch.path("f.sock"))"
      let foreign = Foreign()
      let server = try MessageServer(endpoints: [endpoint], options: MessagingOptions(), handler: foreign)
      let worker = try SecurityWorker.start(0, endpoint, in: scratch)
      #expect(try await worker.wait() == .exit(65))
      #expect(worker.errorLines.count == 1 && worker.errors.contains("98 to 99"), "\(worker.errors)")
      foreign.server.withValue { $0 = nil }
      server.shutdown()
    }

    @Test("a worker that was let in before outlives a coordinator that hangs in the handshake, and returns to it")
    func hangingCoordinator() async throws {
      final class Registrar: ServerHandler {
        let server = LockedBox<MessageServer?>(nil)
        let registrations = LockedBox(0)
        func started(_ server: MessageServer) { self.server.withValue { $0 = server } }
        func received(_ frames: [[UInt8]], from peer: PeerID, user: String?) {
          guard case .register? = try? WireCodec.decode(frames, from: .worker) else { return }
          registrations.withValue { $0 += 1 }
          let registered = Registered(
            coordinator: 7, leasedSlots: 1, heartbeatMilliseconds: 500, creditBytes: 1 << 20, commonVocabulary: 512)
          server.withValue { $0 }?.send(WireCodec.encode(.registered(registered)), to: peer)
        }
        func stop() {
          let held = server.withValue { server in
            defer { server = nil }
            return server
          }
          held?.shutdown()
        }
      }
      let scratch = try Scratch("hanging")
      let port = try FreePort.find()
      let endpoint = "tcp://127.0.0.1:\(port)"
      let first = Registrar()
      _ = try MessageServer(endpoints: [endpoint], options: MessagingOptions(), handler: first)
      let worker = try SecurityWorker.start(0, endpoint, in: scratch)
      try await wait("registration") { first.registrations.withValue { $0 } > 0 }
      first.stop()
      // Accepts connections and says nothing: the handshake, which may take 2 s, fails.
      let (descriptor, _) = try FreePort.listen(port: port)
      try await Task.sleep(for: .seconds(4))
      close(descriptor)
      #expect(worker.poll() == nil, "\(worker.errors)")
      let second = Registrar()
      _ = try MessageServer(endpoints: [endpoint], options: MessagingOptions(), handler: second)
      try await wait("its return", 15) { second.registrations.withValue { $0 } > 0 }
      worker.signal(SIGTERM)
      #expect(try await worker.wait() == .exit(0))
      second.stop()
    }

    @Test("keys: unknown, missing, foreign and revoked ones are shut out with a sentence and 69; others go on")
    func keys() async throws {
      let scratch = try Scratch("keys")
      func keys(_ arguments: [String]) async throws {
        let program = try Program(["keys"] + arguments, in: scratch)
        #expect(try await program.wait() == .exit(0), "\(program.errors)")
      }
      let directory = scratch.path("keys")
      try await keys([directory, "--worker", "a", "--worker", "b", "--worker", "c"])
      try await keys(["revoke", directory, "c"])
      let other = scratch.path("other")
      try await keys([other, "--worker", "a"])
      // A worker's own pair, the right coordinator's key, and not on the list.
      try FileManager.default.createDirectory(atPath: scratch.path("own/workers"), withIntermediateDirectories: true)
      for (from, to) in [
        ("keys/coordinator.pub", "own/coordinator.pub"), ("other/workers/a.pub", "own/workers/a.pub"),
        ("other/workers/a.key", "own/workers/a.key"),
      ] {
        try FileManager.default.copyItem(atPath: scratch.path(from), toPath: scratch.path(to))
      }
      let (run, endpoint, _) = try coordinator(scratch, extra: "security: { keys: \(directory) }\n")
      func worker(_ expert: Int, _ arguments: [String]) throws -> Program {
        try SecurityWorker.start(expert, endpoint, in: scratch, ["--orphan-after", "4s"] + arguments)
      }
      let math = try worker(0, ["--keys", directory, "--key", "a"])
      let code = try worker(1, ["--keys", directory, "--key", "b"])
      try await run.until("two workers") { FaultTests.registered($0).count == 2 }
      let (reference, _) = try await FaultTests.answer(run, FaultTests.prompts[1])
      #expect(reference.error == nil && reference.tokens.count == FaultTests.length)

      for (name, arguments, words) in [
        ("no key", [], ["keys"]), ("not on the list", ["--keys", scratch.path("own"), "--key", "a"], ["allow-list"]),
        ("revoked", ["--keys", directory, "--key", "c"], ["allow-list"]),
        ("another coordinator's", ["--keys", other, "--key", "a"], ["key"]),
      ] as [(String, [String], [String])] {
        let stranger = try worker(0, arguments)
        let start = ContinuousClock.now
        let end = try await stranger.wait(15)
        print("keys: \(name): \(end) after \(ContinuousClock.now - start): \(stranger.errorLines)")
        #expect(end == .exit(69), "\(name): \(stranger.errors)")
        #expect(stranger.errorLines.count == 1, "\(name): \(stranger.errors)")
        for word in words { #expect(stranger.errorLines.first?.contains(word) == true, "\(name): \(stranger.errors)") }
      }
      #expect(FaultTests.registered(run).count == 2)
      #expect(try await FaultTests.answer(run, FaultTests.prompts[1]).answer.tokens == reference.tokens)

      // Revoked while it works: its expert is lost at once, the other goes on.
      try await keys(["revoke", directory, "b"])
      let (lost, _) = try await FaultTests.answer(run, FaultTests.prompts[1])
      #expect(lost.error?.message.contains("\"code\"") == true, "\(lost.error?.message ?? "answered")")
      let alone = #"{"prompt":"One","raw":true,"max_tokens":5,"mode":"expert:math"}"#
      #expect(try await FaultTests.answer(run, alone).answer.error == nil)
      #expect(try await code.wait(20) == .exit(69))
      #expect(code.errorLines.count == 1, "\(code.errors)")
      try await keys(["add", directory, "d"])
      let next = try worker(1, ["--keys", directory, "--key", "d"])
      try await run.until("the successor") { FaultTests.registered($0).count == 3 }
      #expect(try await FaultTests.answer(run, FaultTests.prompts[1]).answer.tokens == reference.tokens)
      try await end(run, [math, next], code: 69)
    }

    @Test("endpoints beyond loopback without keys are refused with 65, on both sides; so are bad keys")
    func refusedWithoutKeys() async throws {
      let scratch = try Scratch("nokeys")
      let models = try FaultModels.shared.get()
      let cluster = try models.cluster(in: scratch, extra: "listen: { workers: \"tcp://0.0.0.0:0\" }\n")
      for command in [
        ["run", "-c", cluster, "--prompt", "One"], ["run", "-c", cluster, "--attach"], ["workers", "-c", cluster],
      ] {
        try await BadInputTests.expectRefused(command, in: scratch, words: ["security.keys", ":5:"])
      }
      let worker = ["worker", "--expert", "math", "--model", models.expert(0), "--coordinator"]
      try await BadInputTests.expectRefused(
        worker + ["tcp://192.0.2.1:5570"], in: scratch, words: ["192.0.2.1", "--keys"])
      try await BadInputTests.expectRefused(
        worker + ["tcp://127.0.0.1:5570", "--keys", scratch.path("none")], in: scratch, words: ["none"])
      let directory = scratch.path("keys")
      let made = try Program(["keys", directory], in: scratch)
      #expect(try await made.wait() == .exit(0))
      try await BadInputTests.expectRefused(["keys", directory], in: scratch, words: [directory, "--force"])
      try await BadInputTests.expectRefused(["keys", "revoke", directory, "nobody"], in: scratch, words: ["nobody"])
      // A secret key that others may read.
      let secret = directory + "/workers/workers.key"
      chmod(secret, 0o644)
      try await BadInputTests.expectRefused(
        worker + ["tcp://127.0.0.1:5570", "--keys", directory], in: scratch, words: [secret])
      chmod(secret, 0o600)
      try Data("no key".utf8).write(to: URL(fileURLWithPath: secret))
      try await BadInputTests.expectRefused(
        worker + ["tcp://127.0.0.1:5570", "--keys", directory], in: scratch, words: [secret])
    }
  }
}

private enum RawConnection {
  static func open(port: Int) throws -> Int32 {
    #if canImport(Darwin)
      let type = SOCK_STREAM
    #else
      let type = Int32(SOCK_STREAM.rawValue)
    #endif
    let descriptor = socket(AF_INET, type, 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = in_port_t(port).bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    let status = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard status == 0 else { throw FusionRouteError.internal("cannot connect to port \(port)") }
    return descriptor
  }

  static func write(_ descriptor: Int32, _ bytes: [UInt8]) {
    // The other side may have hung up already.
    #if canImport(Darwin)
      _ = bytes.withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, 0) }
    #else
      _ = bytes.withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
    #endif
  }
}

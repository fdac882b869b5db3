import Core
import Foundation
import Logging
import Messaging
import Testing
import Wire

/// Peers that do not play by the rules, against a coordinator that goes on.
extension ProcessSuites {
  @Suite(.serialized) struct SecurityTests {
    @Test("raw bytes, half-open connections and random frames on the workers' port: answers go on unchanged")
    func garbage() async throws {
      let scratch = try Scratch("garbage")
      let (run, endpoint, port) = try AttachedRun.coordinator(scratch)
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
      try await AttachedRun.end(run, workers)
    }

    @Test("registered workers that misbehave in every way lose the request to one that does not")
    func misbehaving() async throws {
      let scratch = try Scratch("misb")
      var introduction = try await Listener.introduction(of: 0, in: scratch)
      let (run, endpoint, _) = try AttachedRun.coordinator(scratch)
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
        try await eventually("registration of \(behaviour.name)") { fake.isRegistered }
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
      try await AttachedRun.end(run, workers, code: 69)
    }

    @Test("another protocol version is refused with both sides' versions")
    func protocolVersion() async throws {
      let scratch = try Scratch("proto")
      var introduction = try await Listener.introduction(of: 0, in: scratch)
      let (run, endpoint, _) = try AttachedRun.coordinator(scratch)
      introduction.protocols = 99...99
      let fake = FakeWorker(WireCodec.encode(.register(introduction), protocol: 99))
      try fake.dial(endpoint)
      try await eventually("a refusal") { fake.refusal != nil }
      #expect(fake.refusal?.code == .protocolVersion)
      #expect(fake.refusal?.message.contains("99") == true && fake.refusal?.message.contains("1") == true)
      // A newer worker that still speaks our version is served.
      introduction.protocols = 1...99
      let newer = FakeWorker(WireCodec.encode(.register(introduction)))
      try newer.dial(endpoint)
      try await eventually("registration of the newer one") { newer.isRegistered }
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
      try await eventually("registration") { first.registrations.withValue { $0 } > 0 }
      first.stop()
      // Accepts connections and says nothing: the handshake, which may take 2 s, fails.
      let (descriptor, _) = try FreePort.listen(port: port)
      try await Task.sleep(for: .seconds(4))
      close(descriptor)
      #expect(worker.poll() == nil, "\(worker.errors)")
      let second = Registrar()
      _ = try MessageServer(endpoints: [endpoint], options: MessagingOptions(), handler: second)
      try await eventually("its return", 15) { second.registrations.withValue { $0 } > 0 }
      worker.signal(SIGTERM)
      #expect(try await worker.wait() == .exit(0))
      second.stop()
    }
  }
}

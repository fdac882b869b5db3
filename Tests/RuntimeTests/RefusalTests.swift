import Foundation
import Logging
import Messaging
import Testing
import Wire
import Worker

/// A coordinator that answers registrations as it is told to, and until then not at all.
private final class Gatekeeper: ServerHandler {
  private struct State {
    var server: MessageServer?
    var peer: PeerID?
    var answer: WireMessage?
    /// Whether it tells the worker at every tick to register again.
    var asks = false
    var answered = 0
    var beats = 0
  }

  private let state = LockedBox(State())

  init(_ endpoint: String, logger: Logger) throws {
    _ = try MessageServer(endpoints: [endpoint], options: MessagingOptions(logger: logger), handler: self)
  }

  func started(_ server: MessageServer) { state.withValue { $0.server = server } }

  func received(_ frames: [[UInt8]], from peer: PeerID, user: String?) {
    guard let message = try? WireCodec.decode(frames, from: .worker) else { return }
    let answer = state.withValue { state -> WireMessage? in
      state.peer = peer
      switch message {
      case .register:
        if state.answer != nil { state.answered += 1 }
        return state.answer
      case .heartbeat:
        state.beats += 1
        return nil
      default: return nil
      }
    }
    if let answer { send(answer) }
  }

  func tick() { if state.withValue({ $0.asks }) { send(.registerAgain) } }

  private func send(_ message: WireMessage) {
    let (server, peer) = state.withValue { ($0.server, $0.peer) }
    if let peer { server?.send(WireCodec.encode(message), to: peer) }
  }

  func answer(_ message: WireMessage) { state.withValue { $0.answer = message } }
  func ask(_ asks: Bool) { state.withValue { $0.asks = asks } }

  /// Registrations that it gave an answer to.
  var answered: Int { state.withValue { $0.answered } }
  var beats: Int { state.withValue { $0.beats } }

  func stop() {
    let held = state.withValue { state in
      defer { state.server = nil }
      return state.server
    }
    held?.shutdown()
  }
}

/// A worker of several coordinators ends when all of them refuse it, and not before.
@Suite(.serialized) struct RefusalTests {
  @Test("a coordinator that refused a worker and then let it in does not count when another refuses it")
  func refusalTakenBack() async throws {
    let scratch = try Scratch("refusal")
    var logger = Logger(label: "refusal")
    logger.logLevel = .critical
    let endpoints = ["a", "b"].map { "ipc://\(scratch.path($0 + ".sock"))" }
    let (first, second) = (
      try Gatekeeper(endpoints[0], logger: logger), try Gatekeeper(endpoints[1], logger: logger)
    )
    defer {
      first.stop()
      second.stop()
    }
    let refused = WireMessage.refused(Refused(code: .model, message: "not the model of the others"))
    first.answer(refused)
    var configuration = WorkerConfiguration(expert: "math", model: "", coordinators: endpoints)
    configuration.drainTimeout = .milliseconds(100)
    let stub = StubModel(base: .zero, perSequence: .zero, vocabularySize: 64)
    let worker = try WorkerRuntime.start(configuration, stub: stub, logger: logger)
    let run = Task { try await worker.run() }
    try await eventually("a refusal by the first", 30) { first.answered > 0 }
    first.answer(
      .registered(
        Registered(
          coordinator: 7, leasedSlots: 1, heartbeatMilliseconds: 50, creditBytes: 1 << 20, commonVocabulary: 64)))
    first.ask(true)
    // It beats only while it is registered.
    try await eventually("its registration with the first", 30) { first.beats > 0 }
    first.ask(false)
    second.answer(refused)
    second.ask(true)
    // A second answer is asked for after the first has been taken in.
    try await eventually("a refusal by the second", 30) { second.answered > 1 }
    worker.drain()
    await #expect(throws: Never.self) { try await run.value }
  }
}

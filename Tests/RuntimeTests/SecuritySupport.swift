import Core
import Foundation
import Logging
import Messaging
import Testing
import Wire

/// A worker of our own making: registers what it is given and answers steps as `answer` says.
final class FakeWorker: ClientHandler {
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
final class Listener: ServerHandler {
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

enum SecurityWorker {
  static func start(_ expert: Int, _ endpoint: String, in scratch: Scratch, _ more: [String] = []) throws -> Program {
    let models = try FaultModels.shared.get()
    return try Program(
      [
        "worker", "--expert", models.models.experts[expert].name, "--model", models.expert(expert), "--coordinator",
        endpoint, "--context", "1024",
      ] + more, in: scratch)
  }
}

func eventually(_ what: String, _ seconds: Double = 10, until condition: () -> Bool) async throws {
  for _ in 0..<Int(seconds * 100) where !condition() { try await Task.sleep(for: .milliseconds(10)) }
  #expect(condition(), "\(what) did not happen within \(seconds) s")
}

enum RawConnection {
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

/// A coordinator that waits for workers, and its orderly end.
enum AttachedRun {
  /// A `run --attach` on a loopback port.
  static func coordinator(
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

  static func end(_ run: Program, _ workers: [Program], code: Int32 = 0) async throws {
    run.closeInput()
    #expect(try await run.wait() == .exit(code), "\(run.errors)")
    for worker in workers { worker.signal(SIGTERM) }
    for worker in workers { _ = try await worker.wait() }
  }
}

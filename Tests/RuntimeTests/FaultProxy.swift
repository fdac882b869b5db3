import Core
import Foundation
import Messaging
import Wire

/// Stands between one worker and its coordinator, hands messages on and lets a test interfere with them.
final class FaultProxy: Sendable {
  enum Direction: Sendable { case toWorker, toCoordinator }

  enum Action: Sendable {
    case pass
    /// The message is lost.
    case drop
    /// It arrives twice.
    case double
    /// It arrives so much later, and what follows it on the connection after it.
    case delay(Duration)
    /// It arrives with its bytes mixed up.
    case garble
    /// Another arrives in its place.
    case replace(WireMessage)
    /// It is lost, and both connections break.
    case cut
  }

  typealias Rule = @Sendable (WireMessage, Direction) -> Action

  private struct State {
    var endpoint = "tcp://127.0.0.1:*"
    var server: MessageServer?
    var client: MessageClient?
    var worker: PeerID?
    var rule: Rule = { _, _ in .pass }
    /// Counts connections: what belongs to an earlier one is not handed on.
    var life = 0
    var isClosed = false
  }

  private let coordinator: String
  private let state = LockedBox(State())
  private let queues = [
    Direction.toWorker: DispatchQueue(label: "proxy.to-worker"),
    .toCoordinator: DispatchQueue(label: "proxy.to-coordinator"),
  ]

  init(coordinator: String) throws {
    self.coordinator = coordinator
    try open()
  }

  /// Where the worker dials.
  var endpoint: String { state.withValue { $0.endpoint } }

  deinit { close() }

  func interfere(_ rule: @escaping Rule) { state.withValue { $0.rule = rule } }

  func close() {
    let (server, client) = state.withValue { state in
      state.isClosed = true
      defer { (state.server, state.client) = (nil, nil) }
      return (state.server, state.client)
    }
    server?.shutdown()
    client?.shutdown()
  }

  private func open() throws {
    let life = state.withValue { $0.life }
    let server = try MessageServer(
      endpoints: [endpoint], options: MessagingOptions(), handler: WorkerSide(proxy: self, life: life))
    let client = try MessageClient(
      endpoint: coordinator, options: MessagingOptions(), handler: CoordinatorSide(proxy: self, life: life))
    state.withValue { state in
      (state.server, state.client) = (server, client)
      state.endpoint = server.boundEndpoints.first ?? state.endpoint
    }
  }

  /// Breaks both connections; they are made anew after a moment.
  private func cut(life: Int) {
    let (server, client) = state.withValue { state -> (MessageServer?, MessageClient?) in
      guard state.life == life, !state.isClosed else { return (nil, nil) }
      state.life += 1
      state.worker = nil
      defer { (state.server, state.client) = (nil, nil) }
      return (state.server, state.client)
    }
    guard let server, let client else { return }
    Thread.detachNewThread { [weak self] in
      client.shutdown()
      server.shutdown()
      // The port is free again after a moment.
      for _ in 0..<100 {
        Thread.sleep(forTimeInterval: 0.02)
        guard let self, !state.withValue({ $0.isClosed }) else { return }
        if (try? open()) != nil { return }
      }
    }
  }

  fileprivate func handle(_ frames: [[UInt8]], _ direction: Direction, life: Int, from worker: PeerID? = nil) {
    let sender: WireSender = direction == .toWorker ? .coordinator : .worker
    guard let message = try? WireCodec.decode(frames, from: sender) else { return }
    let rule = state.withValue { state -> Rule? in
      guard state.life == life else { return nil }
      if let worker { state.worker = worker }
      return state.rule
    }
    guard let rule else { return }
    switch rule(message, direction) {
    case .pass: forward(frames, direction, life)
    case .drop: break
    case .double:
      forward(frames, direction, life)
      forward(frames, direction, life)
    case .delay(let time):
      forward(frames, direction, life, after: time)
    case .garble:
      var frames = frames
      for index in frames[0].indices where index % 3 == 0 { frames[0][index] ^= 0x5A }
      forward(frames, direction, life)
    case .replace(let other): forward(WireCodec.encode(other), direction, life)
    case .cut: cut(life: life)
    }
  }

  private func forward(_ frames: [[UInt8]], _ direction: Direction, _ life: Int, after delay: Duration = .zero) {
    queues[direction]?.async { [weak self] in
      if delay > .zero { Thread.sleep(forTimeInterval: delay / .seconds(1)) }
      self?.deliver(frames, direction, life)
    }
  }

  private func deliver(_ frames: [[UInt8]], _ direction: Direction, _ life: Int) {
    let (server, client, worker) = state.withValue { state -> (MessageServer?, MessageClient?, PeerID?) in
      state.life == life ? (state.server, state.client, state.worker) : (nil, nil, nil)
    }
    switch direction {
    case .toCoordinator: client?.send(frames)
    case .toWorker: if let worker { server?.send(frames, to: worker) }
    }
  }

  private struct WorkerSide: ServerHandler {
    weak var proxy: FaultProxy?
    let life: Int

    func received(_ frames: [[UInt8]], from peer: PeerID, user: String?) {
      proxy?.handle(frames, .toCoordinator, life: life, from: peer)
    }
  }

  private struct CoordinatorSide: ClientHandler {
    weak var proxy: FaultProxy?
    let life: Int

    func received(_ frames: [[UInt8]]) { proxy?.handle(frames, .toWorker, life: life) }
  }
}

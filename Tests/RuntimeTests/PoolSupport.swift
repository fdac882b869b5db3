import Core
import Logging
import Messaging
import Wire

@testable import Coordinator

/// The coordinator's side of the protocol on a socket of its own, without any model: its workers are ``FakeWorker``s,
/// which say nothing that they are not told to say.
final class PoolHouse: Sendable {
  static let expert = "math"
  static let vocabularySize = 2_500

  let pool: ExpertPool
  let endpoint: String
  private let server: MessageServer
  /// Kept: it holds the socket.
  private let scratch: Scratch

  init(logger: Logger = PoolHouse.quiet) throws {
    let scratch = try Scratch("pool")
    self.scratch = scratch
    endpoint = "ipc://\(scratch.path("p.sock"))"
    var limits = ReplicaRegistry<PeerID>.Limits()
    (limits.silence, limits.hang) = (600_000_000_000, 600_000_000_000)
    pool = ExpertPool(
      requirements: .init(
        experts: [Self.expert], vocabularyFingerprint: Self.fingerprint("the router's"),
        vocabularySize: Self.vocabularySize, protocolRange: WireCodec.oldestProtocol...WireCodec.currentProtocol,
        reproducible: true),
      limits: limits, vocabulary: VocabularyTexts(size: Self.vocabularySize) { Array("token \($0)".utf8) },
      heartbeatInterval: .milliseconds(50), logger: logger)
    var messaging = MessagingOptions(logger: Self.quiet)
    messaging.tickInterval = .milliseconds(10)
    server = try MessageServer(endpoints: [endpoint], options: messaging, handler: pool)
  }

  static var quiet: Logger {
    var logger = Logger(label: "pool")
    logger.logLevel = .critical
    return logger
  }

  private static func fingerprint(_ name: String) -> SHA256Digest { SHA256Digest(hashing: Array(name.utf8)) }

  /// - Parameter vocabulary: another name than the router's has the vocabularies compared.
  static func registration(vocabulary: String = "the router's", slots: Int = 2) -> Register {
    Register(
      expert: expert, incarnation: 1, modelFingerprint: fingerprint("model"),
      vocabularyFingerprint: fingerprint(vocabulary), vocabularySize: vocabularySize,
      numerics: Numerics(label: "x", probeHash: fingerprint("probe"), batchInvariant: true), slots: slots,
      context: 4_096, maximumPositions: 16, host: "nowhere", pid: 1, software: "test")
  }

  /// The tokens asked for, which are the router's.
  static func page(_ query: VocabularyQuery) -> WireMessage {
    let tokens = query.first..<min(query.first + query.count, vocabularySize)
    return .vocabularyPage(
      VocabularyPage(
        first: query.first, total: vocabularySize, texts: tokens.map { Array("token \($0)".utf8) },
        attributes: tokens.map { _ in 0 }))
  }

  /// Dials in; it registers once the connection stands.
  func dial(_ registration: Register = PoolHouse.registration()) throws -> FakeWorker {
    let worker = FakeWorker(WireCodec.encode(.register(registration)))
    worker.fallSilent()
    try worker.dial(endpoint)
    return worker
  }

  /// The same, let in.
  func worker() async throws -> FakeWorker {
    let worker = try dial()
    try await eventually("registration", 30) { worker.isRegistered }
    return worker
  }

  /// The one that serves, if there is one.
  var replica: ReplicaID? { pool.state.withLock { $0.registry.serving(Self.expert).first?.id } }

  func stop() {
    pool.close()
    server.shutdown(flushing: .milliseconds(100))
  }
}

extension FakeWorker {
  private func all<Message>(_ pick: (WireMessage) -> Message?) -> [Message] {
    received.withValue { $0.compactMap(pick) }
  }

  /// Each answer to a registration of its own.
  var welcomes: [Registered] { all { if case .registered(let message) = $0 { message } else { nil } } }
  var queries: [VocabularyQuery] { all { if case .vocabularyQuery(let message) = $0 { message } else { nil } } }
  var scores: [Score] { all { if case .score(let message) = $0 { message } else { nil } } }
  var cancels: [Cancel] { all { if case .cancel(let message) = $0 { message } else { nil } } }

  /// Answers queries as they come until it is let in.
  func showVocabulary() async throws {
    var answered = 0
    try await eventually("registration", 30) {
      let asked = queries
      for query in asked[answered...] { send(PoolHouse.page(query)) }
      answered = asked.count
      return isRegistered
    }
  }
}

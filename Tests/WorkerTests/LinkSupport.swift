import Core
import Inference
import Logging
import Synchronization
import Wire

@testable import Worker

/// A worker's link without a connection, and what its coordinator says.
enum LinkSupport {
  static let vocabulary = 256

  static func service(_ engine: any StepEngine) -> ExpertService {
    ExpertService(
      engine: engine, slots: 2, context: 256, vocabularySize: vocabulary, maximumPositions: 4,
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
  }

  /// - Parameter outbound: takes what the worker sends.
  static func link(
    _ service: ExpertService, outbound: @escaping @Sendable (WireMessage) -> Void = { _ in }
  ) -> CoordinatorLink {
    let digest = SHA256Digest(hashing: Array("worker".utf8))
    let offer = Register(
      expert: "math", incarnation: 1, modelFingerprint: digest, vocabularyFingerprint: digest,
      vocabularySize: vocabulary, numerics: Numerics(label: "x", probeHash: digest, batchInvariant: true),
      slots: 2, context: 256, maximumPositions: 4, host: "here", pid: 1, software: "test")
    return CoordinatorLink(
      endpoint: "ipc://nowhere", offer: offer, service: service,
      leases: SlotLeases(slots: 2, endpoints: ["ipc://nowhere"]),
      page: { VocabularyPage(first: $0.first, total: 0, texts: [], attributes: []) }, isDraining: { false },
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }, outbound: outbound, notify: { _ in })
  }

  /// A step on a sequence of its own that asks for the row after its last token.
  static func step(_ request: UInt64, of coordinator: UInt64 = 7) -> WireMessage {
    .step(
      Step(
        request: request, coordinator: coordinator, sequence: request, epoch: 0, baseLength: 0, baseHash: .empty,
        append: [Token(request), 2, 3], wants: [Step.Want(position: 2, fullRow: true)], deadlineMilliseconds: 60_000))
  }

  /// 99 positions, which are computed in blocks of 32.
  static func score(_ request: UInt64, of coordinator: UInt64 = 7, fullRows: Bool) -> WireMessage {
    .score(
      Score(
        request: request, coordinator: coordinator, tokens: (0..<100).map { Token($0) }, first: 1, topK: 0,
        fullRows: fullRows, deadlineMilliseconds: 60_000))
  }
}

extension CoordinatorLink {
  func receive(_ message: WireMessage) { received(WireCodec.encode(message)) }

  /// The coordinator lets the worker in. With a credit of 1 byte the first row uses it up.
  func welcome(by coordinator: UInt64 = 7, credit: Int, vocabulary: Int = LinkSupport.vocabulary) {
    receive(
      .registered(
        Registered(
          coordinator: coordinator, leasedSlots: 2, heartbeatMilliseconds: 500, creditBytes: credit,
          commonVocabulary: vocabulary)))
  }
}

/// How a coordinator leaves a worker that it had let in.
enum Parting: CaseIterable {
  case disconnected, goodbye, refused, registeredAnew
  /// After it had asked the worker to register again, and before it answered that.
  case disconnectedUnanswered, goodbyeUnanswered, refusedUnanswered

  func happen(to link: CoordinatorLink) {
    switch self {
    case .disconnectedUnanswered, .goodbyeUnanswered, .refusedUnanswered: link.receive(.registerAgain)
    case .disconnected, .goodbye, .refused, .registeredAnew: break
    }
    switch self {
    case .disconnected, .disconnectedUnanswered: link.disconnected()
    case .goodbye, .goodbyeUnanswered: link.receive(.goodbye(Goodbye(sender: 7, reason: "test")))
    case .refused, .refusedUnanswered:
      link.receive(.refused(Refused(code: .authorisation, message: "the key was revoked")))
    case .registeredAnew: link.welcome(credit: 1)
    }
  }
}

/// What a link has sent.
final class Sent: Sendable {
  private let messages = Mutex<[WireMessage]>([])

  func append(_ message: WireMessage) { messages.withLock { $0.append(message) } }

  var all: [WireMessage] { messages.withLock { $0 } }

  var registrations: Int { all.count { if case .register = $0 { true } else { false } } }

  var beats: Int { all.count { if case .heartbeat = $0 { true } else { false } } }

  /// What answers steps and scoring requests, with coordinator and request.
  var answers: [String] {
    all.compactMap { message -> String? in
      switch message {
      case .rowChunk(let chunk): "row of \(chunk.coordinator)/\(chunk.request)"
      case .stepReply(let reply): "reply to \(reply.coordinator)/\(reply.request)"
      case .scoreReply(let reply): "scores of \(reply.coordinator)/\(reply.request)"
      case .failure(let failure): "failure of \(failure.coordinator)/\(failure.request)"
      default: nil
      }
    }
  }
}

/// Has the rows of a request when it is told to, on the thread that says so.
final class HeldEngine: StepEngine {
  private let requests = Mutex<[DecodeRequest]>([])
  private let gone = Mutex<[UInt64]>([])

  var waiting: Int { requests.withLock { $0.count } }
  /// Sequences that were released.
  var released: [UInt64] { gone.withLock { $0 } }

  func submit(_ request: DecodeRequest) { requests.withLock { $0.append(request) } }
  func cancel(request id: UInt64) {}
  func release(sequence: UInt64) { gone.withLock { $0.append(sequence) } }
  func shutdown() {}

  var load: EngineLoad {
    EngineLoad(
      progress: 0, batchBudgetMilliseconds: 0, queued: waiting, residentSequences: 0, kvTokens: 0, evaluatedTokens: 0)
  }

  /// Answers the eldest request.
  func finish() {
    let eldest = requests.withLock { requests -> DecodeRequest? in requests.isEmpty ? nil : requests.removeFirst() }
    guard let eldest else { return }
    for position in eldest.wanted {
      let row = LogitsRow([Float](repeating: 0, count: LinkSupport.vocabulary))
      eldest.deliver(DecodedRow(position: position, logits: row))
    }
    eldest.completion(
      .success(
        DecodeSummary(
          evaluatedTokens: eldest.tokens.count, reusedTokens: 0, queueNanoseconds: 0, computeNanoseconds: 0)))
  }
}

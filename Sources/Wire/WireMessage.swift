/// Who sent a message.
public enum WireSender: String, Sendable, Hashable {
  case coordinator, worker
}

/// Everything a coordinator and a worker say to each other; see Protos/fusionroute/v1/fusionroute.proto.
public enum WireMessage: Sendable, Equatable {
  case register(Register)
  case registered(Registered)
  case registerAgain
  case refused(Refused)
  case vocabularyQuery(VocabularyQuery)
  case vocabularyPage(VocabularyPage)
  case heartbeat(Heartbeat)
  case step(Step)
  case stepReply(StepReply)
  case prefixMissing(PrefixMissing)
  case rowChunk(RowChunk)
  case score(Score)
  case scoreReply(ScoreReply)
  case failure(Failure)
  case credit(Credit)
  case cancel(Cancel)
  case release(Release)
  case drain
  case goodbye(Goodbye)

  /// The request that a worker's answer belongs to, and the incarnation of the coordinator that made it; nil for other
  /// messages.
  public var answered: (request: UInt64, coordinator: UInt64)? {
    switch self {
    case .stepReply(let message): (message.request, message.coordinator)
    case .prefixMissing(let message): (message.request, message.coordinator)
    case .rowChunk(let message): (message.request, message.coordinator)
    case .scoreReply(let message): (message.request, message.coordinator)
    case .failure(let message): (message.request, message.coordinator)
    default: nil
    }
  }
}

/// The message types by their field number in `Envelope.body`.
enum MessageKind: UInt32, CaseIterable {
  case register = 2
  case registered, registerAgain, refused, vocabularyQuery, vocabularyPage, heartbeat, step, stepReply, prefixMissing
  case rowChunk, score, scoreReply, failure, credit, cancel, release, drain, goodbye

  /// Readable in every version, so that two sides that share none can say so.
  var isHandshake: Bool { self == .register || self == .registerAgain || self == .refused }

  func maySend(_ sender: WireSender) -> Bool {
    switch self {
    case .heartbeat, .drain, .goodbye: true
    case .register, .vocabularyPage, .stepReply, .prefixMissing, .rowChunk, .scoreReply, .failure: sender == .worker
    case .registered, .registerAgain, .refused, .vocabularyQuery, .step, .score, .credit, .cancel, .release:
      sender == .coordinator
    }
  }

  /// The name in the .proto file, for error sentences.
  var name: String {
    let text = String(describing: self)
    return text.prefix(1).uppercased() + text.dropFirst()
  }
}

extension WireMessage {
  var kind: MessageKind {
    switch self {
    case .register: .register
    case .registered: .registered
    case .registerAgain: .registerAgain
    case .refused: .refused
    case .vocabularyQuery: .vocabularyQuery
    case .vocabularyPage: .vocabularyPage
    case .heartbeat: .heartbeat
    case .step: .step
    case .stepReply: .stepReply
    case .prefixMissing: .prefixMissing
    case .rowChunk: .rowChunk
    case .score: .score
    case .scoreReply: .scoreReply
    case .failure: .failure
    case .credit: .credit
    case .cancel: .cancel
    case .release: .release
    case .drain: .drain
    case .goodbye: .goodbye
    }
  }
}

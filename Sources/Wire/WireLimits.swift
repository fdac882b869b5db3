/// Every limit of the protocol. What exceeds one is refused before memory is spent on it.
///
/// A side that knows better narrows them: a coordinator sets `vocabulary` to its router's size, a worker `context` to
/// its own.
public struct WireLimits: Sendable, Hashable {
  /// Token ids are below this.
  public var vocabulary = 1 << 20
  /// Tokens in a prefix.
  public var context = 1 << 18
  /// Positions in one step.
  public var positions = 256
  /// Largest logits per row.
  public var topK = 8_192
  /// Named ids per row.
  public var named = 8_192
  /// Sequences held by a replica.
  public var slots = 4_096
  /// Tokens that a heartbeat counts, in the cache or since the start: sums over many replicas stay far from overflow.
  public var countedTokens = 1 << 48
  /// Tokens in a page of the vocabulary.
  public var pageTokens = 4_096
  /// Floats in a RowChunk: its message stays below 64 KiB, so that heartbeats pass between chunks.
  public var rowChunkFloats = 16_128
  /// Payload bytes of a StepReply or ScoreReply.
  public var payloadBytes = 1 << 20
  /// Bytes of a name (expert, host, code).
  public var nameBytes = 256
  /// Bytes of a sentence (refusal, failure, label).
  public var sentenceBytes = 4_096
  /// Longest deadline, heartbeat interval or batch budget, in milliseconds (one day).
  public var milliseconds = 86_400_000
  /// Header bytes of a message that lists tokens (Step, StepReply, Score).
  public var tokenHeaderBytes = 1 << 20
  /// Header bytes of a vocabulary page.
  public var pageHeaderBytes = 1 << 18
  /// Header bytes of any other message.
  public var headerBytes = 16_384

  public init() {}

  /// Header bytes allowed for a kind.
  func headerCap(_ kind: MessageKind) -> Int {
    switch kind {
    case .step, .stepReply, .score: tokenHeaderBytes
    case .vocabularyPage: pageHeaderBytes
    default: headerBytes
    }
  }

  /// Memory that unpacking a header of `bytes` bytes may take. protobuf-c needs up to 40 bytes for each unpacked field
  /// of two bytes while it scans, and honest messages stay far below this.
  func memoryQuota(_ kind: MessageKind, bytes: Int) -> Int {
    65_536 + bytes * (kind == .vocabularyPage ? 48 : 24)
  }

  /// Payload frames and bytes allowed for a kind.
  func payloadCap(_ kind: MessageKind) -> (frames: Int, bytes: Int) {
    switch kind {
    case .stepReply: (positions, payloadBytes)
    case .rowChunk: (1, rowChunkFloats * 4)
    case .scoreReply: (5, payloadBytes)
    default: (0, 0)
    }
  }
}

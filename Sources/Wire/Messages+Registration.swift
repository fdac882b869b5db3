public import Core

/// Worker to coordinator: who I am. First message of a connection, the answer to `registerAgain`, and again when `slots`
/// changes.
public struct Register: Sendable, Equatable {
  /// Protocol versions the worker speaks.
  public var protocols: ClosedRange<UInt32>
  public var expert: String
  /// Random, new at every start of the process.
  public var incarnation: UInt64
  /// Over model, adapter and the settings that change logits.
  public var modelFingerprint: SHA256Digest
  public var vocabularyFingerprint: SHA256Digest
  public var vocabularySize: Int
  public var numerics: Numerics
  /// Sequences in the KV cache offered to this coordinator; may be 0.
  public var slots: Int
  /// Tokens per sequence.
  public var context: Int
  /// Positions whose logits one step may ask for.
  public var maximumPositions: Int
  public var host: String
  public var pid: Int32
  public var software: String

  public init(
    protocols: ClosedRange<UInt32> = WireCodec.servedProtocols, expert: String, incarnation: UInt64,
    modelFingerprint: SHA256Digest, vocabularyFingerprint: SHA256Digest, vocabularySize: Int, numerics: Numerics,
    slots: Int, context: Int, maximumPositions: Int, host: String, pid: Int32, software: String
  ) {
    self.protocols = protocols
    self.expert = expert
    self.incarnation = incarnation
    self.modelFingerprint = modelFingerprint
    self.vocabularyFingerprint = vocabularyFingerprint
    self.vocabularySize = vocabularySize
    self.numerics = numerics
    self.slots = slots
    self.context = context
    self.maximumPositions = maximumPositions
    self.host = host
    self.pid = pid
    self.software = software
  }
}

/// How logits come about: two replicas with equal values give equal bits for equal tokens.
public struct Numerics: Sendable, Hashable {
  /// For people: engine build, CPU variant, weight type, settings.
  public var label: String
  /// Over the logits' bits on fixed probes.
  public var probeHash: SHA256Digest
  public var batchInvariant: Bool

  public init(label: String, probeHash: SHA256Digest, batchInvariant: Bool) {
    self.label = label
    self.probeHash = probeHash
    self.batchInvariant = batchInvariant
  }
}

/// Coordinator to worker: welcome.
public struct Registered: Sendable, Equatable {
  /// The coordinator's incarnation.
  public var coordinator: UInt64
  /// How many of the offered slots the coordinator will use.
  public var leasedSlots: Int
  public var heartbeatMilliseconds: Int
  /// RowChunk payload bytes the worker may send before it is granted more; 0: an answer to changed slots, nothing else
  /// changes.
  public var creditBytes: Int
  /// Logits at or above this id are cut.
  public var commonVocabulary: Int
  /// Version both sides use from now on.
  public var protocolVersion: UInt32

  public init(
    coordinator: UInt64, leasedSlots: Int, heartbeatMilliseconds: Int, creditBytes: Int, commonVocabulary: Int,
    protocolVersion: UInt32 = WireCodec.currentProtocol
  ) {
    self.coordinator = coordinator
    self.leasedSlots = leasedSlots
    self.heartbeatMilliseconds = heartbeatMilliseconds
    self.creditBytes = creditBytes
    self.commonVocabulary = commonVocabulary
    self.protocolVersion = protocolVersion
  }
}

/// Coordinator to worker: I will not work with you.
public struct Refused: Sendable, Equatable {
  /// Open set of reasons.
  public struct Code: RawRepresentable, Hashable, Sendable {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }

    /// No protocol version in common.
    public static let protocolVersion = Code(rawValue: "protocol")
    /// The coordinator's head has no such expert.
    public static let expert = Code(rawValue: "expert")
    /// Not the router's vocabulary.
    public static let vocabulary = Code(rawValue: "vocabulary")
    /// Not the model, adapter or settings of the expert's other replicas.
    public static let model = Code(rawValue: "model")
    /// Not the numerics class of the expert's other replicas, or not reproducible.
    public static let numerics = Code(rawValue: "numerics")
    /// The coordinator is leaving.
    public static let draining = Code(rawValue: "draining")
    /// The key's owner may not serve this expert.
    public static let authorisation = Code(rawValue: "authorisation")
  }

  public var code: Code
  /// One sentence for the worker's log.
  public var message: String

  public init(code: Code, message: String) {
    self.code = code
    self.message = message
  }
}

/// Coordinator to worker: show me tokens `first ..< first + count`.
public struct VocabularyQuery: Sendable, Equatable {
  public var first: Int
  public var count: Int

  public init(first: Int, count: Int) {
    self.first = first
    self.count = count
  }
}

/// Tokens `first ..< first + texts.count`: fewer than asked where the page would grow too large, none only at the end.
public struct VocabularyPage: Sendable, Equatable {
  public var first: Int
  /// Size of the vocabulary.
  public var total: Int
  /// Raw token texts, need not be UTF-8.
  public var texts: [[UInt8]]
  /// One per text.
  public var attributes: [UInt32]

  public init(first: Int, total: Int, texts: [[UInt8]], attributes: [UInt32]) {
    self.first = first
    self.total = total
    self.texts = texts
    self.attributes = attributes
  }
}

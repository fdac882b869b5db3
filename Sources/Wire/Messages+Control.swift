/// Both directions. From a worker, any frame proves the process; only `progress` proves the computation.
public struct Heartbeat: Sendable, Equatable {
  /// Incarnation of the sender.
  public var sender: UInt64
  public var count: UInt64
  /// Monotonic counter of the computing thread.
  public var progress: UInt64?
  /// How long the batch under way may take.
  public var batchBudgetMilliseconds: Int?
  public var queued: Int?
  public var residentSequences: Int?
  public var kvTokens: UInt64?
  public var evaluatedTokens: UInt64?
  public var draining: Bool

  public init(
    sender: UInt64, count: UInt64, progress: UInt64? = nil, batchBudgetMilliseconds: Int? = nil, queued: Int? = nil,
    residentSequences: Int? = nil, kvTokens: UInt64? = nil, evaluatedTokens: UInt64? = nil, draining: Bool = false
  ) {
    self.sender = sender
    self.count = count
    self.progress = progress
    self.batchBudgetMilliseconds = batchBudgetMilliseconds
    self.queued = queued
    self.residentSequences = residentSequences
    self.kvTokens = kvTokens
    self.evaluatedTokens = evaluatedTokens
    self.draining = draining
  }
}

/// Both directions: I leave now.
public struct Goodbye: Sendable, Equatable {
  /// Incarnation of the sender.
  public var sender: UInt64
  public var reason: String

  public init(sender: UInt64, reason: String) {
    self.sender = sender
    self.reason = reason
  }
}

/// Worker to coordinator: request `request` will have no other answer.
public struct Failure: Sendable, Equatable {
  /// Open set of reasons.
  public struct Code: RawRepresentable, Hashable, Sendable {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }

    /// More tokens than the context holds.
    public static let context = Code(rawValue: "context")
    /// The deadline passed first.
    public static let deadline = Code(rawValue: "deadline")
    /// Cancelled by the coordinator.
    public static let cancelled = Code(rawValue: "cancelled")
    /// No room in the KV cache.
    public static let memory = Code(rawValue: "memory")
    /// The request contradicts itself or a limit.
    public static let invalid = Code(rawValue: "invalid")
    /// A defect or a failure of the engine.
    public static let `internal` = Code(rawValue: "internal")
    /// The worker is leaving.
    public static let draining = Code(rawValue: "draining")
  }

  public var request: UInt64
  /// Incarnation that the request came from.
  public var coordinator: UInt64
  public var code: Code
  /// One full sentence.
  public var message: String

  public init(request: UInt64, coordinator: UInt64, code: Code, message: String) {
    self.request = request
    self.coordinator = coordinator
    self.code = code
    self.message = message
  }
}

/// Coordinator to worker: so many more RowChunk payload bytes may be sent. `Registered` starts the count anew.
public struct Credit: Sendable, Equatable {
  public var bytes: Int

  public init(bytes: Int) {
    self.bytes = bytes
  }
}

/// Coordinator to worker: the answer is no longer wanted.
public struct Cancel: Sendable, Equatable {
  public var request: UInt64

  public init(request: UInt64) {
    self.request = request
  }
}

/// Coordinator to worker: the sequence is over, its KV cache may go.
public struct Release: Sendable, Equatable {
  public var sequence: UInt64

  public init(sequence: UInt64) {
    self.sequence = sequence
  }
}

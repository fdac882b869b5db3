public import Core

/// Coordinator to worker: on exactly this prefix, append these tokens and tell me about these positions.
///
/// Answered by one `StepReply`, `PrefixMissing` or `Failure`.
public struct Step: Sendable, Equatable {
  /// Position p: the logits that follow `tokens[0...p]`. A full row comes alone: no `topK`, no names.
  public struct Want: Sendable, Hashable {
    public var position: Int
    /// How many of the largest logits; 0 without names, row or log-sum-exp: compute and keep the row, answer nothing.
    public var topK: Int
    /// Strictly ascending ids whose logits are wanted whatever they are.
    public var named: [Token]
    public var fullRow: Bool
    public var logSumExp: Bool

    public init(position: Int, topK: Int = 0, named: [Token] = [], fullRow: Bool = false, logSumExp: Bool = false) {
      self.position = position
      self.topK = topK
      self.named = named
      self.fullRow = fullRow
      self.logSumExp = logSumExp
    }

    /// Whether the reply has a row for it; otherwise the worker only computes and keeps the row.
    public var isAnswered: Bool { topK > 0 || !named.isEmpty || fullRow || logSumExp }
  }

  /// Unique within the coordinator's incarnation.
  public var request: UInt64
  /// The coordinator's incarnation.
  public var coordinator: UInt64
  /// Unique within the coordinator's incarnation.
  public var sequence: UInt64
  public var epoch: UInt32
  /// Tokens of the prefix that the worker is thought to hold.
  public var baseLength: Int
  public var baseHash: PrefixHash
  public var append: [Token]
  /// Strictly ascending positions below `baseLength + append.count`; empty: warm-up.
  public var wants: [Want]
  /// From receipt.
  public var deadlineMilliseconds: Int
  /// The user's request that this belongs to.
  public var trace: TraceContext?

  public init(
    request: UInt64, coordinator: UInt64, sequence: UInt64, epoch: UInt32, baseLength: Int, baseHash: PrefixHash,
    append: [Token], wants: [Want], deadlineMilliseconds: Int, trace: TraceContext? = nil
  ) {
    self.request = request
    self.coordinator = coordinator
    self.sequence = sequence
    self.epoch = epoch
    self.baseLength = baseLength
    self.baseHash = baseHash
    self.append = append
    self.wants = wants
    self.deadlineMilliseconds = deadlineMilliseconds
    self.trace = trace
  }
}

/// Worker to coordinator: the rows a step asked for.
public struct StepReply: Sendable, Equatable {
  /// What was asked of one position.
  public struct Row: Sendable, Hashable {
    public var position: Int
    /// [k] ids of the largest logits: descending logit, ties by ascending id.
    public var topIDs: [Token]
    /// [k] their logits, finite or -inf.
    public var topLogits: [Float]
    /// Logits of the named ids, in the order they were named.
    public var namedLogits: [Float]
    /// Every logit outside `topIDs` is at most this; nil only for full rows.
    public var floor: Float?
    public var logSumExp: Float?
    /// Above 0: the whole row, so many floats, went before in `RowChunk`s.
    public var fullCount: Int

    public init(
      position: Int, topIDs: [Token] = [], topLogits: [Float] = [], namedLogits: [Float] = [], floor: Float? = nil,
      logSumExp: Float? = nil, fullCount: Int = 0
    ) {
      self.position = position
      self.topIDs = topIDs
      self.topLogits = topLogits
      self.namedLogits = namedLogits
      self.floor = floor
      self.logSumExp = logSumExp
      self.fullCount = fullCount
    }
  }

  public var request: UInt64
  public var coordinator: UInt64
  public var sequence: UInt64
  public var epoch: UInt32
  /// Tokens the worker now holds for the sequence.
  public var length: Int
  /// Strictly ascending positions.
  public var rows: [Row]
  /// Tokens that went through the model for this step.
  public var evaluated: Int
  public var queueMicroseconds: Int
  public var computeMicroseconds: Int

  public init(
    request: UInt64, coordinator: UInt64, sequence: UInt64, epoch: UInt32, length: Int, rows: [Row], evaluated: Int,
    queueMicroseconds: Int, computeMicroseconds: Int
  ) {
    self.request = request
    self.coordinator = coordinator
    self.sequence = sequence
    self.epoch = epoch
    self.length = length
    self.rows = rows
    self.evaluated = evaluated
    self.queueMicroseconds = queueMicroseconds
    self.computeMicroseconds = computeMicroseconds
  }
}

/// Worker to coordinator: I lack exactly that base. The epoch is void; this is the longest prefix I still have.
public struct PrefixMissing: Sendable, Equatable {
  public var request: UInt64
  public var coordinator: UInt64
  public var sequence: UInt64
  public var epoch: UInt32
  public var haveLength: Int
  public var haveHash: PrefixHash

  public init(
    request: UInt64, coordinator: UInt64, sequence: UInt64, epoch: UInt32, haveLength: Int, haveHash: PrefixHash
  ) {
    self.request = request
    self.coordinator = coordinator
    self.sequence = sequence
    self.epoch = epoch
    self.haveLength = haveLength
    self.haveHash = haveHash
  }
}

/// Worker to coordinator: floats `offset ..< offset + values.count` of the row at `position`; they precede the reply that
/// covers them.
public struct RowChunk: Sendable, Equatable {
  public var request: UInt64
  public var coordinator: UInt64
  public var position: Int
  public var offset: Int
  /// Floats in the whole row.
  public var total: Int
  public var values: [Float]

  public init(request: UInt64, coordinator: UInt64, position: Int, offset: Int, total: Int, values: [Float]) {
    self.request = request
    self.coordinator = coordinator
    self.position = position
    self.offset = offset
    self.total = total
    self.values = values
  }
}

/// Coordinator to worker: score these tokens, teacher forced.
public struct Score: Sendable, Equatable {
  public var request: UInt64
  public var coordinator: UInt64
  public var tokens: [Token]
  /// First token index whose log-probability is wanted, at least 1.
  public var first: Int
  /// 0: none.
  public var topK: Int
  /// Rows come as `RowChunk`s under credits, before the `ScoreReply` that covers them.
  public var fullRows: Bool
  /// From receipt, and anew from each reply.
  public var deadlineMilliseconds: Int
  /// The user's request that this belongs to.
  public var trace: TraceContext?

  public init(
    request: UInt64, coordinator: UInt64, tokens: [Token], first: Int, topK: Int, fullRows: Bool,
    deadlineMilliseconds: Int, trace: TraceContext? = nil
  ) {
    self.request = request
    self.coordinator = coordinator
    self.tokens = tokens
    self.first = first
    self.topK = topK
    self.fullRows = fullRows
    self.deadlineMilliseconds = deadlineMilliseconds
    self.trace = trace
  }
}

/// Worker to coordinator: scores of `tokens[first ..< first + logProbabilities.count]`.
public struct ScoreReply: Sendable, Equatable {
  public var request: UInt64
  public var coordinator: UInt64
  public var first: Int
  /// k; 0: the three arrays below are empty.
  public var topK: Int
  public var last: Bool
  /// [count] log-probability of the given token, natural logarithm.
  public var logProbabilities: [Float]
  /// [count] most likely token.
  public var argmaxes: [Token]
  /// [count, k] ids of the largest logits: descending logit, ties by ascending id.
  public var topIDs: [Token]
  /// [count, k] their logits.
  public var topLogits: [Float]
  /// [count] log-sum-exp of the whole row.
  public var logSumExps: [Float]

  public init(
    request: UInt64, coordinator: UInt64, first: Int, topK: Int, last: Bool, logProbabilities: [Float],
    argmaxes: [Token], topIDs: [Token] = [], topLogits: [Float] = [], logSumExps: [Float] = []
  ) {
    self.request = request
    self.coordinator = coordinator
    self.first = first
    self.topK = topK
    self.last = last
    self.logProbabilities = logProbabilities
    self.argmaxes = argmaxes
    self.topIDs = topIDs
    self.topLogits = topLogits
    self.logSumExps = logSumExps
  }
}

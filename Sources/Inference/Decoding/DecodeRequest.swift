public import Core

/// Work for a `BatchingDecoder`: evaluate a prefix and hand over the logits at some of its positions.
public struct DecodeRequest: Sendable {
  /// Names the request in `cancel`; unique among those under way.
  public var id: UInt64
  /// The caller's key of a growing sequence; only a hint of where its KV is: correctness never depends on it.
  public var sequence: UInt64
  /// The whole prefix. What the KV cache already holds of it is not evaluated again.
  public var tokens: [Token]
  /// Ascending positions p: the logits that follow tokens[0...p]. Empty: only fill the KV cache.
  public var wanted: [Int]
  /// Whether rows carry the hidden state too; only if the configuration says so.
  public var wantsHidden: Bool
  /// Called on the decoder's thread, in ascending order of positions; must be quick.
  public var deliver: @Sendable (DecodedRow) -> Void
  /// Called once: on the decoder's thread, or by `submit` itself when the request is refused there.
  public var completion: @Sendable (Result<DecodeSummary, FusionRouteError>) -> Void

  public init(
    id: UInt64, sequence: UInt64, tokens: [Token], wanted: [Int], wantsHidden: Bool = false,
    deliver: @escaping @Sendable (DecodedRow) -> Void,
    completion: @escaping @Sendable (Result<DecodeSummary, FusionRouteError>) -> Void
  ) {
    self.id = id
    self.sequence = sequence
    self.tokens = tokens
    self.wanted = wanted
    self.wantsHidden = wantsHidden
    self.deliver = deliver
    self.completion = completion
  }
}

/// The model's output after one position.
public struct DecodedRow: Sendable {
  public let position: Int
  /// [vocabulary]
  public let logits: LogitsRow
  /// [embedding width]: what the output matrix multiplies, after the last norm; nil unless asked for.
  public let hidden: [Float]?

  package init(position: Int, logits: LogitsRow, hidden: [Float]? = nil) {
    self.position = position
    self.logits = logits
    self.hidden = hidden
  }
}

public struct DecodeSummary: Sendable, Hashable {
  /// Tokens the model was run on for this request.
  public let evaluatedTokens: Int
  /// Tokens found in the KV cache.
  public let reusedTokens: Int
  /// From `submit` to the first call of llama.cpp for this request.
  public let queueNanoseconds: UInt64
  /// Duration of the calls of llama.cpp that this request took part in.
  public let computeNanoseconds: UInt64

  package init(evaluatedTokens: Int, reusedTokens: Int, queueNanoseconds: UInt64, computeNanoseconds: UInt64) {
    self.evaluatedTokens = evaluatedTokens
    self.reusedTokens = reusedTokens
    self.queueNanoseconds = queueNanoseconds
    self.computeNanoseconds = computeNanoseconds
  }
}

/// Counters of a decoder; a snapshot.
public struct DecoderStatistics: Sendable, Hashable {
  /// Tokens the model was run on for requests, since the start.
  public let evaluatedTokens: UInt64
  /// Grows while a computation gets on (graph nodes and batches). Standing still with a budget overdrawn: hung.
  public let progress: UInt64
  /// Generous bound on the duration of the batch under way, in milliseconds; 0 while idle.
  public let currentBatchBudgetMilliseconds: UInt64
  /// Requests submitted and not completed.
  public let queued: Int
  /// Sequences with tokens in the KV cache.
  public let residentSequences: Int
  /// Tokens in the KV cache.
  public let kvTokens: Int
  /// Sequences that lost their KV to another, since the start.
  public let evictions: UInt64
  /// Calls of llama.cpp, since the start.
  public let batches: UInt64
  /// Those of them that were chunks of prefill.
  public let prefillChunks: UInt64
  /// Most turns of prefill, each a chunk or several short ones within the same budget, that ended between a step's
  /// submission and its computation, where nothing else held it back: no lack of a slot, no earlier request of its
  /// sequence, no beginning that another request is reading.
  public let longestStepWait: UInt64
  /// Tokens of idle sequences decoded again to keep a batch in one piece, since the start; not in `evaluatedTokens`.
  public let refilledTokens: UInt64
}

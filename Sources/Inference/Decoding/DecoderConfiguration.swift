internal import CLlama
internal import Core

/// Number type of the KV cache.
public enum KVType: String, Sendable, Hashable, Codable, CaseIterable {
  case f16, f32

  var bytes: Int { self == .f16 ? 2 : 4 }
  var ggml: ggml_type { self == .f16 ? GGML_TYPE_F16 : GGML_TYPE_F32 }
}

/// How a `BatchingDecoder` is laid out.
public struct DecoderConfiguration: Sendable, Hashable {
  /// Most sequences llama.cpp holds in one context.
  public static let maximumSlots = 256
  /// llama.cpp pads the context of a sequence to a multiple of this.
  public static let contextGranularity = 256
  /// Rows of logits that one call of llama.cpp may produce take at most this many bytes (more if one row per slot does).
  static let outputBytes = 32 << 20

  /// Sequences whose KV is held at once, 1...256.
  public var slots: Int
  /// Tokens per sequence; rounded up to a multiple of 256. KV memory is slots × this.
  public var contextPerSequence: Int
  /// Threads of this decoder. More than one must not share cores with another decoder: ggml's barriers spin.
  public var threads: Int
  /// Nil: F32 for a model in F32, else F16.
  public var kvType: KVType?
  /// The same tokens give the same bits whatever else is decoded with them (as far as the weight type allows).
  public var reproducible: Bool
  /// Whether requests may ask for hidden states.
  public var hiddenStates: Bool
  /// Most tokens in one call of llama.cpp.
  public var maximumBatch: Int
  /// A request with at most this many tokens left is a step, and joins the others; one with more is prefill.
  public var stepTokens: Int
  /// Aim for the duration of one prefill chunk, in milliseconds, while other sequences are stepping.
  public var prefillMilliseconds: Double
  /// Requests that may wait in the queue.
  public var queueLimit: Int
  /// For tests: see ``StepCosts``.
  var fixedStepShare: Double?
  /// For tests: false evaluates as with a llama.cpp that takes only neighbouring slots together.
  var joinsDistantSlots = true

  public init(
    slots: Int = 4, contextPerSequence: Int = 4096, threads: Int = 1, kvType: KVType? = nil, reproducible: Bool = true,
    hiddenStates: Bool = false, maximumBatch: Int = 256, stepTokens: Int = 16, prefillMilliseconds: Double = 50,
    queueLimit: Int = 4096
  ) {
    self.slots = slots
    self.contextPerSequence = contextPerSequence
    self.threads = threads
    self.kvType = kvType
    self.reproducible = reproducible
    self.hiddenStates = hiddenStates
    self.maximumBatch = maximumBatch
    self.stepTokens = stepTokens
    self.prefillMilliseconds = prefillMilliseconds
    self.queueLimit = queueLimit
  }

  /// What of this changes a model's logits: settings of its ``ModelFingerprint``.
  public var fingerprintSettings: [String: String] {
    ["kv": kvType?.rawValue ?? "auto", "reproducible": "\(reproducible)"]
  }

  /// `contextPerSequence`, padded as llama.cpp pads it.
  public var paddedContext: Int {
    let unit = Self.contextGranularity
    return (max(1, contextPerSequence) + unit - 1) / unit * unit
  }

  /// Checks the ranges and their relations.
  func validated() throws -> DecoderConfiguration {
    func check(_ condition: Bool, _ sentence: String) throws {
      if !condition { throw FusionRouteError.badInput(sentence) }
    }
    try check(
      (1...Self.maximumSlots).contains(slots), "slots is \(slots), but must be between 1 and \(Self.maximumSlots)")
    try check(
      (1...(1 << 24)).contains(contextPerSequence),
      "context is \(contextPerSequence), but must be between 1 and 16777216")
    try check((1...512).contains(threads), "threads is \(threads), but must be between 1 and 512")
    try check((16...8192).contains(maximumBatch), "the batch limit is \(maximumBatch), but must be 16 to 8192")
    try check(
      (1...maximumBatch).contains(stepTokens), "the step limit is \(stepTokens), but must be 1 to \(maximumBatch)")
    try check(queueLimit > 0, "the queue limit is \(queueLimit), but must be positive")
    try check(prefillMilliseconds > 0, "the prefill time is \(prefillMilliseconds) ms, but must be positive")
    try check(
      slots * paddedContext <= Int(Int32.max),
      "\(slots) slots of \(paddedContext) tokens are more than llama.cpp can count; lower the slots or the context")
    return self
  }

  /// The KV type in force for a model.
  func resolvedKVType(model: Model) -> KVType {
    kvType ?? (llama_model_ftype(model.handle.pointer) == LLAMA_FTYPE_ALL_F32 ? .f32 : .f16)
  }

  /// Most tokens in one call, within the whole context.
  var batchLimit: Int { min(max(maximumBatch, slots), slots * paddedContext) }

  /// Most rows of logits in one call: bounded memory, but at least one per slot.
  func outputLimit(vocabulary: Int) -> Int {
    min(batchLimit, max(slots, 16, Self.outputBytes / (4 * max(1, vocabulary))))
  }
}

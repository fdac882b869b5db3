internal import Core

/// What a generated model looks like.
public struct ModelRecipe: Sendable, Equatable, Codable {
  public enum Architecture: String, Sendable, Codable, CaseIterable {
    case llama
    /// Alternating sliding-window layers, soft-capped attention and output, always tied.
    case gemma2
    /// Sliding windows in all but every n-th layer, normalised queries and keys, a RoPE base of its own in windows.
    case gemma3
  }

  public enum VocabularyKind: String, Sendable, Codable, CaseIterable {
    /// SentencePiece as in Llama 2 and Gemma: scores, byte tokens, `▁` for a space.
    case spm
    /// Byte-level BPE as in GPT-2 and SmolLM2: merges, pre-tokeniser `smollm`.
    case bpe
  }

  public var architecture: Architecture = .llama
  public var layers = 4
  /// Embedding width (`n_embd`).
  public var width = 64
  public var heads = 4
  /// Key/value heads: less than `heads` is grouped-query attention.
  public var kvHeads = 4
  /// Elements of one head; nil: width / heads.
  public var headDimension: Int?
  public var feedForward = 192
  public var vocabularyKind: VocabularyKind = .spm
  /// Tokens; the vocabulary depends on its kind and size alone, never on the seed.
  public var vocabularySize = 512
  /// Positions that a windowed layer sees, its own included; nil: no window (not possible for gemma2).
  public var window: Int?
  /// Every n-th layer attends to everything, the others to the window; nil: 2 for gemma2, 6 for gemma3.
  public var windowPattern: Int?
  /// The output matrix is the embedding matrix.
  public var tied = true
  /// Longest sequence the model claims to have been trained on.
  public var context = 2048
  public var ropeBase: Float = 10_000
  /// Storage of the matrices; norms stay F32. Rows that do not fit a block fall back as in llama.cpp's quantiser.
  public var type: TensorType = .f32
  /// Adds the ChatML template and its `<|im_start|>` and `<|im_end|>` tokens are in every vocabulary.
  public var chatTemplate = true
  public var name = "generated"
  public var seed: UInt64 = 1

  public init(architecture: Architecture = .llama, seed: UInt64 = 1) {
    self.architecture = architecture
    self.seed = seed
    if architecture == .gemma2 { window = 512 }
    if architecture == .gemma3 {
      window = 512
      ropeBase = 1_000_000
    }
  }

  /// Elements of one head.
  public var headSize: Int { headDimension ?? (heads > 0 ? width / heads : 0) }

  /// The pattern that applies: every n-th layer attends to everything.
  public var effectivePattern: Int { windowPattern ?? (architecture == .gemma2 ? 2 : 6) }

  /// Limits within which llama.cpp loads the model.
  public static let maximumLayers = 512
  public static let maximumVocabulary = 1 << 20

  /// Throws `.usage` with the first field that cannot be built.
  public func validate() throws {
    func require(_ condition: Bool, _ message: @autoclosure () -> String) throws {
      guard condition else { throw FusionRouteError.usage("the model cannot be made: \(message())") }
    }
    try require((1...Self.maximumLayers).contains(layers), "layers must be 1 to \(Self.maximumLayers), not \(layers)")
    try require((8...65_536).contains(width), "width must be 8 to 65536, not \(width)")
    try require((1...1_024).contains(heads), "heads must be 1 to 1024, not \(heads)")
    try require(
      (1...heads).contains(kvHeads) && heads % kvHeads == 0,
      "kv-heads must divide heads (\(heads)), \(kvHeads) does not")
    try require(headDimension != nil || width % heads == 0, "width \(width) is not a multiple of heads (\(heads))")
    try require(
      (2...1_024).contains(headSize) && headSize % 2 == 0,
      "a head must have an even 2 to 1024 elements, not \(headSize)")
    try require((1...1_048_576).contains(feedForward), "feed-forward must be 1 to 1048576, not \(feedForward)")
    try require((1...16_777_216).contains(context), "context must be 1 to 16777216, not \(context)")
    let least = GeneratedVocabulary.leastSize(vocabularyKind)
    try require(
      (least...Self.maximumVocabulary).contains(vocabularySize),
      "a \(vocabularyKind.rawValue) vocabulary has \(least) to \(Self.maximumVocabulary) tokens, not \(vocabularySize)")
    try require(ropeBase.isFinite && ropeBase > 1, "the RoPE base must be above 1, not \(ropeBase)")
    try require(type.isWritable, "weights cannot be written as \(type.name)")
    switch architecture {
    case .llama:
      try require(window == nil, "llama models have no sliding window; use gemma2 or gemma3")
    case .gemma2:
      try require(window != nil, "gemma2 models need a sliding window")
      try require(tied, "gemma2 models always tie the output to the embedding")
    case .gemma3: break
    }
    if let window { try require((1...16_777_216).contains(window), "window must be 1 to 16777216, not \(window)") }
    if let windowPattern {
      try require(
        (1...Self.maximumLayers).contains(windowPattern), "window-pattern must be 1 to 512, not \(windowPattern)")
    }
    try require(!name.utf8.contains(0), "the name contains a NUL byte")
  }
}

extension TensorType: Codable {
  public init(from decoder: any Decoder) throws {
    let name = try decoder.singleValueContainer().decode(String.self)
    guard let type = TensorType(name: name) else {
      throw FusionRouteError.badInput("unknown tensor type '\(name)'")
    }
    self = type
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(name)
  }
}

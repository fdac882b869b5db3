internal import Core

/// Writes models with random weights: small ones for tests, and large vocabularies to measure with.
public enum ModelMaker {
  /// Is told before every tensor which one of how many it is; what it throws ends the writing, and nothing is left of it.
  public typealias Progress = @Sendable (_ tensor: Int, _ count: Int) throws -> Void

  /// Writes `recipe` to `path`, complete or not at all. The same recipe gives the same bytes.
  ///
  /// Weights are scaled so that each block adds about as much to the residual stream as it finds there: the next token
  /// depends on the whole context, not on the last token alone. Throws `.usage` for an impossible recipe and
  /// `.unavailable` if the file cannot be written.
  public static func make(
    _ recipe: ModelRecipe, to path: String, progress: Progress = { _, _ in }
  ) throws {
    try recipe.validate()
    let vocabulary = GeneratedVocabulary(kind: recipe.vocabularyKind, size: recipe.vocabularySize)
    try make(recipe, vocabulary, to: path, progress)
  }

  /// The same with a byte-level BPE vocabulary that was learnt from texts; it decides the vocabulary's kind and size.
  public static func make(
    _ recipe: ModelRecipe, vocabulary learnt: LearntMerges, to path: String, progress: Progress = { _, _ in }
  ) throws {
    let vocabulary = GeneratedVocabulary(learnt)
    var recipe = recipe
    recipe.vocabularyKind = .bpe
    recipe.vocabularySize = vocabulary.tokens.count
    try recipe.validate()
    try make(recipe, vocabulary, to: path, progress)
  }

  private static func make(
    _ recipe: ModelRecipe, _ vocabulary: GeneratedVocabulary, to path: String, _ progress: Progress
  ) throws {
    var writer = GGUFWriter()
    try setMetadata(recipe, in: &writer)
    try setVocabulary(vocabulary, recipe, in: &writer)
    try addTensors(recipe, specials: vocabulary.specials, to: &writer)
    try writer.write(to: path, progress: progress)
  }

  private static func setMetadata(_ recipe: ModelRecipe, in writer: inout GGUFWriter) throws {
    let arch = recipe.architecture.rawValue
    try writer.set("general.architecture", .string(arch))
    try writer.set("general.type", .string("model"))
    try writer.set("general.name", .string(recipe.name))
    try writer.set("general.file_type", .uint32(fileType(recipe.type)))
    try writer.set("general.quantization_version", .uint32(2))
    let counts: [(String, Int)] = [
      ("vocab_size", recipe.vocabularySize), ("context_length", recipe.context), ("embedding_length", recipe.width),
      ("block_count", recipe.layers), ("feed_forward_length", recipe.feedForward),
      ("attention.head_count", recipe.heads), ("attention.head_count_kv", recipe.kvHeads),
      ("attention.key_length", recipe.headSize), ("attention.value_length", recipe.headSize),
      ("rope.dimension_count", recipe.headSize),
    ]
    for (key, value) in counts { try writer.set("\(arch).\(key)", .uint32(UInt32(value))) }
    try writer.set("\(arch).attention.layer_norm_rms_epsilon", .float32(1e-6))
    try writer.set("\(arch).rope.freq_base", .float32(recipe.ropeBase))
    if let window = recipe.window {
      try writer.set("\(arch).attention.sliding_window", .uint32(UInt32(window)))
      try writer.set("\(arch).attention.sliding_window_pattern", .uint32(UInt32(recipe.effectivePattern)))
    }
    switch recipe.architecture {
    case .llama: break
    case .gemma2:
      try writer.set("\(arch).attn_logit_softcapping", .float32(50))
      try writer.set("\(arch).final_logit_softcapping", .float32(30))
    case .gemma3:
      if recipe.window != nil { try writer.set("\(arch).rope.freq_base_swa", .float32(10_000)) }
    }
  }

  /// llama.cpp's number for "mostly this type" (`llama_ftype`).
  private static func fileType(_ type: TensorType) -> UInt32 {
    switch type {
    case .f32: 0
    case .f16: 1
    case .q41: 3
    case .q80: 7
    case .q50: 8
    case .q4K: 15
    case .bf16: 32
    default: 1024  // LLAMA_FTYPE_GUESSED
    }
  }

  private static func setVocabulary(
    _ vocabulary: GeneratedVocabulary, _ recipe: ModelRecipe, in writer: inout GGUFWriter
  ) throws {
    let key = "tokenizer.ggml"
    try writer.set("\(key).model", .string(recipe.vocabularyKind == .spm ? "llama" : "gpt2"))
    if recipe.vocabularyKind == .bpe { try writer.set("\(key).pre", .string("smollm")) }
    try writer.set("\(key).tokens", .array(.strings(vocabulary.tokens)))
    if recipe.vocabularyKind == .spm {
      // A higher score joins first: pieces in the order in which they were made.
      try writer.set("\(key).scores", .array(.float32(vocabulary.tokens.indices.map { -Float($0) })))
    }
    try writer.set("\(key).token_type", .array(.int32(vocabulary.kinds.map(\.rawValue))))
    if recipe.vocabularyKind == .bpe { try writer.set("\(key).merges", .array(.strings(vocabulary.merges))) }
    func special(_ role: String, _ token: String) throws {
      guard let id = vocabulary.id(of: token) else { return }
      try writer.set("\(key).\(role)_token_id", .uint32(UInt32(id)))
    }
    switch recipe.vocabularyKind {
    case .spm:
      try special("bos", GeneratedVocabulary.beginSPM)
      try special("eos", GeneratedVocabulary.endSPM)
      try special("unknown", GeneratedVocabulary.unknownSPM)
    case .bpe:
      try special("bos", GeneratedVocabulary.turnStart)
      try special("eos", GeneratedVocabulary.turnEnd)
      try special("unknown", GeneratedVocabulary.endOfTextBPE)
    }
    try special("eot", GeneratedVocabulary.turnEnd)
    try writer.set("\(key).add_bos_token", .bool(recipe.vocabularyKind == .spm))
    try writer.set("\(key).add_eos_token", .bool(false))
    try writer.set("\(key).add_space_prefix", .bool(false))
    if recipe.chatTemplate { try writer.set("tokenizer.chat_template", .string(chatML)) }
  }

  static let chatML =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    + "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
}

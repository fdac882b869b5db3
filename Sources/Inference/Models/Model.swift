internal import CLlama
internal import CLlamaExtras
internal import Core
internal import Foundation

/// A model file loaded into memory, with its adapters. Immutable; shared by any number of decoders and threads.
public final class Model: Sendable {
  /// Owns the C handle. The model is never written after loading, and llama.cpp's const calls are thread-safe.
  final class Handle: @unchecked Sendable {
    let pointer: OpaquePointer
    var vocab: OpaquePointer? { llama_model_get_vocab(pointer) }
    fileprivate(set) var adapters: [(pointer: OpaquePointer, scale: Float)] = []

    init(_ pointer: OpaquePointer) { self.pointer = pointer }

    // Adapters are freed with their model.
    deinit { llama_model_free(pointer) }
  }

  let handle: Handle
  public let path: String
  public let options: ModelLoadOptions
  public let information: ModelInformation
  public let vocabulary: Vocabulary
  let grammars = GrammarCache()

  private init(handle: Handle, path: String, options: ModelLoadOptions) {
    self.handle = handle
    self.path = path
    self.options = options
    information = Self.describe(handle.pointer)
    vocabulary = Vocabulary(handle: handle, path: path)
  }

  /// Loads `path` and the adapters of `options`.
  ///
  /// Call `ModelProbe.check` first for a file of unknown origin: llama.cpp may abort the process on a malformed one.
  /// - Throws: `badInput` naming the file and llama.cpp's reason; `unavailable` if the weights do not fit in memory.
  public static func load(path: String, options: ModelLoadOptions = .init()) throws -> Model {
    LlamaRuntime.prepare()
    try checkReadable(path, what: "model file")
    if options.gpuLayers == 0, !options.vocabularyOnly { try MemoryForecast.checkWeights(path: path) }
    var parameters = llama_model_default_params()
    parameters.n_gpu_layers = Int32(clamping: options.gpuLayers)
    parameters.use_extra_bufts = options.useExtraBufferTypes
    parameters.vocab_only = options.vocabularyOnly
    let ((pointer, shim), lines) = LlamaLog.shared.capturing {
      LlamaRuntime.withShimError { error in fr_model_load(path, &parameters, error) }
    }
    guard let pointer else {
      throw FusionRouteError.badInput(
        "cannot load the model file \(path)\(LlamaLog.reason(lines, shim: shim)); check that it is a complete GGUF file"
      )
    }
    let handle = Handle(pointer)
    guard llama_vocab_type(llama_model_get_vocab(pointer)) != LLAMA_VOCAB_TYPE_NONE else {
      throw FusionRouteError.badInput(
        "the model file \(path) has no tokenizer; use a model that carries its vocabulary")
    }
    if !options.vocabularyOnly { try checkDecoder(pointer, path: path) }
    for adapter in options.adapters { try load(adapter: adapter, into: handle, model: path) }
    return Model(handle: handle, path: path, options: options)
  }

  private static func checkDecoder(_ pointer: OpaquePointer, path: String) throws {
    guard llama_model_has_decoder(pointer), !llama_model_has_encoder(pointer), !llama_model_is_diffusion(pointer) else {
      throw FusionRouteError.badInput(
        "the model file \(path) is not a causal language model; encoder and diffusion models cannot be used here")
    }
  }

  private static func load(adapter: AdapterFile, into handle: Handle, model: String) throws {
    try checkReadable(adapter.path, what: "adapter file")
    guard adapter.scale.isFinite else {
      throw FusionRouteError.badInput("the scale of the adapter \(adapter.path) is not a finite number")
    }
    let ((pointer, shim), lines) = LlamaLog.shared.capturing {
      LlamaRuntime.withShimError { error in fr_adapter_load(handle.pointer, adapter.path, error) }
    }
    guard let pointer else {
      throw FusionRouteError.badInput(
        "cannot load the adapter \(adapter.path) for \(model)\(LlamaLog.reason(lines, shim: shim))")
    }
    guard llama_adapter_get_alora_n_invocation_tokens(pointer) == 0 else {
      throw FusionRouteError.badInput(
        "the adapter \(adapter.path) is an activated LoRA, which acts only after its invocation tokens; use a plain one"
      )
    }
    handle.adapters.append((pointer, adapter.scale))
  }

  static func checkReadable(_ path: String, what: String) throws {
    var isDirectory: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory) else {
      throw FusionRouteError.badInput("the \(what) \(path) does not exist")
    }
    guard !isDirectory.boolValue else { throw FusionRouteError.badInput("the \(what) \(path) is a directory") }
    guard FileManager.default.isReadableFile(atPath: path) else {
      throw FusionRouteError.badInput("the \(what) \(path) cannot be read; check its permissions")
    }
  }

  /// Value of a scalar metadata key of the file, as text; nil if absent.
  public func metadata(_ key: String) -> String? { Self.metadata(handle.pointer, key) }

  private static func metadata(_ model: OpaquePointer, _ key: String) -> String? {
    let length = llama_model_meta_val_str(model, key, nil, 0)
    guard length >= 0 else { return nil }
    var buffer = [CChar](repeating: 0, count: Int(length) + 1)
    guard llama_model_meta_val_str(model, key, &buffer, buffer.count) >= 0 else { return nil }
    return String(decoding: buffer.prefix(Int(length)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  private static func describe(_ model: OpaquePointer) -> ModelInformation {
    let architecture = metadata(model, "general.architecture") ?? "unknown"
    let layers = Int(llama_model_n_layer(model))
    // A model without layers (loaded for its vocabulary) has no heads either: asking for them would abort.
    let heads = layers > 0 ? Int(llama_model_n_head(model)) : 0
    let keyValueHeads = layers > 0 ? Int(llama_model_n_head_kv(model)) : 0
    let window = llama_model_n_swa(model)
    func number(_ key: String) -> Int { metadata(model, "\(architecture).\(key)").flatMap { Int($0) } ?? 0 }
    return ModelInformation(
      architecture: architecture,
      name: metadata(model, "general.name"),
      layers: layers > 0 ? layers : number("block_count"),
      embeddingWidth: layers > 0 ? Int(llama_model_n_embd_out(model)) : number("embedding_length"),
      heads: heads > 0 ? heads : number("attention.head_count"),
      keyValueHeads: keyValueHeads > 0 ? keyValueHeads : number("attention.head_count_kv"),
      vocabularySize: Int(llama_vocab_n_tokens(llama_model_get_vocab(model))),
      trainedContext: layers > 0 ? Int(llama_model_n_ctx_train(model)) : number("context_length"),
      slidingWindow: window > 0 ? Int(window) : nil,
      weightType: String(cString: llama_ftype_name(llama_model_ftype(model))),
      fileBytes: llama_model_size(model),
      parameterCount: llama_model_n_params(model),
      isRecurrent: llama_model_is_recurrent(model) || llama_model_is_hybrid(model))
  }

  /// The model's Jinja chat template; nil if the file carries none.
  public var chatTemplate: String? {
    llama_model_chat_template(handle.pointer, nil).map { String(cString: $0) }
  }

  /// Renders `messages` with the model's own chat template, as Hugging Face's `apply_chat_template` does.
  ///
  /// - Parameter addGenerationPrompt: ends the text with the start of the assistant's turn.
  /// - Throws: `badInput` if the model has no template or the template refuses the messages.
  public func renderChat(_ messages: [ChatMessage], addGenerationPrompt: Bool) throws -> String {
    guard let template = chatTemplate else {
      throw FusionRouteError.badInput(
        "the model \(path) carries no chat template; give the prompt as it is with --raw")
    }
    return try ChatTemplate.render(
      template, messages: messages, addGenerationPrompt: addGenerationPrompt,
      beginning: vocabulary.specialText(vocabulary.beginningOfSequence),
      end: vocabulary.specialText(vocabulary.endOfSequence), source: path)
  }
}

internal import CLlama
internal import Core
internal import Foundation

/// What a decoder will take, told from the model file's header before anything is loaded.
public struct MemoryForecast: Sendable, Hashable {
  /// Weights of the model and its adapters.
  public let weightsBytes: UInt64
  /// KV cache: slots × context × layers × KV heads × (key + value) × type.
  public let kvBytes: UInt64
  /// Estimate of llama.cpp's compute and output buffers.
  public let computeBytes: UInt64
  /// Bytes that can be had now, within the limits of the control group; nil if the system does not say.
  public let available: UInt64?

  public var total: UInt64 { .saturatingSum(weightsBytes, kvBytes, computeBytes) }

  /// More bytes than any model takes: numbers in a header that lead there are damaged. Sums of some forecasts stay far
  /// from what 64 bits hold.
  private static let impossibleBytes: UInt64 = 1 << 56

  /// Reads the header of `path` and forecasts a decoder for it.
  ///
  /// - Throws: `badInput` if the header cannot be read or has impossible numbers, `unavailable` with the numbers if it
  ///   will not fit.
  public static func forecast(
    path: String, adapters: [AdapterFile] = [], configuration: DecoderConfiguration
  ) throws -> MemoryForecast {
    try forecast(
      path: path, adapters: adapters, configuration: configuration, available: SystemMemory.available())
  }

  /// Forecasts a decoder on another machine, whose memory is not known here.
  ///
  /// - Throws: `badInput` if the header cannot be read or has impossible numbers.
  public static func forecastElsewhere(
    path: String, adapters: [AdapterFile] = [], configuration: DecoderConfiguration
  ) throws -> MemoryForecast {
    try forecast(path: path, adapters: adapters, configuration: configuration, available: nil)
  }

  static func forecast(
    path: String, adapters: [AdapterFile], configuration: DecoderConfiguration, available: UInt64?
  ) throws -> MemoryForecast {
    let configuration = try configuration.validated()
    let header = try ModelHeader(path: path)
    var weights = header.tensorBytes
    for adapter in adapters {
      let size = UInt64(max(0, try FileIdentity(path: adapter.path, what: "adapter file").size))
      weights = .saturatingSum(weights, size)
    }
    let type = configuration.kvType ?? (header.isF32 ? .f32 : .f16)
    let tokens = UInt64(configuration.slots * configuration.paddedContext)
    let result = MemoryForecast(
      weightsBytes: weights,
      kvBytes: .saturatingProduct(tokens, header.kvElementsPerToken, UInt64(type.bytes)),
      computeBytes: compute(header: header, configuration: configuration),
      available: available)
    guard result.total <= impossibleBytes else {
      throw FusionRouteError.badInput(
        "the header of the model file \(path) has numbers of layers, heads or widths that no model has; the file is "
          + "damaged: copy or download it again")
    }
    if let available, result.total > available {
      throw FusionRouteError.unavailable(
        "\(path) needs about \(mebibytes(result.total)) of memory (weights \(mebibytes(result.weightsBytes)), KV cache "
          + "of \(configuration.slots) × \(configuration.paddedContext) tokens \(mebibytes(result.kvBytes)), buffers "
          + "\(mebibytes(result.computeBytes))), but only \(mebibytes(available)) are available; lower the slots or the "
          + "context, or use a smaller weight type")
    }
    return result
  }

  /// Attention scores of the largest layer, activations of a batch, and the rows of logits twice (graph and output).
  private static func compute(header: ModelHeader, configuration: DecoderConfiguration) -> UInt64 {
    let batch = UInt64(configuration.batchLimit)
    let rows = UInt64(configuration.outputLimit(vocabulary: Int(clamping: header.vocabulary)))
    let scores = UInt64.saturatingProduct(2, batch, UInt64(configuration.paddedContext), header.heads, 4)
    // The header's numbers are cut to sizes that these two hold.
    let activations = batch * (8 * header.embeddingWidth + 3 * header.feedForward) * 4
    let logits = UInt64.saturatingProduct(2, rows, header.vocabulary, 4)
    return .saturatingSum(scores, activations, logits, 16 << 20)
  }

  /// Refuses weights that cannot fit, before they are read; what else is needed is known later.
  static func checkWeights(path: String) throws {
    guard let available = SystemMemory.available() else { return }
    let size = UInt64(max(0, try FileIdentity(path: path, what: "model file").size))
    guard size > available else { return }
    throw FusionRouteError.unavailable(
      "the weights in \(path) take \(mebibytes(size)) of memory, but only \(mebibytes(available)) are available; use a "
        + "smaller weight type")
  }

  static func mebibytes(_ bytes: UInt64) -> String {
    let value = Double(bytes) / 1_048_576
    return value < 10 ? String(format: "%.1f MiB", value) : String(format: "%.0f MiB", value)
  }

  /// KV bytes of `tokens` tokens of a loaded model.
  static func kvBytes(information: ModelInformation, tokens: Int, type: KVType, model: Model) -> UInt64 {
    let prefix = information.architecture + ".attention."
    let fallback = UInt64(information.embeddingWidth / max(1, information.heads))
    let key = model.metadata(prefix + "key_length").flatMap { UInt64($0) } ?? fallback
    let value = model.metadata(prefix + "value_length").flatMap { UInt64($0) } ?? fallback
    return .saturatingProduct(
      UInt64(information.layers), UInt64(information.keyValueHeads), .saturatingSum(key, value), UInt64(tokens),
      UInt64(type.bytes))
  }
}

/// The few facts of a GGUF header that memory depends on.
struct ModelHeader {
  let architecture: String
  let tensorBytes: UInt64
  let kvElementsPerToken: UInt64
  let heads: UInt64
  let embeddingWidth: UInt64
  let feedForward: UInt64
  let vocabulary: UInt64
  let isF32: Bool

  private static let largestDimension: UInt64 = 1 << 32

  init(path: String) throws {
    LlamaRuntime.prepare()
    try Model.checkReadable(path, what: "model file")
    let (file, lines) = LlamaLog.shared.capturing {
      gguf_init_from_file(path, gguf_init_params(no_alloc: true, ctx: nil))
    }
    guard let file else {
      throw FusionRouteError.badInput(
        "the model file \(path) is not a complete GGUF file\(LlamaLog.reason(lines, shim: nil))")
    }
    defer { gguf_free(file) }
    guard let architecture = Self.string(file, "general.architecture") else {
      throw FusionRouteError.badInput(
        "the model file \(path) does not name its architecture; it is not a language model")
    }
    self.architecture = architecture
    func number(_ key: String) -> UInt64? {
      Self.numbers(file, "\(architecture).\(key)").max().map { min($0, Self.largestDimension) }
    }
    let layers = number("block_count") ?? 0
    embeddingWidth = number("embedding_length") ?? 0
    heads = max(1, number("attention.head_count") ?? 1)
    feedForward = number("feed_forward_length") ?? 4 * embeddingWidth
    let headWidth = embeddingWidth / heads
    let key = number("attention.key_length") ?? headWidth
    let value = number("attention.value_length") ?? headWidth
    // Per layer, where the file says so; else the same everywhere.
    let perLayer = Self.numbers(file, "\(architecture).attention.head_count_kv")
    let kvHeads: UInt64 =
      perLayer.count > 1
      ? perLayer.reduce(0) { UInt64.saturatingSum($0, $1) }
      : UInt64.saturatingProduct(layers, perLayer.first ?? heads)
    kvElementsPerToken = .saturatingProduct(kvHeads, .saturatingSum(key, value))

    var bytes: UInt64 = 0
    var allF32 = true
    for index in 0..<gguf_get_n_tensors(file) {
      bytes = .saturatingSum(bytes, UInt64(gguf_get_tensor_size(file, index)))
      allF32 = allF32 && gguf_get_tensor_type(file, index) == GGML_TYPE_F32
    }
    tensorBytes = bytes
    isF32 = allF32
    let tokens = gguf_find_key(file, "tokenizer.ggml.tokens")
    let isArray = tokens >= 0 && gguf_get_kv_type(file, tokens) == GGUF_TYPE_ARRAY
    vocabulary = isArray ? UInt64(gguf_get_arr_n(file, tokens)) : 0
  }

  // Types are checked before each getter: the getters assert.
  private static func string(_ file: OpaquePointer, _ key: String) -> String? {
    let id = gguf_find_key(file, key)
    guard id >= 0, gguf_get_kv_type(file, id) == GGUF_TYPE_STRING, let text = gguf_get_val_str(file, id) else {
      return nil
    }
    return String(cString: text)
  }

  private static func numbers(_ file: OpaquePointer, _ key: String) -> [UInt64] {
    let id = gguf_find_key(file, key)
    guard id >= 0 else { return [] }
    switch gguf_get_kv_type(file, id) {
    case GGUF_TYPE_UINT32: return [UInt64(gguf_get_val_u32(file, id))]
    case GGUF_TYPE_INT32: return [UInt64(clamping: gguf_get_val_i32(file, id))]
    case GGUF_TYPE_UINT64: return [gguf_get_val_u64(file, id)]
    case GGUF_TYPE_ARRAY:
      guard let data = arrayOfNumbers(file, id) else { return [] }
      return (0..<gguf_get_arr_n(file, id)).map { UInt64(clamping: data[$0]) }
    default: return []
    }
  }

  private static func arrayOfNumbers(_ file: OpaquePointer, _ id: Int64) -> UnsafePointer<Int32>? {
    let type = gguf_get_arr_type(file, id)
    guard type == GGUF_TYPE_INT32 || type == GGUF_TYPE_UINT32 else { return nil }
    return gguf_get_arr_data(file, id)?.assumingMemoryBound(to: Int32.self)
  }
}

internal import Core
public import ModelFiles

/// What the trainer must know about a model to compute its forward pass.
public struct ModelShape: Sendable, Equatable {
  /// Architectures that can be trained.
  public enum Architecture: String, Sendable, CaseIterable {
    case llama
    /// Soft-capped attention and output, sliding windows in every second layer, norms behind the blocks, GELU.
    case gemma2
  }

  public var architecture: Architecture
  public var layers: Int
  /// Embedding width (`n_embd`).
  public var width: Int
  public var heads: Int
  public var kvHeads: Int
  public var headSize: Int
  public var feedForward: Int
  public var vocabularySize: Int
  /// Longest sequence that the model was made for.
  public var context: Int
  public var normEpsilon: Float
  public var ropeBase: Float
  /// RoPE base in layers with a window.
  public var ropeBaseInWindow: Float
  /// Factor on the products of queries and keys.
  public var attentionScale: Float
  /// Soft caps; 0 is none.
  public var attentionCap: Float = 0
  public var outputCap: Float = 0
  /// Positions that a windowed layer sees, its own included; 0 is no window.
  public var window = 0
  /// Every n-th layer has no window.
  public var windowPattern = 1
  /// The output matrix is the embedding matrix.
  public var tied: Bool

  /// Matrices of a block that an adapter can change, by their names in GGUF files.
  public static let blockMatrices = [
    "attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down",
  ]

  public func hasWindow(layer: Int) -> Bool { window > 0 && layer % windowPattern < windowPattern - 1 }

  /// Reads and checks the shape. Throws `.badInput` that names what cannot be trained.
  public init(_ file: GGUFFile) throws {
    let path = file.path
    guard let name = file.architecture, let architecture = Architecture(rawValue: name) else {
      throw FusionRouteError.badInput(
        "\(path): models of architecture '\(file.architecture ?? "unknown")' cannot be trained; use one of "
          + Architecture.allCases.map(\.rawValue).joined(separator: ", "))
    }
    func value(_ key: String) -> GGUFValue? { file["\(name).\(key)"] }
    func count(_ key: String, default standard: Int? = nil, upTo limit: Int = 1 << 24) throws -> Int {
      guard let found = value(key)?.integer ?? standard, (1...limit).contains(found) else {
        throw FusionRouteError.badInput("\(path): '\(name).\(key)' must be a number from 1 to \(limit)")
      }
      return found
    }
    func number(_ key: String, default standard: Float?) throws -> Float {
      guard let found = value(key) == nil ? standard : value(key)?.float, found.isFinite, found > 0 else {
        throw FusionRouteError.badInput("\(path): '\(name).\(key)' must be a positive number")
      }
      return found
    }
    self.architecture = architecture
    layers = try count("block_count", upTo: 1_024)
    width = try count("embedding_length", upTo: 1 << 20)
    heads = try count("attention.head_count", upTo: 4_096)
    kvHeads = try count("attention.head_count_kv", default: heads, upTo: 4_096)
    headSize = try count("attention.key_length", default: max(1, width / heads), upTo: 4_096)
    feedForward = try count("feed_forward_length", upTo: 1 << 22)
    context = try count("context_length")
    normEpsilon = try number("attention.layer_norm_rms_epsilon", default: nil)
    ropeBase = try number("rope.freq_base", default: 10_000)
    ropeBaseInWindow = ropeBase
    attentionScale = 1 / Float(headSize).squareRoot()
    tied = file.tensor(named: "output.weight") == nil
    guard let embedding = file.tensor(named: "token_embd.weight"), embedding.dimensions.count == 2 else {
      throw FusionRouteError.badInput("\(path): tensor 'token_embd.weight' is missing or no matrix")
    }
    vocabularySize = embedding.rowCount
    if architecture == .gemma2 {
      attentionCap = try number("attn_logit_softcapping", default: 50)
      outputCap = try number("final_logit_softcapping", default: 30)
      window = try count("attention.sliding_window", default: 4_096)
      windowPattern = try count("attention.sliding_window_pattern", default: 2, upTo: 1_024)
      ropeBaseInWindow = try number("rope.freq_base_swa", default: ropeBase)
      // llama.cpp knows the 27B model by its number of layers.
      if layers == 46 { attentionScale = 1 / (Float(width) / Float(heads)).squareRoot() }
    }
    try checkSupported(file, value)
    try checkTensors(file)
  }

  private func checkSupported(_ file: GGUFFile, _ value: (String) -> GGUFValue?) throws {
    let path = file.path
    func refuse(_ what: String) -> FusionRouteError { .badInput("\(path): \(what) cannot be trained") }
    guard heads % kvHeads == 0 else {
      throw FusionRouteError.badInput("\(path): \(heads) heads are not a multiple of \(kvHeads) key/value heads")
    }
    guard headSize % 2 == 0 else { throw refuse("heads of \(headSize) elements") }
    if let valueSize = value("attention.value_length")?.integer, valueSize != headSize {
      throw refuse("a model whose values and keys differ in size")
    }
    if let rotated = value("rope.dimension_count")?.integer, rotated != headSize {
      throw refuse("a model that rotates \(rotated) of \(headSize) elements")
    }
    if let experts = value("expert_count")?.integer, experts > 0 { throw refuse("a mixture-of-experts model") }
    if let scaling = value("rope.scaling.type")?.string, scaling != "none" { throw refuse("RoPE scaling '\(scaling)'") }
    for key in ["attention.scale", "logit_scale", "residual_scale", "embedding_scale"] where value(key) != nil {
      throw refuse("a model with '\(architecture.rawValue).\(key)'")
    }
  }

  /// Name and ggml dimensions of every tensor, in the order of the file format's convention.
  public var tensors: [(name: String, dimensions: [Int])] {
    let queries = heads * headSize
    let keys = kvHeads * headSize
    var list: [(String, [Int])] = [("token_embd.weight", [width, vocabularySize])]
    for layer in 0..<layers {
      let block = "blk.\(layer)"
      list.append(("\(block).attn_norm.weight", [width]))
      list.append(("\(block).attn_q.weight", [width, queries]))
      list.append(("\(block).attn_k.weight", [width, keys]))
      list.append(("\(block).attn_v.weight", [width, keys]))
      list.append(("\(block).attn_output.weight", [queries, width]))
      if architecture == .gemma2 { list.append(("\(block).post_attention_norm.weight", [width])) }
      list.append(("\(block).ffn_norm.weight", [width]))
      list.append(("\(block).ffn_gate.weight", [width, feedForward]))
      list.append(("\(block).ffn_up.weight", [width, feedForward]))
      list.append(("\(block).ffn_down.weight", [feedForward, width]))
      if architecture == .gemma2 { list.append(("\(block).post_ffw_norm.weight", [width])) }
    }
    list.append(("output_norm.weight", [width]))
    if !tied { list.append(("output.weight", [width, vocabularySize])) }
    return list
  }

  /// Llama 3's factors on the frequencies of RoPE, a constant of the model.
  static let ropeFactors = "rope_freqs.weight"

  private func checkTensors(_ file: GGUFFile) throws {
    let expected = Dictionary(tensors.map { ($0.name, $0.dimensions) }, uniquingKeysWith: { first, _ in first })
    for tensor in file.tensors {
      if tensor.name == Self.ropeFactors {
        guard architecture == .llama, tensor.type == .f32, tensor.dimensions == [headSize / 2] else {
          throw FusionRouteError.badInput(
            "\(file.path): tensor '\(tensor.name)' must be \(headSize / 2) numbers in f32")
        }
        continue
      }
      guard let dimensions = expected[tensor.name] else {
        throw FusionRouteError.badInput(
          "\(file.path): tensor '\(tensor.name)' is not known to the trainer, so this model cannot be trained")
      }
      guard tensor.dimensions == dimensions else {
        throw FusionRouteError.badInput(
          "\(file.path): tensor '\(tensor.name)' has the shape \(tensor.dimensions) but must have \(dimensions)")
      }
      guard tensor.type.isReadable else {
        throw FusionRouteError.badInput(
          "\(file.path): tensor '\(tensor.name)' is stored as \(tensor.type.name), which cannot be turned into floats")
      }
      // Norms enter ggml's products with floats.
      guard dimensions.count > 1 || tensor.type == .f32 else {
        throw FusionRouteError.badInput("\(file.path): tensor '\(tensor.name)' must be stored as f32")
      }
    }
    if let missing = expected.keys.sorted().first(where: { file.tensor(named: $0) == nil }) {
      throw FusionRouteError.badInput("\(file.path): tensor '\(missing)' is missing")
    }
  }
}

internal import Core
internal import Foundation
public import ModelFiles

/// Turns a LoRA adapter of Hugging Face's PEFT into a GGUF adapter.
///
/// A PEFT adapter is a directory with `adapter_config.json` and `adapter_model.safetensors`. Its matrices are named after
/// the modules of Hugging Face's models; those of llama's queries and keys rotate halves of a head, where GGUF files have
/// neighbours, so their rows are put into that order.
public enum AdapterImport {
  private static let modules = [
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
  ]
  private static let prefix = "base_model.model.model.layers."
  private static let maximumConfigBytes = 1 << 20

  /// What is read of an adapter's directory.
  public static func files(of folder: String) -> [String] {
    ["\(folder)/adapter_config.json", "\(folder)/adapter_model.safetensors"]
  }

  /// Writes the adapter in the directory `folder` to `path`. Returns its rank and the number of matrices it changes.
  ///
  /// - Parameter model: the model that the adapter is for, as GGUF.
  /// - Throws: `.badInput` naming the file and what of it cannot be taken over.
  public static func run(_ folder: String, model: GGUFFile, to path: String) throws -> (rank: Int, matrices: Int) {
    let shape = try ModelShape(model)
    let config = try Config("\(folder)/adapter_config.json")
    let file = try SafetensorsFile.read("\(folder)/adapter_model.safetensors")
    let dimensions = Dictionary(shape.tensors.map { ($0.name, $0.dimensions) }, uniquingKeysWith: { first, _ in first })
    var writer = GGUFWriter()
    try writer.set("general.architecture", .string(shape.architecture.rawValue))
    try writer.set("general.type", .string("adapter"))
    try writer.set("adapter.type", .string("lora"))
    try writer.set("adapter.lora.alpha", .float32(config.alpha))
    var found: Set<String> = []
    for tensor in file.tensors {
      guard let (name, part) = name(of: tensor.name), let matrix = dimensions[name] else {
        throw FusionRouteError.badInput(
          "\(file.path): tensor '\(tensor.name)' belongs to no matrix of a block of \(model.path) that an adapter can "
            + "change (\(ModelShape.blockMatrices.joined(separator: ", ")))")
      }
      let expected = part == "lora_a" ? [config.rank, matrix[0]] : [matrix[1], config.rank]
      guard tensor.shape == expected else {
        throw FusionRouteError.badInput(
          "\(file.path): tensor '\(tensor.name)' has shape \(tensor.shape), and rank \(config.rank) on \(model.path) "
            + "needs \(expected)")
      }
      found.insert("\(name).\(part)")
      let heads = name.hasSuffix("attn_q.weight") ? shape.heads : shape.kvHeads
      let isRotated = name.hasSuffix("attn_q.weight") || name.hasSuffix("attn_k.weight")
      let isReordered = shape.architecture == .llama && isRotated && part == "lora_b"
      try writer.add(
        tensor: "\(name).\(part)", type: .f32, dimensions: [expected[1], expected[0]],
        content: .generated { values in
          let read = try file.floats(of: tensor)
          guard read.allSatisfy(\.isFinite) else {
            throw FusionRouteError.badInput("\(file.path): tensor '\(tensor.name)' has values that are not finite")
          }
          _ = values.update(
            fromContentsOf: isReordered ? neighbours(read, heads: heads, columns: expected[1]) : read)
        })
    }
    let names = Set(found.map { String($0.dropLast(7)) })
    guard !names.isEmpty else { throw FusionRouteError.badInput("\(file.path) has no adapter matrices") }
    for name in names.sorted() {
      for part in ["lora_a", "lora_b"] where !found.contains("\(name).\(part)") {
        throw FusionRouteError.badInput("\(file.path) has only one of the two matrices for '\(name)'")
      }
    }
    try writer.write(to: path)
    return (config.rank, names.count)
  }

  /// `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight` → `blk.0.attn_q.weight`, `lora_a`.
  private static func name(of tensor: String) -> (name: String, part: String)? {
    guard tensor.hasPrefix(prefix) else { return nil }
    let parts = tensor.dropFirst(prefix.count).split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count >= 5, let layer = Int(parts[0]), layer >= 0, String(layer) == parts[0] else { return nil }
    let module = parts[1...2].joined(separator: ".")
    let tail = parts[3...].joined(separator: ".")
    guard let matrix = modules[module] else { return nil }
    switch tail {
    case "lora_A.weight", "lora_A.default.weight": return ("blk.\(layer).\(matrix).weight", "lora_a")
    case "lora_B.weight", "lora_B.default.weight": return ("blk.\(layer).\(matrix).weight", "lora_b")
    default: return nil
    }
  }

  /// Rows i and i + size/2 of each head, which rotate together, become rows 2i and 2i + 1.
  static func neighbours(_ values: [Float], heads: Int, columns: Int) -> [Float] {
    let size = values.count / columns / heads
    var result: [Float] = []
    result.reserveCapacity(values.count)
    for head in 0..<heads {
      for row in 0..<size {
        let from = head * size + row / 2 + (row % 2) * (size / 2)
        result += values[from * columns..<(from + 1) * columns]
      }
    }
    return result
  }

  /// What `adapter_config.json` says.
  private struct Config {
    var rank: Int
    /// As llama.cpp takes it: the adapter counts alpha / rank.
    var alpha: Float

    init(_ path: String) throws {
      func fault(_ what: String) -> FusionRouteError { .badInput("\(path): \(what)") }
      guard let data = FileManager.default.contents(atPath: path), data.count <= maximumConfigBytes else {
        throw fault("cannot be read: give the directory that PEFT's save_pretrained wrote")
      }
      guard case .object(let object)? = try? JSONParser.parse(Array(data)) else {
        throw fault("this is no JSON object")
      }
      guard object["peft_type"] == .string("LORA") else {
        throw fault("only adapters of \"peft_type\" \"LORA\" can be used")
      }
      guard case .integer(let rank)? = object["r"], (1...Int64(LoRAOptions.maximumRank)).contains(rank) else {
        throw fault("\"r\" must be a rank from 1 to \(LoRAOptions.maximumRank)")
      }
      let given: Double
      switch object["lora_alpha"] {
      case .integer(let value): given = Double(value)
      case .number(let value): given = value
      default: throw fault("\"lora_alpha\" must be a number")
      }
      // Rank-stabilised adapters count alpha / √rank.
      alpha = Float(object["use_rslora"] == .bool(true) ? given * Double(rank).squareRoot() : given)
      guard alpha.isFinite, alpha > 0 else {
        throw fault("\"lora_alpha\" must be a positive number that 32 bits hold, not \(given)")
      }
      for key in ["use_dora", "use_qalora", "fan_in_fan_out", "lora_bias"] where object[key] == .bool(true) {
        throw fault("an adapter with \"\(key)\" cannot be expressed in GGUF")
      }
      if let bias = object["bias"], bias != .string("none"), bias != .null {
        throw fault("an adapter that trains biases cannot be expressed in GGUF")
      }
      for key in ["rank_pattern", "alpha_pattern", "modules_to_save"] {
        switch object[key] {
        case nil, .null: continue
        case .object(let members)? where members.members.isEmpty: continue
        case .array(let list)? where list.isEmpty: continue
        default: throw fault("an adapter with \"\(key)\" cannot be expressed in GGUF")
        }
      }
      // The one acts behind certain tokens only, the other on layers that the model does not have.
      for key in ["alora_invocation_tokens", "layer_replication"] {
        if let value = object[key], value != .null {
          throw fault("an adapter with \"\(key)\" cannot be expressed in GGUF")
        }
      }
      switch object["init_lora_weights"] {
      case nil, .null?, .bool?, .string("gaussian")?, .string("eva")?, .string("orthogonal")?: break
      default:
        throw fault(
          "an adapter with this \"init_lora_weights\" belongs to a base whose weights it has changed: save it as a "
            + "plain one first (PEFT's path_initial_model_for_weight_conversion)")
      }
      self.rank = Int(rank)
    }
  }
}

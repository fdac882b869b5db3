internal import Core
public import ModelFiles

/// Models and adapters as files that llama.cpp loads.
public enum ModelExport {
  /// Copies a model with all matrices stored as `type`, dequantised and quantised again where they are not yet.
  public static func rewrite(_ file: GGUFFile, to path: String, type: TensorType) throws {
    var writer = try metadata(of: file)
    for tensor in file.tensors {
      if tensor.dimensions.count > 1, tensor.type != type {
        try writer.add(
          tensor: tensor.name, type: type, dimensions: tensor.dimensions,
          content: .generated { values in _ = try values.update(fromContentsOf: file.floats(of: tensor)) })
      } else {
        try writer.add(
          tensor: tensor.name, type: tensor.type, dimensions: tensor.dimensions,
          content: .generatedBytes { try file.bytes(of: tensor) })
      }
    }
    try writer.write(to: path)
  }

  /// Everything of `file` but its tensors: the tokenizer and the template among it.
  static func metadata(of file: GGUFFile) throws -> GGUFWriter {
    var writer = GGUFWriter()
    for key in file.keys {
      guard let value = file[key] else { continue }
      try writer.set(key, value)
    }
    return writer
  }
}

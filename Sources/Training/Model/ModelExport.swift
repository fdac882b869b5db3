internal import Core
public import ModelFiles
internal import TrainingKernels

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

extension TrainingEngine {
  /// Writes the adapters as a GGUF adapter.
  ///
  /// - Parameter type: F32, or F16 for half the size.
  public func writeAdapter(to path: String, type: TensorType = .f32) throws {
    guard case .lora(let options) = mode else {
      throw FusionRouteError.internal("there is no adapter to write")
    }
    var writer = GGUFWriter()
    try writer.set("general.architecture", .string(shape.architecture.rawValue))
    try writer.set("general.type", .string("adapter"))
    try writer.set("adapter.type", .string("lora"))
    try writer.set("adapter.lora.alpha", .float32(options.alpha))
    for parameter in trainables.parameters where parameter.kind != .head {
      try writer.add(
        tensor: parameter.name, type: type, dimensions: parameter.dimensions, content: .floats(values(of: parameter)))
    }
    try writer.write(to: path)
  }

  /// Throws `.usage` if ``writeModel(from:to:type:)`` could not store what is learnt.
  public func checkWritable(_ file: GGUFFile, type: TensorType?) throws {
    for tensor in file.tensors where tensor.dimensions.count > 1 {
      let stored = type ?? tensor.type
      // What stays as it is needs no other type.
      guard stored != tensor.type || learnt(tensor, of: file) != nil else { continue }
      guard stored.isWritable, stored.rowBytes(tensor.rowLength) != nil else {
        throw FusionRouteError.usage(
          "tensor '\(tensor.name)' with rows of \(tensor.rowLength) cannot be written as \(stored.name): choose f32, "
            + "f16 or bf16")
      }
    }
  }

  /// Writes the model with what was learnt in it: the trained weights, or the adapters added to the base's.
  ///
  /// - Parameters:
  ///   - file: the model that training started from; tokenizer and template are taken from it.
  ///   - type: of the matrices; nil keeps each as it is in `file`.
  public func writeModel(from file: GGUFFile, to path: String, type: TensorType? = nil) throws {
    try checkWritable(file, type: type)
    var writer = try ModelExport.metadata(of: file)
    if let type { try writer.set("general.file_type", .uint32(type.mostlyFileType)) }
    for tensor in file.tensors {
      let isMatrix = tensor.dimensions.count > 1
      let stored = isMatrix ? type ?? tensor.type : tensor.type
      if let learnt = learnt(tensor, of: file) {
        try writer.add(
          tensor: tensor.name, type: stored, dimensions: tensor.dimensions,
          content: .generated { try learnt.write(to: $0) })
      } else if stored == tensor.type {
        try writer.add(
          tensor: tensor.name, type: stored, dimensions: tensor.dimensions,
          content: .generatedBytes { try file.bytes(of: tensor) })
      } else {
        try writer.add(
          tensor: tensor.name, type: stored, dimensions: tensor.dimensions,
          content: .generated { values in _ = try values.update(fromContentsOf: file.floats(of: tensor)) })
      }
    }
    try writer.write(to: path)
  }

  /// What training made of the tensor; nil if it left it alone.
  private func learnt(_ tensor: GGUFTensor, of file: GGUFFile) -> LearntTensor? {
    switch mode {
    case .frozen: return nil
    case .full:
      return trainables.parameter(tensor.name).map { .whole(SendablePointer($0.values)) }
    case .lora(let options):
      guard let a = trainables.parameter("\(tensor.name).lora_a"),
        let b = trainables.parameter("\(tensor.name).lora_b")
      else { return nil }
      return .adapted(
        file, tensor, a: SendablePointer(a.values), b: SendablePointer(b.values), options: options)
    }
  }

  func gradients(of parameter: Parameter) -> [Float] {
    Array(UnsafeBufferPointer(start: parameter.gradients, count: parameter.count))
  }

  func values(of parameter: Parameter) -> [Float] {
    Array(UnsafeBufferPointer(start: parameter.values, count: parameter.count))
  }

  /// Starts the adapters from those of a GGUF adapter of the same rank and targets. Throws `.badInput`.
  public func loadAdapter(_ file: GGUFFile) throws {
    guard case .lora(let options) = mode else {
      throw FusionRouteError.usage("an adapter can only be continued with LoRA")
    }
    guard file["adapter.type"]?.string == "lora" else {
      throw FusionRouteError.badInput("\(file.path) is not a LoRA adapter")
    }
    let alpha = LoRAOptions.alpha(of: file, rank: options.rank)
    guard abs(alpha - options.alpha) <= 1e-4 * options.alpha else {
      throw FusionRouteError.badInput(
        "\(file.path) has alpha \(alpha), not \(options.alpha): give its own rank and alpha to continue it")
    }
    let parameters = trainables.parameters.filter { $0.kind != .head }
    let known = Set(parameters.map(\.name))
    if let extra = file.tensors.first(where: { !known.contains($0.name) }) {
      throw FusionRouteError.badInput(
        "\(file.path): tensor '\(extra.name)' is not among the targets: give the adapter's own targets to continue it")
    }
    for parameter in parameters {
      guard let tensor = file.tensor(named: parameter.name), tensor.elementCount == parameter.count,
        tensor.rowLength == parameter.dimensions[0]
      else {
        throw FusionRouteError.badInput(
          "\(file.path): tensor '\(parameter.name)' is missing or not of shape \(parameter.dimensions): give the "
            + "adapter's own rank and targets to continue it")
      }
      parameter.values.update(from: try file.floats(of: tensor), count: parameter.count)
    }
  }
}

/// A trained tensor's values, computed when they are written: a model is never in memory as floats as a whole.
private enum LearntTensor: Sendable {
  case whole(SendablePointer<Float>)
  /// The base's, and scale · B·A on top.
  case adapted(GGUFFile, GGUFTensor, a: SendablePointer<Float>, b: SendablePointer<Float>, options: LoRAOptions)

  func write(to values: UnsafeMutableBufferPointer<Float>) throws {
    switch self {
    case .whole(let pointer):
      guard let from = pointer.base else { return }
      values.baseAddress?.update(from: from, count: values.count)
    case .adapted(let file, let tensor, let a, let b, let options):
      _ = try values.update(fromContentsOf: file.floats(of: tensor))
      let (rows, columns, rank) = (Int64(tensor.rowCount), Int64(tensor.rowLength), Int64(options.rank))
      let scaled = UnsafeBufferPointer(start: b.base, count: Int(rows * rank)).map { $0 * options.scale }
      guard let engine = fr_engine_new(1, fr_precision_f32, fr_gemm_builtin) else {
        throw FusionRouteError.unavailable("there is no memory to add an adapter to its base")
      }
      defer { fr_engine_free(engine) }
      fr_gemm(engine, 0, rows, columns, rank, scaled, rank, 1, a.base, columns, 1, values.baseAddress, columns, 1)
    }
  }
}

extension LoRAOptions {
  /// Rank, alpha and targets of an adapter file, to continue it.
  public init(adapter file: GGUFFile) throws {
    let suffix = ".weight.lora_a"
    let matrices = file.tensors.filter { $0.name.hasSuffix(suffix) }
    guard file["adapter.type"]?.string == "lora", let first = matrices.first else {
      throw FusionRouteError.badInput("\(file.path) is not a LoRA adapter")
    }
    var found: [String] = []
    for tensor in matrices {
      let name = tensor.name.dropLast(suffix.count).split(separator: ".").last.map(String.init) ?? ""
      if !found.contains(name) { found.append(name) }
    }
    let rank = first.rowCount
    self.init(rank: rank, alpha: Self.alpha(of: file, rank: rank), targets: found)
    do { try validate() } catch let error as FusionRouteError {
      throw FusionRouteError.badInput("\(file.path): \(error.message)")
    }
  }

  /// As llama.cpp does it: no alpha, no scaling.
  fileprivate static func alpha(of file: GGUFFile, rank: Int) -> Float {
    let found = file["adapter.lora.alpha"]?.float ?? 0
    return found > 0 ? found : Float(rank)
  }
}

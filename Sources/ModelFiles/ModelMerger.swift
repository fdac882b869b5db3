internal import Core

/// Merges experts that were trained from one base into one model of its size.
///
/// One tensor is in memory at a time, in the type that it is written in, and of its floats a few pieces of at most
/// ``pieceElements``. Tokenizer, chat template and all other metadata are the base's.
public enum ModelMerger {
  /// Elements that are turned into floats at once, unless one row is longer.
  static let pieceElements = 1 << 20
  /// Experts at most; counts of agreeing signs are small numbers.
  public static let maximumExperts = 256

  /// Writes the merged model whole or not at all.
  ///
  /// - Parameters:
  ///   - base: path of the model (GGUF, any tensor types) that the experts were trained from.
  ///   - experts: paths of models of the same shape, or of LoRA adapters, whose dense difference B·A is what counts.
  ///   - lambda: λ, what the merged difference is multiplied by.
  ///   - type: of matrices in the result; nil: each as in the base. Vectors stay as they are in the base.
  ///   - progress: told of each tensor: its number and how many there are. What it throws ends the merge.
  /// - Throws: `.usage` for numbers out of range, `.badInput` naming a file that does not fit the base, `.unavailable` if
  ///   the result cannot be written.
  public static func merge(
    base: String, experts: [String], method: MergeMethod, lambda: Double = 1, type: TensorType? = nil,
    to output: String, progress: @escaping @Sendable (Int, Int) throws -> Void = { _, _ in }
  ) throws {
    try method.validate()
    guard lambda.isFinite else { throw FusionRouteError.usage("λ must be a finite number, not \(lambda)") }
    guard (1...maximumExperts).contains(experts.count) else {
      throw FusionRouteError.usage("a merge takes 1 to \(maximumExperts) experts, not \(experts.count)")
    }
    if let type, !type.isWritable {
      throw FusionRouteError.usage("\(type.name) cannot be written without an importance matrix: choose another type")
    }
    let file = try GGUFFile.read(base)
    guard file["general.type"]?.string != "adapter" else {
      throw FusionRouteError.badInput("\(base) is an adapter: the base of a merge is a model")
    }
    try file.requireWhole()
    let vectors = try experts.map { try TaskVector($0, base: file) }
    let merge = TensorMerge(file: file, vectors: vectors, method: method, lambda: Float(lambda))
    var writer = GGUFWriter()
    for key in file.keys { if let value = file[key] { try writer.set(key, value) } }
    if let type { try writer.set("general.file_type", .uint32(type.mostlyFileType)) }
    try writer.set("fusionroute.merge", .string(note(experts, method, lambda)))
    for (index, tensor) in file.tensors.enumerated() {
      let stored = stored(tensor, as: type)
      let changes = merge.changes(tensor)
      try check(tensor, stored, changes: changes, path: base)
      try writer.add(
        tensor: tensor.name, type: stored, dimensions: tensor.dimensions,
        content: .generatedBytes {
          try progress(index, file.tensors.count)
          return changes || stored != tensor.type
            ? try merge.bytes(of: tensor, stored: stored) : try file.bytes(of: tensor)
        })
    }
    try writer.write(to: output)
  }

  /// What the file says about where it comes from: names of files, not where they were.
  private static func note(_ experts: [String], _ method: MergeMethod, _ lambda: Double) -> String {
    let names = experts.map { $0.split(separator: "/").last.map(String.init) ?? $0 }
    return "\(method), lambda \(lambda), of \(names.joined(separator: ", "))"
  }

  /// Matrices that llama.cpp computes with as floats, or finds too small to be worth it; its own quantiser leaves them too.
  private static let kept = [
    "_norm.weight", "ffn_gate_inp.weight", "ssm_conv1d.weight", "shortconv.conv.weight", "time_mix_",
    "attn_rel_b.weight",
    "position_embd.weight", "token_types.weight",
  ]

  private static func stored(_ tensor: GGUFTensor, as type: TensorType?) -> TensorType {
    guard let type, tensor.dimensions.count > 1, tensor.name.hasSuffix("weight"),
      !kept.contains(where: tensor.name.contains)
    else { return tensor.type }
    return type.fitting(row: tensor.rowLength)
  }

  private static func check(_ tensor: GGUFTensor, _ stored: TensorType, changes: Bool, path: String) throws {
    guard changes || stored != tensor.type else { return }
    guard tensor.type.isReadable else {
      throw FusionRouteError.badInput(
        "\(path): tensor '\(tensor.name)' is stored as \(tensor.type.name), which cannot be turned into floats")
    }
    guard stored.isWritable else {
      throw FusionRouteError.badInput(
        "\(path): tensor '\(tensor.name)' is stored as \(stored.name), which cannot be written again: choose the result's "
          + "type")
    }
  }
}

extension GGUFFile {
  /// Throws `.badInput` for a part of a model that was split into several files.
  func requireWhole() throws {
    guard let parts = self["split.count"]?.integer, parts > 1 else { return }
    throw FusionRouteError.badInput(
      "\(path) is one of the \(parts) parts of a model: join them first (llama-gguf-split --merge)")
  }
}

/// The arithmetic of one tensor, in pieces.
struct TensorMerge: Sendable {
  let file: GGUFFile
  let vectors: [TaskVector]
  let method: MergeMethod
  let lambda: Float

  /// Rotary factors are constants of the position encoding, not weights.
  func changes(_ tensor: GGUFTensor) -> Bool {
    !tensor.name.contains("rope_") && vectors.contains { $0.changes(tensor) }
  }

  /// The merged tensor as it is stored. Where nothing differs and the type stays, these are the base's bytes.
  func bytes(of tensor: GGUFTensor, stored: TensorType) throws -> [UInt8] {
    let changes = changes(tensor)
    var trims = changes ? try trims(of: tensor) : []
    let rowBytes = stored.rowBytes(tensor.rowLength) ?? 0
    var isEqual = true
    let bytes = try [UInt8](unsafeUninitializedCapacity: rowBytes * tensor.rowCount) { buffer, count in
      for rows in pieces(of: tensor) {
        try withPieces(2, rows.count * tensor.rowLength) { pieces in
          let (base, sum) = (pieces[0], pieces[1])
          try file.floats(of: tensor, rows: rows, into: base)
          if changes {
            try difference(of: tensor, rows: rows, base: UnsafeBufferPointer(base), &trims, into: sum)
            for index in sum.indices {
              if sum[index] != 0 { isEqual = false }
              base[index] += lambda * sum[index]
            }
            guard base.allSatisfy(\.isFinite) else {
              throw FusionRouteError.badInput(
                "tensor '\(tensor.name)' has a value that is no finite number after merging: choose a smaller λ")
            }
          }
          try stored.checkRange(UnsafeBufferPointer(base), tensor: tensor.name)
          guard let from = base.baseAddress, let to = buffer.baseAddress else { return }
          stored.quantise(
            from, UnsafeMutableRawPointer(to) + rows.lowerBound * rowBytes, rows: rows.count,
            rowLength: tensor.rowLength)
        }
      }
      count = rowBytes * tensor.rowCount
    }
    return isEqual && stored == tensor.type ? try file.bytes(of: tensor) : bytes
  }

  /// What is added to the base, before λ.
  private func difference(
    of tensor: GGUFTensor, rows: Range<Int>, base: UnsafeBufferPointer<Float>, _ trims: inout [MagnitudeTrim?],
    into sum: UnsafeMutableBufferPointer<Float>
  ) throws {
    sum.update(repeating: 0)
    var election = trims.isEmpty ? nil : SignElection(count: sum.count)
    try withPieces(1, sum.count) { pieces in
      let own = pieces[0]
      for (expert, vector) in vectors.enumerated() where vector.changes(tensor) {
        try vector.read(tensor, rows: rows, base: base, into: own)
        switch method.kind {
        case .taskArithmetic: break
        case .dare(let drop, let seed):
          DropMask(drop: drop, seed: seed, expert: expert, tensor: tensor.name)
            .apply(to: own, first: rows.lowerBound * tensor.rowLength)
        case .ties:
          trims[expert]?.apply(to: own)
          election?.add(own)
        }
        if election == nil { for index in sum.indices { sum[index] += own[index] } }
      }
    }
    election?.mean(into: sum)
  }

  /// For TIES, what each expert keeps of the tensor; nil for those that do not change it. Else none.
  private func trims(of tensor: GGUFTensor) throws -> [MagnitudeTrim?] {
    guard case .ties(let density) = method.kind else { return [] }
    return try vectors.map { vector in
      guard vector.changes(tensor) else { return nil }
      return try MagnitudeTrim(density: density, of: tensor.elementCount) { take in
        for rows in pieces(of: tensor) {
          try withPieces(2, rows.count * tensor.rowLength) { pieces in
            try file.floats(of: tensor, rows: rows, into: pieces[0])
            try vector.read(tensor, rows: rows, base: UnsafeBufferPointer(pieces[0]), into: pieces[1])
            take(UnsafeBufferPointer(pieces[1]))
          }
        }
      }
    }
  }

  private func pieces(of tensor: GGUFTensor) -> [Range<Int>] {
    let rows = max(1, ModelMerger.pieceElements / tensor.rowLength)
    return stride(from: 0, to: tensor.rowCount, by: rows).map { $0..<min(tensor.rowCount, $0 + rows) }
  }

  private func withPieces(
    _ number: Int, _ count: Int, _ body: ([UnsafeMutableBufferPointer<Float>]) throws -> Void
  ) rethrows {
    let all = UnsafeMutableBufferPointer<Float>.allocate(capacity: number * count)
    defer { all.deallocate() }
    all.initialize(repeating: 0)
    try body((0..<number).map { UnsafeMutableBufferPointer(rebasing: all[$0 * count..<($0 + 1) * count]) })
  }
}

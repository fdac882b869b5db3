internal import Core
internal import ModelKernels

extension ModelMaker {
  /// Which tensors a perturbation changes.
  public struct PerturbationOptions: Sendable {
    /// Also vectors: norms and biases. They are few and a little noise on them changes much.
    public var includesVectors = false
    /// Tensors whose name contains one of these stay as they are (for instance `token_embd`).
    public var except: [String] = []

    public init(includesVectors: Bool = false, except: [String] = []) {
      self.includesVectors = includesVectors
      self.except = except
    }
  }

  /// Writes a copy of a model with N(0, (strength · rms)²) added to every weight matrix, rms being that matrix's own.
  ///
  /// Types, metadata and tokenizer stay as they are: quantised tensors are dequantised, changed and quantised again.
  /// The same arguments give the same bytes. Throws `.badInput` for a file that cannot be read or a tensor type that
  /// cannot be written, `.usage` for a strength that is negative or not finite and for an exception that no tensor's name
  /// contains.
  public static func perturb(
    _ input: String, to output: String, strength: Float, seed: UInt64,
    options: PerturbationOptions = PerturbationOptions(), progress: Progress = { _, _ in }
  ) throws {
    guard strength.isFinite, strength >= 0 else {
      throw FusionRouteError.usage("the strength must be a number from 0, not \(strength)")
    }
    let file = try GGUFFile.read(input)
    // A slip of the pen would change what was to stay as it is.
    if let unknown = options.except.first(where: { text in !file.tensors.contains { $0.name.contains(text) } }) {
      throw FusionRouteError.usage("\(input) has no tensor whose name contains '\(unknown)', which is to be left out")
    }
    let changed = file.tensors.filter { changes($0, options) && strength > 0 }
    if let refused = changed.first(where: { !$0.type.isReadable || !$0.type.isWritable }) {
      throw FusionRouteError.badInput(
        "\(input): tensor '\(refused.name)' is stored as \(refused.type.name), which cannot be written again; "
          + "convert the model to another type first")
    }
    let names = Set(changed.map(\.name))
    var copy = try AtomicFile(path: output)
    // Types do not change, so neither do sizes and offsets: the header is the same, byte for byte.
    try copy.write(file.headerBytes())
    for (index, tensor) in file.tensors.sorted(by: { $0.offset < $1.offset }).enumerated() {
      try progress(index, file.tensors.count)
      try copy.pad(to: file.alignment)
      guard copy.written == tensor.offset else {
        throw FusionRouteError.badInput("\(input): the tensors' data is not in one piece; convert the model first")
      }
      var bytes = try file.bytes(of: tensor)
      if names.contains(tensor.name) {
        addNoise(to: &bytes, tensor, strength: strength, stream: noiseStream(seed: seed, tensor: tensor.name))
      }
      try copy.write(bytes)
    }
    try copy.pad(to: file.alignment)
    try copy.commit()
  }

  private static func changes(_ tensor: GGUFTensor, _ options: PerturbationOptions) -> Bool {
    guard tensor.name.hasSuffix(".weight") || tensor.name.hasSuffix(".bias") else { return false }
    // Rotary factors are constants of the position encoding, not weights.
    guard !tensor.name.contains("rope_") else { return false }
    guard options.includesVectors || tensor.dimensions.count > 1 else { return false }
    return !options.except.contains { tensor.name.contains($0) }
  }

  private static func addNoise(to bytes: inout [UInt8], _ tensor: GGUFTensor, strength: Float, stream: UInt64) {
    let row = tensor.rowLength
    let type = tensor.type
    let rowBytes = tensor.byteCount / tensor.rowCount
    let chunks = Rows.chunks(of: tensor.rowCount, rowLength: row)
    let elements = tensor.elementCount
    bytes.withUnsafeMutableBytes { raw in
      let data = SendableBuffer(raw.baseAddress)
      @Sendable func withFloats(
        _ rows: Range<Int>, _ body: (UnsafeMutablePointer<Float>, UnsafeMutableRawPointer) -> Void
      ) {
        guard let base = data.base else { return }
        let place = base + rows.lowerBound * rowBytes
        withUnsafeTemporaryAllocation(of: Float.self, capacity: rows.count * row) { floats in
          guard let values = floats.baseAddress else { return }
          type.dequantise(place, values, count: rows.count * row)
          body(values, place)
        }
      }
      var sums = [Double](repeating: 0, count: chunks.count)
      sums.withUnsafeMutableBufferPointer { sums in
        let partial = SendableBuffer(sums.baseAddress)
        Rows.forEachChunk(of: tensor.rowCount, rowLength: row) { rows in
          withFloats(rows) { values, _ in
            partial.base?[rows.lowerBound / chunks[0].count] = fr_sum_squares(values, rows.count * row)
          }
        }
      }
      let rms = (sums.reduce(0, +) / Double(elements)).squareRoot()
      let sigma = strength * Float(rms)
      Rows.forEachChunk(of: tensor.rowCount, rowLength: row) { rows in
        withFloats(rows) { values, place in
          fr_noise_add(values, rows.count * row, stream, UInt64(rows.lowerBound * row), sigma)
          type.quantise(values, place, rows: rows.count, rowLength: row)
        }
      }
    }
  }
}

extension GGUFFile {
  /// Everything before the first tensor's data.
  func headerBytes() throws -> [UInt8] {
    try [UInt8](unsafeUninitializedCapacity: dataOffset) { buffer, count in
      try handle.read(into: UnsafeMutableRawBufferPointer(start: buffer.baseAddress, count: dataOffset), at: 0)
      count = dataOffset
    }
  }
}

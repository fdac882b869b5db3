internal import CGGML
internal import Core

extension GGUFFile {
  /// The tensor's bytes as stored.
  public func bytes(of tensor: GGUFTensor) throws -> [UInt8] {
    try bytes(of: tensor, rows: 0..<tensor.rowCount)
  }

  /// The bytes of some of the tensor's rows as stored.
  public func bytes(of tensor: GGUFTensor, rows: Range<Int>) throws -> [UInt8] {
    precondition(rows.lowerBound >= 0 && rows.upperBound <= tensor.rowCount, "rows outside the tensor")
    let rowBytes = tensor.byteCount / tensor.rowCount
    return try [UInt8](unsafeUninitializedCapacity: rows.count * rowBytes) { buffer, count in
      let raw = UnsafeMutableRawBufferPointer(start: buffer.baseAddress, count: rows.count * rowBytes)
      try handle.read(into: raw, at: tensor.offset + rows.lowerBound * rowBytes)
      count = raw.count
    }
  }

  /// The tensor's values as floats, row-major: [rows][rowLength].
  public func floats(of tensor: GGUFTensor) throws -> [Float] {
    guard tensor.type.isReadable else {
      throw FusionRouteError.badInput(
        "\(path): tensor '\(tensor.name)' is stored as \(tensor.type.name), which cannot be turned into floats")
    }
    let raw = try bytes(of: tensor)
    let row = tensor.rowLength
    let rows = tensor.rowCount
    return [Float](unsafeUninitializedCapacity: tensor.elementCount) { out, count in
      let output = SendableBuffer(out.baseAddress)
      raw.withUnsafeBytes { source in
        let input = SendableBuffer(source.baseAddress)
        let rowBytes = source.count / rows
        Rows.forEachChunk(of: rows, rowLength: row) { chunk in
          guard let from = input.base, let to = output.base else { return }
          tensor.type.dequantise(
            from + chunk.lowerBound * rowBytes, to + chunk.lowerBound * row, count: chunk.count * row)
        }
      }
      count = tensor.elementCount
    }
  }
}

extension GGUFFile {
  /// The values of some of the tensor's rows, [rows][rowLength], on this thread. `out` has room for exactly them.
  func floats(of tensor: GGUFTensor, rows: Range<Int>, into out: UnsafeMutableBufferPointer<Float>) throws {
    precondition(out.count == rows.count * tensor.rowLength, "room for other rows")
    guard tensor.type.isReadable else {
      throw FusionRouteError.badInput(
        "\(path): tensor '\(tensor.name)' is stored as \(tensor.type.name), which cannot be turned into floats")
    }
    let raw = try bytes(of: tensor, rows: rows)
    raw.withUnsafeBytes { source in
      guard let from = source.baseAddress, let to = out.baseAddress else { return }
      tensor.type.dequantise(from, to, count: out.count)
    }
  }
}

extension TensorType {
  /// `count` values (whole blocks) from `source` as floats. Only for readable types.
  func dequantise(_ source: UnsafeRawPointer, _ destination: UnsafeMutablePointer<Float>, count: Int) {
    if self == .f32 {
      destination.withMemoryRebound(to: UInt8.self, capacity: count * 4) { bytes in
        bytes.update(from: source.assumingMemoryBound(to: UInt8.self), count: count * 4)
      }
      return
    }
    ggml_get_type_traits(ggml).pointee.to_float?(source, destination, Int64(count))
  }

  /// `rows` of `rowLength` floats stored as this type. Only for writable types and whole blocks.
  func quantise(
    _ source: UnsafePointer<Float>, _ destination: UnsafeMutableRawPointer, rows: Int, rowLength: Int
  ) {
    _ = ggml_quantize_chunk(ggml, source, destination, 0, Int64(rows), Int64(rowLength), nil)
  }
}

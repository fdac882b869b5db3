internal import CGGML
internal import Core

/// Builds a GGUF file: metadata, then tensors whose contents are made one at a time while writing.
public struct GGUFWriter: Sendable {
  /// What a tensor holds.
  public enum Content: Sendable {
    /// Floats, [rows][rowLength]; stored as the tensor's type.
    case floats([Float])
    /// Bytes already in the tensor's type.
    case bytes([UInt8])
    /// Fills all elements of the tensor when it is written; stored as the tensor's type. Memory for one tensor only.
    case generated(@Sendable (UnsafeMutableBufferPointer<Float>) throws -> Void)
    /// Makes the bytes, already in the tensor's type, when it is written.
    case generatedBytes(@Sendable () throws -> [UInt8])
  }

  private struct Entry: Sendable {
    let name: String
    let type: TensorType
    let dimensions: [Int]
    let byteCount: Int
    let content: Content
  }

  private var metadata: [(key: String, value: GGUFValue)] = []
  private var positions: [String: Int] = [:]
  private var entries: [Entry] = []
  private var names: Set<String> = []
  private var alignment = Int(GGUF_DEFAULT_ALIGNMENT)

  public init() {}

  /// Sets `key`, replacing an earlier value in place. Throws on an empty key or text with a NUL in it.
  public mutating func set(_ key: String, _ value: GGUFValue) throws {
    guard !key.isEmpty, !key.utf8.contains(0) else {
      throw FusionRouteError.usage("a GGUF key must be non-empty text without NUL bytes, not '\(key)'")
    }
    switch value {
    case .string(let text) where text.utf8.contains(0):
      throw FusionRouteError.usage("the value of GGUF key '\(key)' contains a NUL byte")
    case .array(.strings(let texts)) where texts.contains(where: { $0.utf8.contains(0) }):
      throw FusionRouteError.usage("an element of GGUF key '\(key)' contains a NUL byte")
    default: break
    }
    if key == GGUF_KEY_GENERAL_ALIGNMENT {
      guard case .uint32(let bytes) = value, bytes > 0, bytes & (bytes - 1) == 0 else {
        throw FusionRouteError.usage("\(key) must be a power of two of type u32")
      }
      alignment = Int(bytes)
    }
    if let position = positions[key] {
      metadata[position].value = value
    } else {
      positions[key] = metadata.count
      metadata.append((key, value))
    }
  }

  /// Appends a tensor. `dimensions` is ggml's `ne`, the contiguous dimension first.
  public mutating func add(
    tensor name: String, type: TensorType = .f32, dimensions: [Int], content: Content
  ) throws {
    guard !name.isEmpty, name.utf8.count < Int(GGML_MAX_NAME), !name.utf8.contains(0) else {
      throw FusionRouteError.usage("the tensor name '\(name)' must have 1 to \(GGML_MAX_NAME - 1) bytes and no NUL")
    }
    guard names.insert(name).inserted else { throw FusionRouteError.usage("tensor '\(name)' is added twice") }
    guard (1...Int(GGML_MAX_DIMS)).contains(dimensions.count), dimensions.allSatisfy({ $0 > 0 }) else {
      throw FusionRouteError.usage(
        "tensor '\(name)' needs 1 to \(GGML_MAX_DIMS) positive dimensions, not \(dimensions)")
    }
    guard let rowBytes = type.rowBytes(dimensions[0]) else {
      throw FusionRouteError.usage(
        "tensor '\(name)' has rows of \(dimensions[0]) elements, which \(type.name) stores in blocks of \(type.blockSize)"
      )
    }
    var rows = 1
    for size in dimensions.dropFirst() {
      let (product, overflow) = rows.multipliedReportingOverflow(by: size)
      guard !overflow else { throw FusionRouteError.usage("tensor '\(name)' is too large: \(dimensions)") }
      rows = product
    }
    let (bytes, tooManyBytes) = rowBytes.multipliedReportingOverflow(by: rows)
    let (_, tooManyElements) = (dimensions[0] * 4).multipliedReportingOverflow(by: rows)
    guard !tooManyBytes, !tooManyElements else {
      throw FusionRouteError.usage("tensor '\(name)' is too large: \(dimensions)")
    }
    switch content {
    case .floats(let values):
      guard values.count == dimensions[0] * rows else {
        throw FusionRouteError.usage("tensor '\(name)' got \(values.count) values for the shape \(dimensions)")
      }
      try Self.checkWritable(type, name)
    case .generated: try Self.checkWritable(type, name)
    case .bytes(let raw):
      guard raw.count == bytes else {
        throw FusionRouteError.usage("tensor '\(name)' got \(raw.count) bytes where \(type.name) needs \(bytes)")
      }
    case .generatedBytes: break
    }
    entries.append(Entry(name: name, type: type, dimensions: dimensions, byteCount: bytes, content: content))
  }

  private static func checkWritable(_ type: TensorType, _ name: String) throws {
    guard type.isWritable else {
      throw FusionRouteError.usage("tensor '\(name)' cannot be quantised to \(type.name) without an importance matrix")
    }
  }

  /// Writes the file so that it is complete or absent. Throws `.unavailable` if it cannot be written, `.badInput` for a
  /// value that a tensor's type cannot hold.
  ///
  /// - Parameter progress: is told before every tensor which one of how many it is; what it throws ends the writing.
  public func write(to path: String, progress: (_ tensor: Int, _ count: Int) throws -> Void = { _, _ in }) throws {
    var file = try AtomicFile(path: path)
    try file.write(header())
    for (index, entry) in entries.enumerated() {
      try progress(index, entries.count)
      try Self.write(entry, to: &file)
      try file.pad(to: alignment)
    }
    try file.commit()
  }

  /// Header, metadata and tensor entries, padded to where the data begins.
  private func header() throws -> [UInt8] {
    guard let context = gguf_init_empty() else {
      throw FusionRouteError.unavailable("not enough memory for a GGUF header")
    }
    defer { gguf_free(context) }
    for (key, value) in metadata { value.store(in: context, key: key) }
    let room = (entries.count + 1) * ggml_tensor_overhead()
    guard let tensors = ggml_init(ggml_init_params(mem_size: room, mem_buffer: nil, no_alloc: true)) else {
      throw FusionRouteError.unavailable("not enough memory for a GGUF header")
    }
    defer { ggml_free(tensors) }
    for entry in entries {
      let ne = entry.dimensions.map { Int64($0) }
      guard let tensor = ggml_new_tensor(tensors, entry.type.ggml, Int32(ne.count), ne) else {
        throw FusionRouteError.internal("ggml could not describe tensor '\(entry.name)'")
      }
      ggml_set_name(tensor, entry.name)
      gguf_add_tensor(context, tensor)
    }
    let size = gguf_get_meta_size(context)
    return [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
      gguf_get_meta_data(context, buffer.baseAddress)
      count = size
    }
  }

  private static func write(_ entry: Entry, to file: inout AtomicFile) throws {
    switch entry.content {
    case .bytes(let bytes): try file.write(bytes)
    case .generatedBytes(let make):
      let bytes = try make()
      guard bytes.count == entry.byteCount else {
        throw FusionRouteError.internal("tensor '\(entry.name)' was made with \(bytes.count) bytes")
      }
      try file.write(bytes)
    case .floats(let values): try file.write(stored(values, as: entry))
    case .generated(let fill):
      let count = entry.dimensions.reduce(1, *)
      let values = try [Float](unsafeUninitializedCapacity: count) { buffer, initialized in
        let whole = UnsafeMutableBufferPointer(start: buffer.baseAddress, count: count)
        whole.update(repeating: 0)
        initialized = count
        try fill(whole)
      }
      try file.write(stored(values, as: entry))
    }
  }

  private static func stored(_ values: [Float], as entry: Entry) throws -> [UInt8] {
    try values.withUnsafeBufferPointer { try entry.type.checkRange($0, tensor: entry.name) }
    let row = entry.dimensions[0]
    let rows = values.count / row
    return [UInt8](unsafeUninitializedCapacity: entry.byteCount) { buffer, count in
      let output = SendableBuffer(UnsafeMutableRawPointer(buffer.baseAddress))
      let rowBytes = entry.byteCount / rows
      values.withUnsafeBufferPointer { source in
        let input = SendableBuffer(source.baseAddress)
        Rows.forEachChunk(of: rows, rowLength: row) { chunk in
          guard let from = input.base, let to = output.base else { return }
          entry.type.quantise(
            from + chunk.lowerBound * row, to + chunk.lowerBound * rowBytes, rows: chunk.count, rowLength: row)
        }
      }
      count = entry.byteCount
    }
  }
}

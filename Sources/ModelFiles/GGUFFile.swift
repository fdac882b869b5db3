internal import CGGML
internal import Core

#if canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#else
  internal import Darwin
#endif

/// A tensor's entry in a GGUF file.
public struct GGUFTensor: Sendable, Hashable {
  public let name: String
  public let type: TensorType
  /// ggml's `ne`: elements per dimension, the contiguous one first; trailing ones are left out.
  public let dimensions: [Int]
  /// Byte offset of the first element from the start of the file.
  public let offset: Int
  public let byteCount: Int

  public var elementCount: Int { dimensions.reduce(1, *) }
  /// Elements of one row, the unit that types are quantised in.
  public var rowLength: Int { dimensions[0] }
  public var rowCount: Int { elementCount / rowLength }
}

/// The header of a GGUF file and access to its tensors' data.
///
/// Reading checks what ggml itself would only find out by aborting or by reading past the end: that it is a regular
/// file, that every count, length and offset lies inside it, and that each tensor's type is one that this build knows.
/// Metadata is turned into Swift values only when it is asked for. Data is read with `pread` from the file that was
/// opened, also if another one has taken its name since.
public struct GGUFFile: Sendable {
  public let path: String
  public let fileBytes: Int
  /// Format version, 2 or 3.
  public let version: Int
  public let alignment: Int
  /// Bytes before the first tensor's data.
  public let dataOffset: Int
  /// Metadata keys in the file's order.
  public let keys: [String]
  public let tensors: [GGUFTensor]

  let handle: GGUFHandle
  private let keyIDs: [String: Int64]
  private let tensorIndex: [String: Int]

  /// Reads the header. Throws `.badInput` naming what is wrong with the file.
  public static func read(_ path: String) throws -> GGUFFile { try GGUFFile(path: path) }

  private init(path: String) throws {
    self.path = path
    let handle = try GGUFHandle(path: path)
    self.handle = handle
    fileBytes = handle.fileBytes
    let context = handle.context
    version = Int(gguf_get_version(context))
    alignment = gguf_get_alignment(context)
    dataOffset = gguf_get_data_offset(context)
    keys = (0..<gguf_get_n_kv(context)).map { String(cString: gguf_get_key(context, $0)) }
    keyIDs = Dictionary(keys.enumerated().map { ($1, Int64($0)) }, uniquingKeysWith: { first, _ in first })
    var tensors: [GGUFTensor] = []
    tensors.reserveCapacity(Int(gguf_get_n_tensors(context)))
    for id in 0..<gguf_get_n_tensors(context) {
      tensors.append(
        try Self.tensor(id, of: context, path: path, dataOffset: dataOffset, fileBytes: handle.fileBytes))
    }
    self.tensors = tensors
    tensorIndex = Dictionary(
      tensors.enumerated().map { ($1.name, $0) }, uniquingKeysWith: { first, _ in first })
  }

  private static func tensor(
    _ id: Int64, of context: OpaquePointer, path: String, dataOffset: Int, fileBytes: Int
  ) throws -> GGUFTensor {
    let name = String(cString: gguf_get_tensor_name(context, id))
    guard let type = TensorType(rawValue: Int32(gguf_get_tensor_type(context, id).rawValue)) else {
      throw FusionRouteError.badInput("\(path): tensor '\(name)' has a type that this build of ggml does not know")
    }
    let ne = UnsafeBufferPointer(start: gguf_get_tensor_ne(context, id), count: Int(GGML_MAX_DIMS)).map { Int($0) }
    var elements = 1
    for size in ne {
      let (product, overflow) = elements.multipliedReportingOverflow(by: size)
      guard size > 0, !overflow else {
        throw FusionRouteError.badInput("\(path): tensor '\(name)' has the impossible shape \(ne)")
      }
      elements = product
    }
    guard let rowBytes = type.rowBytes(ne[0]) else {
      throw FusionRouteError.badInput(
        "\(path): tensor '\(name)' has rows of \(ne[0]) elements, which \(type.name) cannot store")
    }
    let (bytes, tooMany) = rowBytes.multipliedReportingOverflow(by: elements / ne[0])
    let offset = UInt64(gguf_get_tensor_offset(context, id))
    guard !tooMany, dataOffset <= fileBytes, bytes <= fileBytes - dataOffset,
      offset <= UInt64(fileBytes - dataOffset - bytes)
    else {
      throw FusionRouteError.badInput(
        "\(path): the file is cut short: tensor '\(name)' should end at byte \(UInt64(dataOffset) &+ offset &+ UInt64(bytes)) "
          + "but the file has \(fileBytes); copy or download it again")
    }
    var dimensions = ne
    while dimensions.count > 1, dimensions.last == 1 { dimensions.removeLast() }
    return GGUFTensor(
      name: name, type: type, dimensions: dimensions, offset: dataOffset + Int(offset), byteCount: bytes)
  }

  /// The metadata under `key`.
  public subscript(key: String) -> GGUFValue? {
    guard let id = keyIDs[key] else { return nil }
    return GGUFValue(context: handle.context, id: id)
  }

  /// Number of elements of the array under `key`, without copying it.
  public func arrayCount(_ key: String) -> Int? {
    guard let id = keyIDs[key], gguf_get_kv_type(handle.context, id) == GGUF_TYPE_ARRAY else { return nil }
    return gguf_get_arr_n(handle.context, id)
  }

  /// One string of the array under `key`; nil if there is no such element.
  public func string(in key: String, at index: Int) -> String? {
    guard let id = keyIDs[key], let count = arrayCount(key), (0..<count).contains(index),
      gguf_get_arr_type(handle.context, id) == GGUF_TYPE_STRING
    else { return nil }
    return String(cString: gguf_get_arr_str(handle.context, id, index))
  }

  public func tensor(named name: String) -> GGUFTensor? { tensorIndex[name].map { tensors[$0] } }

  /// `general.architecture`.
  public var architecture: String? { self["general.architecture"]?.string }
}

/// Owns the open file and ggml's parsed header.
final class GGUFHandle: @unchecked Sendable {
  // Unchecked: the context is never changed after `init` and ggml's getters only read; `pread` needs no position.
  let context: OpaquePointer
  let descriptor: Int32
  let path: String
  let fileBytes: Int

  /// Magic, version, two counts.
  private static let headerBytes = 24
  /// The least bytes that a metadata pair (key length, one byte of key, type, one byte) or a tensor entry (name length,
  /// dimension count, type, offset) takes: counts that cannot fit are refused before anything is allocated.
  private static let leastPairBytes = 14
  private static let leastTensorBytes = 24

  init(path: String) throws {
    let (descriptor, size) = try Self.open(path)
    var kept = false
    defer { if !kept { close(descriptor) } }
    try Self.checkHeader(path: path, descriptor: descriptor, size: size)
    let (context, lines) = GGMLLog.capturing { () -> OpaquePointer? in
      let copy = dup(descriptor)
      guard copy >= 0, let stream = fdopen(copy, "rb") else {
        if copy >= 0 { close(copy) }
        return nil
      }
      defer { fclose(stream) }
      rewind(stream)
      return gguf_init_from_file_ptr(stream, gguf_init_params(no_alloc: true, ctx: nil))
    }
    guard let context else {
      throw FusionRouteError.badInput(
        "\(path): the GGUF header is damaged or cut short\(Self.detail(lines)); copy or download the file again")
    }
    kept = true
    self.context = context
    self.descriptor = descriptor
    self.path = path
    fileBytes = size
  }

  deinit {
    gguf_free(context)
    close(descriptor)
  }

  private static func open(_ path: String) throws -> (descriptor: Int32, size: Int) {
    let descriptor = openReadOnly(path)
    guard descriptor >= 0 else {
      throw FusionRouteError.badInput("cannot open \(path): \(String(cString: strerror(errno)))")
    }
    var status = stat()
    guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
      close(descriptor)
      throw FusionRouteError.badInput("\(path) is not a regular file: give the path of a GGUF file")
    }
    return (descriptor, Int(status.st_size))
  }

  private static func checkHeader(path: String, descriptor: Int32, size: Int) throws {
    var header = [UInt8](repeating: 0, count: headerBytes)
    let got = pread(descriptor, &header, headerBytes, 0)
    guard got >= 4, header[0..<4].elementsEqual("GGUF".utf8) else {
      throw FusionRouteError.badInput("\(path) is not a GGUF file: it does not begin with 'GGUF'")
    }
    guard got == headerBytes else {
      throw FusionRouteError.badInput(
        "\(path): the file is cut short inside the GGUF header; copy or download it again")
    }
    func word(_ at: Int) -> UInt64 { (0..<8).reduce(0) { $0 | UInt64(header[at + $1]) << UInt64(8 * $1) } }
    let version = UInt32(truncatingIfNeeded: word(4))
    guard version == 2 || version == 3 else {
      throw FusionRouteError.badInput(
        "\(path) has GGUF version \(version); versions 2 and 3 (little-endian) can be read: convert it again")
    }
    let tensors = word(8)
    let pairs = word(16)
    guard tensors <= UInt64(size / leastTensorBytes), pairs <= UInt64(size / leastPairBytes) else {
      throw FusionRouteError.badInput(
        "\(path): the GGUF header names \(tensors) tensors and \(pairs) keys, more than \(size) bytes can hold; "
          + "the file is damaged or cut short")
    }
  }

  private static func detail(_ lines: [String]) -> String {
    // ggml's first line names the cause: "gguf_init_from_reader: key 'x' has invalid GGUF type 77".
    guard let first = lines.first else { return "" }
    let text = first.split(separator: "\n").first.map(String.init) ?? first
    let cause = text.split(separator: ":", maxSplits: 1).last.map(String.init) ?? text
    return " (\(cause.trimmingPrefix(while: { $0 == " " })))"
  }

  /// Fills `buffer` from `offset`; a short file is an error.
  func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws {
    guard var base = buffer.baseAddress else { return }
    var left = buffer.count
    var position = offset
    while left > 0 {
      let got = pread(descriptor, base, min(left, 1 << 30), off_t(position))
      if got < 0, errno == EINTR { continue }
      guard got > 0 else {
        throw FusionRouteError.badInput(
          "\(path): reading \(left) bytes at \(position) failed: "
            + (got < 0 ? String(cString: strerror(errno)) : "the file has become shorter"))
      }
      base += got
      left -= got
      position += got
    }
  }
}

/// `open` is variadic in C; this names the one form used here. Non-blocking: a named pipe without a writer would hold us.
func openReadOnly(_ path: String) -> Int32 { open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC) }

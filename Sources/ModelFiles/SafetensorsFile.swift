internal import Core

#if canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#else
  internal import Darwin
#endif

/// A tensor's entry in a safetensors file.
public struct SafetensorsTensor: Sendable, Equatable {
  public let name: String
  /// The file's name for the type: `F32`, `F16`, `BF16`, `F64`, …
  public let type: String
  /// Rows first, the contiguous dimension last.
  public let shape: [Int]
  /// Bytes of the data, from the start of the file.
  let range: Range<Int>

  public var elementCount: Int { shape.reduce(1, *) }
}

/// Reads a safetensors file (huggingface.co/docs/safetensors): eight bytes with the header's length, a JSON header, data.
///
/// Every offset is checked against the file's size before anything is read.
public struct SafetensorsFile: Sendable {
  /// Longest header; the format's own limit.
  public static let maximumHeaderBytes = 100_000_000
  /// Elements of a tensor that is read: a routing head has far fewer.
  public static let maximumElements = 1 << 31

  public let path: String
  public let tensors: [SafetensorsTensor]

  /// Reads the header. Throws `.badInput` naming what is wrong with the file.
  public static func read(_ path: String) throws -> SafetensorsFile { try SafetensorsFile(path: path) }

  private init(path: String) throws {
    self.path = path
    let descriptor = openReadOnly(path)
    guard descriptor >= 0 else {
      throw FusionRouteError.badInput("cannot open \(path): \(String(cString: strerror(errno)))")
    }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
      throw FusionRouteError.badInput("\(path) is not a regular file: give the path of a safetensors file")
    }
    let size = Int(status.st_size)
    let prefix = try Self.bytes(0..<min(8, size), of: descriptor, path: path)
    let length = prefix.enumerated().reduce(UInt64(0)) { $0 | UInt64($1.element) << UInt64(8 * $1.offset) }
    guard prefix.count == 8, length >= 2, length <= UInt64(Self.maximumHeaderBytes), length <= UInt64(size - 8) else {
      throw FusionRouteError.badInput("\(path) is not a safetensors file, or it is cut short")
    }
    let header = try Self.bytes(8..<8 + Int(length), of: descriptor, path: path)
    guard case .object(let object)? = try? JSONParser.parse(header) else {
      throw FusionRouteError.badInput("\(path) is not a safetensors file: its header is no JSON object")
    }
    tensors = try object.members.filter { $0.key != "__metadata__" }.map { name, value in
      try Self.tensor(name, value, dataOffset: 8 + Int(length), fileBytes: size, path: path)
    }
  }

  private static func tensor(
    _ name: String, _ value: JSONValue, dataOffset: Int, fileBytes: Int, path: String
  ) throws -> SafetensorsTensor {
    func integers(_ value: JSONValue?) -> [Int]? {
      guard case .array(let list)? = value else { return nil }
      let numbers = list.compactMap { if case .integer(let number) = $0 { Int(exactly: number) } else { nil } }
      return numbers.count == list.count && numbers.allSatisfy { $0 >= 0 } ? numbers : nil
    }
    guard case .object(let entry) = value, case .string(let type)? = entry["dtype"],
      let shape = integers(entry["shape"]), let offsets = integers(entry["data_offsets"]), offsets.count == 2,
      offsets[0] <= offsets[1], offsets[1] <= fileBytes - dataOffset
    else {
      throw FusionRouteError.badInput("\(path): the entry of tensor '\(name)' is damaged or points outside the file")
    }
    var elements = 1
    for size in shape {
      let (product, overflow) = elements.multipliedReportingOverflow(by: size)
      guard !overflow else { throw FusionRouteError.badInput("\(path): tensor '\(name)' has an impossible shape") }
      elements = product
    }
    return SafetensorsTensor(
      name: name, type: type, shape: shape, range: dataOffset + offsets[0]..<dataOffset + offsets[1])
  }

  public func tensor(named name: String) -> SafetensorsTensor? { tensors.first { $0.name == name } }

  /// The tensor's values, row-major. Throws `.badInput` for a type that is no floating-point number.
  public func floats(of tensor: SafetensorsTensor) throws -> [Float] {
    let sizes = ["F64": 8, "F32": 4, "F16": 2, "BF16": 2]
    guard let size = sizes[tensor.type] else {
      throw FusionRouteError.badInput(
        "\(path): tensor '\(tensor.name)' is of type \(tensor.type); F32, F16, BF16 and F64 can be read")
    }
    guard tensor.elementCount <= Self.maximumElements, tensor.range.count == size * tensor.elementCount else {
      throw FusionRouteError.badInput(
        "\(path): tensor '\(tensor.name)' has \(tensor.range.count) bytes, which do not fit its shape \(tensor.shape)")
    }
    let descriptor = openReadOnly(path)
    guard descriptor >= 0 else {
      throw FusionRouteError.badInput("cannot open \(path): \(String(cString: strerror(errno)))")
    }
    defer { close(descriptor) }
    let bytes = try Self.bytes(tensor.range, of: descriptor, path: path)
    return bytes.withUnsafeBytes { raw in
      (0..<tensor.elementCount).map { index in
        func load<T: FixedWidthInteger>(_ type: T.Type) -> T {
          T(littleEndian: raw.loadUnaligned(fromByteOffset: index * size, as: type))
        }
        switch tensor.type {
        case "F64": return Float(Double(bitPattern: load(UInt64.self)))
        case "F32": return Float(bitPattern: load(UInt32.self))
        case "BF16": return Float(bitPattern: UInt32(load(UInt16.self)) << 16)
        default: return Self.half(load(UInt16.self))
        }
      }
    }
  }

  /// IEEE 754 binary16.
  static func half(_ bits: UInt16) -> Float {
    let sign: Float = bits & 0x8000 == 0 ? 1 : -1
    let exponent = Int(bits >> 10 & 0x1F)
    let fraction = Float(bits & 0x3FF)
    switch exponent {
    case 0: return sign * fraction * 0x1p-24
    case 31: return fraction == 0 ? sign * .infinity : .nan
    default: return sign * (1 + fraction / 1024) * Float(sign: .plus, exponent: exponent - 15, significand: 1)
    }
  }

  private static func bytes(_ range: Range<Int>, of descriptor: Int32, path: String) throws -> [UInt8] {
    var buffer = [UInt8](repeating: 0, count: range.count)
    var done = 0
    while done < buffer.count {
      let got = buffer.withUnsafeMutableBytes { raw in
        pread(
          descriptor, raw.baseAddress.map { $0 + done }, min(raw.count - done, 1 << 30), off_t(range.lowerBound + done))
      }
      if got < 0, errno == EINTR { continue }
      guard got > 0 else { throw FusionRouteError.badInput("\(path): the file is cut short") }
      done += got
    }
    return buffer
  }
}

internal import CGGML
internal import Core

/// How the numbers of a tensor are stored: one of ggml's types.
public struct TensorType: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
  /// ggml's number for the type.
  public let rawValue: Int32

  /// nil for a number that ggml does not know or no longer supports.
  public init?(rawValue: Int32) {
    guard rawValue >= 0, rawValue < Int32(GGML_TYPE_COUNT.rawValue),
      ggml_blck_size(ggml_type(UInt32(rawValue))) > 0
    else { return nil }
    self.rawValue = rawValue
  }

  private init(_ type: ggml_type) { rawValue = Int32(type.rawValue) }

  /// From ggml's name of the type in any case: `f32`, `bf16`, `q8_0`, `q4_K`.
  public init?(name: String) {
    let wanted = name.lowercased()
    guard let found = Self.all.first(where: { $0.name.lowercased() == wanted }) else { return nil }
    self = found
  }

  public static let f32 = TensorType(GGML_TYPE_F32)
  public static let f16 = TensorType(GGML_TYPE_F16)
  public static let bf16 = TensorType(GGML_TYPE_BF16)
  public static let q80 = TensorType(GGML_TYPE_Q8_0)
  static let q40 = TensorType(GGML_TYPE_Q4_0)
  public static let q41 = TensorType(GGML_TYPE_Q4_1)
  public static let q50 = TensorType(GGML_TYPE_Q5_0)
  public static let q4K = TensorType(GGML_TYPE_Q4_K)

  /// Every type that ggml still supports.
  public static var all: [TensorType] {
    (0..<Int32(GGML_TYPE_COUNT.rawValue)).compactMap { TensorType(rawValue: $0) }
  }

  var ggml: ggml_type { ggml_type(UInt32(rawValue)) }

  public var name: String { String(cString: ggml_type_name(ggml)) }
  public var description: String { name }

  /// Elements in one block; a row must be a whole number of blocks.
  public var blockSize: Int { Int(ggml_blck_size(ggml)) }
  /// Bytes of one block.
  public var blockBytes: Int { ggml_type_size(ggml) }

  /// Bytes of a row of `elements`, or nil if the row is not a whole number of blocks.
  public func rowBytes(_ elements: Int) -> Int? {
    guard elements >= 0, elements % blockSize == 0 else { return nil }
    let (bytes, overflow) = (elements / blockSize).multipliedReportingOverflow(by: blockBytes)
    return overflow ? nil : bytes
  }

  /// Whether rows of the type can be turned into floats.
  public var isReadable: Bool {
    self == .f32 || ggml_get_type_traits(ggml).pointee.to_float != nil
  }

  /// Whether ggml can quantise floats to the type without an importance matrix.
  public var isWritable: Bool {
    guard !ggml_quantize_requires_imatrix(ggml) else { return false }
    if self == .f32 || self == .f16 || self == .bf16 { return true }
    // The types that only exist as intermediate results of a matrix product have no quantiser.
    return ggml_is_quantized(ggml) && self != TensorType(GGML_TYPE_Q8_1) && self != TensorType(GGML_TYPE_Q8_K)
  }

  /// The largest magnitude that surely stays finite in the type: F16 ends at 65504, and most blocks are scaled by one.
  var largestMagnitude: Float {
    switch self {
    case .f32: .greatestFiniteMagnitude
    case .bf16: 0x1.FEp127
    // The scale is the largest value's part of what a block counts to.
    case .q80: 127 * 65504
    case .q50: 16 * 65504
    case .q40: 8 * 65504
    default: 65504
    }
  }

  /// Throws `.badInput` naming the tensor if a finite value would be infinite in the type.
  func checkRange(_ values: UnsafeBufferPointer<Float>, tensor: String) throws {
    guard self != .f32 else { return }
    let largest = largestMagnitude
    guard let value = values.first(where: { abs($0) > largest && $0.isFinite }) else { return }
    throw FusionRouteError.badInput(
      "tensor '\(tensor)' has the value \(value), which \(name) cannot hold: write it as bf16")
  }

  /// The type llama.cpp's own quantiser falls back to when a row of `elements` is not a whole number of blocks.
  func fitting(row elements: Int) -> TensorType {
    if elements % blockSize == 0 { return self }
    return elements % TensorType.q50.blockSize == 0 ? .q50 : .f16
  }
}

extension TensorType {
  /// llama.cpp's number for a model that is mostly of this type (`llama_ftype`).
  public var mostlyFileType: UInt32 {
    switch self {
    case .f32: 0
    case .f16: 1
    case .q41: 3
    case .q80: 7
    case .q50: 8
    case .q4K: 15
    case .bf16: 32
    default: 1024
    }
  }
}

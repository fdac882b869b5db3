internal import CGGML
internal import Core

/// A metadata value of a GGUF file.
public enum GGUFValue: Sendable, Equatable {
  case uint8(UInt8)
  case int8(Int8)
  case uint16(UInt16)
  case int16(Int16)
  case uint32(UInt32)
  case int32(Int32)
  case uint64(UInt64)
  case int64(Int64)
  case float32(Float)
  case float64(Double)
  case bool(Bool)
  case string(String)
  case array(GGUFArray)

  /// The value of any of the integer types, if it fits.
  public var integer: Int? {
    switch self {
    case .uint8(let value): Int(value)
    case .int8(let value): Int(value)
    case .uint16(let value): Int(value)
    case .int16(let value): Int(value)
    case .uint32(let value): Int(value)
    case .int32(let value): Int(value)
    case .uint64(let value): Int(exactly: value)
    case .int64(let value): Int(value)
    default: nil
    }
  }

  public var float: Float? {
    switch self {
    case .float32(let value): value
    case .float64(let value): Float(value)
    default: nil
    }
  }

  public var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
  public var string: String? { if case .string(let value) = self { value } else { nil } }
  public var array: GGUFArray? { if case .array(let value) = self { value } else { nil } }

  /// The type's name in the GGUF specification's spelling (`u32`, `str`, `arr[str, 3]`).
  public var typeName: String {
    switch self {
    case .uint8: "u8"
    case .int8: "i8"
    case .uint16: "u16"
    case .int16: "i16"
    case .uint32: "u32"
    case .int32: "i32"
    case .uint64: "u64"
    case .int64: "i64"
    case .float32: "f32"
    case .float64: "f64"
    case .bool: "bool"
    case .string: "str"
    case .array(let array): "arr[\(array.elementTypeName), \(array.count)]"
    }
  }
}

/// An array of metadata values, all of one type.
public enum GGUFArray: Sendable, Equatable {
  case uint8([UInt8])
  case int8([Int8])
  case uint16([UInt16])
  case int16([Int16])
  case uint32([UInt32])
  case int32([Int32])
  case uint64([UInt64])
  case int64([Int64])
  case float32([Float])
  case float64([Double])
  case bool([Bool])
  case strings([String])

  public var count: Int {
    switch self {
    case .uint8(let values): values.count
    case .int8(let values): values.count
    case .uint16(let values): values.count
    case .int16(let values): values.count
    case .uint32(let values): values.count
    case .int32(let values): values.count
    case .uint64(let values): values.count
    case .int64(let values): values.count
    case .float32(let values): values.count
    case .float64(let values): values.count
    case .bool(let values): values.count
    case .strings(let values): values.count
    }
  }

  public var elementTypeName: String {
    switch self {
    case .uint8: "u8"
    case .int8: "i8"
    case .uint16: "u16"
    case .int16: "i16"
    case .uint32: "u32"
    case .int32: "i32"
    case .uint64: "u64"
    case .int64: "i64"
    case .float32: "f32"
    case .float64: "f64"
    case .bool: "bool"
    case .strings: "str"
    }
  }

  public var strings: [String]? { if case .strings(let values) = self { values } else { nil } }
}

// MARK: - From and to ggml's gguf_context

extension GGUFValue {
  /// The value under `id`; nil for a type this build of ggml does not know.
  init?(context: OpaquePointer, id: Int64) {
    switch gguf_get_kv_type(context, id) {
    case GGUF_TYPE_UINT8: self = .uint8(gguf_get_val_u8(context, id))
    case GGUF_TYPE_INT8: self = .int8(gguf_get_val_i8(context, id))
    case GGUF_TYPE_UINT16: self = .uint16(gguf_get_val_u16(context, id))
    case GGUF_TYPE_INT16: self = .int16(gguf_get_val_i16(context, id))
    case GGUF_TYPE_UINT32: self = .uint32(gguf_get_val_u32(context, id))
    case GGUF_TYPE_INT32: self = .int32(gguf_get_val_i32(context, id))
    case GGUF_TYPE_UINT64: self = .uint64(gguf_get_val_u64(context, id))
    case GGUF_TYPE_INT64: self = .int64(gguf_get_val_i64(context, id))
    case GGUF_TYPE_FLOAT32: self = .float32(gguf_get_val_f32(context, id))
    case GGUF_TYPE_FLOAT64: self = .float64(gguf_get_val_f64(context, id))
    case GGUF_TYPE_BOOL: self = .bool(gguf_get_val_bool(context, id))
    case GGUF_TYPE_STRING: self = .string(String(cString: gguf_get_val_str(context, id)))
    case GGUF_TYPE_ARRAY:
      guard let array = GGUFArray(context: context, id: id) else { return nil }
      self = .array(array)
    default: return nil
    }
  }

  /// Sets `key` in `context`. The caller has checked the key and the strings.
  func store(in context: OpaquePointer, key: String) {
    switch self {
    case .uint8(let value): gguf_set_val_u8(context, key, value)
    case .int8(let value): gguf_set_val_i8(context, key, value)
    case .uint16(let value): gguf_set_val_u16(context, key, value)
    case .int16(let value): gguf_set_val_i16(context, key, value)
    case .uint32(let value): gguf_set_val_u32(context, key, value)
    case .int32(let value): gguf_set_val_i32(context, key, value)
    case .uint64(let value): gguf_set_val_u64(context, key, value)
    case .int64(let value): gguf_set_val_i64(context, key, value)
    case .float32(let value): gguf_set_val_f32(context, key, value)
    case .float64(let value): gguf_set_val_f64(context, key, value)
    case .bool(let value): gguf_set_val_bool(context, key, value)
    case .string(let value): gguf_set_val_str(context, key, value)
    case .array(let array): array.store(in: context, key: key)
    }
  }
}

extension GGUFArray {
  init?(context: OpaquePointer, id: Int64) {
    let count = gguf_get_arr_n(context, id)
    func copy<T>(_: T.Type) -> [T] {
      guard count > 0, let base = gguf_get_arr_data(context, id) else { return [] }
      return Array(UnsafeBufferPointer(start: base.assumingMemoryBound(to: T.self), count: count))
    }
    switch gguf_get_arr_type(context, id) {
    case GGUF_TYPE_UINT8: self = .uint8(copy(UInt8.self))
    case GGUF_TYPE_INT8: self = .int8(copy(Int8.self))
    case GGUF_TYPE_UINT16: self = .uint16(copy(UInt16.self))
    case GGUF_TYPE_INT16: self = .int16(copy(Int16.self))
    case GGUF_TYPE_UINT32: self = .uint32(copy(UInt32.self))
    case GGUF_TYPE_INT32: self = .int32(copy(Int32.self))
    case GGUF_TYPE_UINT64: self = .uint64(copy(UInt64.self))
    case GGUF_TYPE_INT64: self = .int64(copy(Int64.self))
    case GGUF_TYPE_FLOAT32: self = .float32(copy(Float.self))
    case GGUF_TYPE_FLOAT64: self = .float64(copy(Double.self))
    case GGUF_TYPE_BOOL: self = .bool(copy(Int8.self).map { $0 != 0 })
    case GGUF_TYPE_STRING: self = .strings((0..<count).map { String(cString: gguf_get_arr_str(context, id, $0)) })
    default: return nil
    }
  }

  func store(in context: OpaquePointer, key: String) {
    func put<T>(_ values: [T], _ type: gguf_type) {
      values.withUnsafeBytes { gguf_set_arr_data(context, key, type, $0.baseAddress, values.count) }
    }
    switch self {
    case .uint8(let values): put(values, GGUF_TYPE_UINT8)
    case .int8(let values): put(values, GGUF_TYPE_INT8)
    case .uint16(let values): put(values, GGUF_TYPE_UINT16)
    case .int16(let values): put(values, GGUF_TYPE_INT16)
    case .uint32(let values): put(values, GGUF_TYPE_UINT32)
    case .int32(let values): put(values, GGUF_TYPE_INT32)
    case .uint64(let values): put(values, GGUF_TYPE_UINT64)
    case .int64(let values): put(values, GGUF_TYPE_INT64)
    case .float32(let values): put(values, GGUF_TYPE_FLOAT32)
    case .float64(let values): put(values, GGUF_TYPE_FLOAT64)
    case .bool(let values): put(values.map { Int8($0 ? 1 : 0) }, GGUF_TYPE_BOOL)
    case .strings(let values): storeStrings(values, in: context, key: key)
    }
  }

  /// All strings in one block of NUL-terminated bytes: a 262,144-token vocabulary is one allocation, not so many.
  private func storeStrings(_ values: [String], in context: OpaquePointer, key: String) {
    var bytes: [CChar] = []
    var starts: [Int] = []
    starts.reserveCapacity(values.count)
    for value in values {
      starts.append(bytes.count)
      bytes.append(contentsOf: value.utf8.lazy.map { CChar(bitPattern: $0) })
      bytes.append(0)
    }
    bytes.withUnsafeBufferPointer { block in
      var pointers: [UnsafePointer<CChar>?] = starts.map { start in block.baseAddress.map { $0 + start } }
      pointers.withUnsafeMutableBufferPointer {
        gguf_set_arr_str(context, key, $0.baseAddress, values.count)
      }
    }
  }
}

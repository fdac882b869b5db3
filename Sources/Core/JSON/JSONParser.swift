/// A strict reader of JSON (RFC 8259) with bounds on depth and number of values, so that no text of a stranger costs
/// more than a small multiple of its size, or a deep stack.
public struct JSONParser {
  /// Arrays and objects inside one another.
  public static let maximumDepth = 128
  /// Values in one text: each takes some tens of bytes of memory, however short its text is.
  public static let maximumValues = 1 << 20
  /// Characters of one number.
  public static let maximumDigits = 1024

  public struct Failure: Error, Equatable {
    public var message: String
    /// Offset of the byte at which reading stopped.
    public var offset: Int
  }

  private let bytes: UnsafeBufferPointer<UInt8>
  private var position = 0
  private var depth = 0
  private var values = 0

  /// The one value that `bytes` hold.
  ///
  /// - Throws: ``Failure``.
  public static func parse(_ bytes: [UInt8]) throws -> JSONValue {
    try bytes.withUnsafeBufferPointer { buffer in
      var parser = JSONParser(bytes: buffer)
      parser.skipSpace()
      guard parser.position < buffer.count else { throw parser.failure("the text is empty") }
      let value = try parser.value()
      parser.skipSpace()
      guard parser.position == buffer.count else { throw parser.failure("something follows the end of the value") }
      return value
    }
  }

  private init(bytes: UnsafeBufferPointer<UInt8>) { self.bytes = bytes }

  private func failure(_ message: String) -> Failure { Failure(message: message, offset: position) }

  private var current: UInt8? { position < bytes.count ? bytes[position] : nil }

  private mutating func skipSpace() {
    while let byte = current, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { position += 1 }
  }

  /// Skips space and takes `byte` if it comes next.
  private mutating func take(_ byte: UInt8) -> Bool {
    skipSpace()
    guard current == byte else { return false }
    position += 1
    return true
  }

  // MARK: Values

  private mutating func value() throws -> JSONValue {
    values += 1
    guard values <= Self.maximumValues else {
      throw failure("there are more than \(Self.maximumValues) values in it")
    }
    switch current {
    case UInt8(ascii: "{"): return try nested { try $0.object() }
    case UInt8(ascii: "["): return try nested { try $0.array() }
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"): return try literal("true", .bool(true))
    case UInt8(ascii: "f"): return try literal("false", .bool(false))
    case UInt8(ascii: "n"): return try literal("null", .null)
    case let byte? where byte == UInt8(ascii: "-") || Self.isDigit(byte): return try number()
    case UInt8(ascii: "N"), UInt8(ascii: "I"): throw failure("NaN and Infinity are not JSON")
    case nil: throw failure("the text ends where a value should come")
    default: throw failure("a value should come here")
    }
  }

  private mutating func nested(_ body: (inout Self) throws -> JSONValue) throws -> JSONValue {
    depth += 1
    defer { depth -= 1 }
    guard depth <= Self.maximumDepth else { throw failure("it is nested deeper than \(Self.maximumDepth) levels") }
    return try body(&self)
  }

  private mutating func literal(_ text: StaticString, _ value: JSONValue) throws -> JSONValue {
    let end = position + text.utf8CodeUnitCount
    guard end <= bytes.count, (0..<text.utf8CodeUnitCount).allSatisfy({ bytes[position + $0] == text.utf8Start[$0] })
    else { throw failure("a value should come here") }
    position = end
    return value
  }

  private mutating func array() throws -> JSONValue {
    position += 1
    if take(UInt8(ascii: "]")) { return .array([]) }
    var elements: [JSONValue] = []
    repeat {
      skipSpace()
      elements.append(try value())
    } while take(UInt8(ascii: ","))
    guard take(UInt8(ascii: "]")) else { throw failure("`,` or `]` should come here") }
    return .array(elements)
  }

  private mutating func object() throws -> JSONValue {
    let start = position
    position += 1
    if take(UInt8(ascii: "}")) { return .object(JSONObject(members: [], range: start..<position)) }
    var members: [(key: String, value: JSONValue)] = []
    repeat {
      skipSpace()
      guard current == UInt8(ascii: "\"") else { throw failure("a key in double quotes should come here") }
      let key = try string()
      guard take(UInt8(ascii: ":")) else { throw failure("`:` should come here") }
      skipSpace()
      members.append((key, try value()))
    } while take(UInt8(ascii: ","))
    guard take(UInt8(ascii: "}")) else { throw failure("`,` or `}` should come here") }
    return .object(JSONObject(members: members, range: start..<position))
  }

  // MARK: Numbers

  private static func isDigit(_ byte: UInt8) -> Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }

  private mutating func digits() -> Int {
    let start = position
    while let byte = current, Self.isDigit(byte) { position += 1 }
    return position - start
  }

  private mutating func number() throws -> JSONValue {
    let start = position
    if current == UInt8(ascii: "-") { position += 1 }
    let leadingZero = current == UInt8(ascii: "0")
    let whole = digits()
    guard whole > 0, !leadingZero || whole == 1 else { throw failure("this is no number of JSON") }
    var isInteger = true
    if current == UInt8(ascii: ".") {
      isInteger = false
      position += 1
      guard digits() > 0 else { throw failure("a digit should come here") }
    }
    if current == UInt8(ascii: "e") || current == UInt8(ascii: "E") {
      isInteger = false
      position += 1
      if current == UInt8(ascii: "+") || current == UInt8(ascii: "-") { position += 1 }
      guard digits() > 0 else { throw failure("a digit should come here") }
    }
    guard position - start <= Self.maximumDigits else {
      throw failure("a number has more than \(Self.maximumDigits) characters")
    }
    let text = String(decoding: bytes[start..<position], as: UTF8.self)
    if isInteger, let integer = Int64(text) { return .integer(integer) }
    guard let number = Double(text) else { throw failure("this is no number of JSON") }
    return .number(number)
  }

  // MARK: Strings

  private mutating func string() throws -> String {
    position += 1
    let start = position
    while let byte = current, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\"), byte >= 0x20 { position += 1 }
    if current == UInt8(ascii: "\"") {
      defer { position += 1 }
      return try text(bytes[start..<position])
    }
    var unescaped = Array(bytes[start..<position])
    while let byte = current {
      switch byte {
      case UInt8(ascii: "\""):
        defer { position += 1 }
        return try unescaped.withUnsafeBufferPointer { try text($0[...]) }
      case UInt8(ascii: "\\"):
        position += 1
        try escape(into: &unescaped)
      case 0..<0x20: throw failure("a control character in a string must be escaped")
      default:
        unescaped.append(byte)
        position += 1
      }
    }
    throw failure("a string does not end")
  }

  private func text(_ slice: Slice<UnsafeBufferPointer<UInt8>>) throws -> String {
    guard let text = String(validating: slice, as: UTF8.self) else {
      throw failure("a string that ends here is not valid UTF-8")
    }
    return text
  }

  private mutating func escape(into out: inout [UInt8]) throws {
    guard let byte = current else { throw failure("a string does not end") }
    position += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): out.append(byte)
    case UInt8(ascii: "b"): out.append(0x08)
    case UInt8(ascii: "f"): out.append(0x0C)
    case UInt8(ascii: "n"): out.append(0x0A)
    case UInt8(ascii: "r"): out.append(0x0D)
    case UInt8(ascii: "t"): out.append(0x09)
    case UInt8(ascii: "u"):
      var code = try hexadecimal()
      if (0xD800..<0xDC00).contains(code), current == UInt8(ascii: "\\") {
        position += 1
        guard current == UInt8(ascii: "u") else { throw failure("half of a surrogate pair stands alone") }
        position += 1
        let low = try hexadecimal()
        guard (0xDC00..<0xE000).contains(low) else { throw failure("half of a surrogate pair stands alone") }
        code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
      }
      guard let scalar = Unicode.Scalar(code) else { throw failure("half of a surrogate pair stands alone") }
      out.append(contentsOf: UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter)
    default: throw failure("this escape is not JSON's")
    }
  }

  private mutating func hexadecimal() throws -> UInt32 {
    var code: UInt32 = 0
    for _ in 0..<4 {
      guard let byte = current, let digit = Character(Unicode.Scalar(byte)).hexDigitValue else {
        throw failure("four hexadecimal digits should follow `\\u`")
      }
      code = code << 4 | UInt32(digit)
      position += 1
    }
    return code
  }
}

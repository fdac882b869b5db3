/// Writes JSON in the order of the calls. Numbers that JSON cannot carry become null.
struct JSONWriter {
  private(set) var bytes: [UInt8] = []
  private var needsComma = false

  /// The text of one object.
  static func object(_ body: (inout JSONWriter) throws -> Void) rethrows -> [UInt8] {
    var writer = JSONWriter()
    try writer.object(body)
    return writer.bytes
  }

  private mutating func begin() {
    if needsComma { bytes.append(UInt8(ascii: ",")) }
    needsComma = false
  }

  private mutating func literal(_ text: some StringProtocol) {
    begin()
    bytes.append(contentsOf: text.utf8)
    needsComma = true
  }

  // MARK: Containers

  mutating func object(_ body: (inout JSONWriter) throws -> Void) rethrows {
    try container("{", "}", body)
  }

  mutating func array(_ body: (inout JSONWriter) throws -> Void) rethrows {
    try container("[", "]", body)
  }

  mutating func array<Element>(_ elements: some Sequence<Element>, _ body: (inout JSONWriter, Element) throws -> Void)
    rethrows
  {
    try array { writer in for element in elements { try body(&writer, element) } }
  }

  private mutating func container(
    _ open: Unicode.Scalar, _ close: Unicode.Scalar, _ body: (inout JSONWriter) throws -> Void
  ) rethrows {
    begin()
    bytes.append(UInt8(ascii: open))
    try body(&self)
    bytes.append(UInt8(ascii: close))
    needsComma = true
  }

  /// A member's key; its value must follow.
  mutating func key(_ name: String) {
    begin()
    quoted(name)
    bytes.append(UInt8(ascii: ":"))
  }

  // MARK: Values

  mutating func null() { literal("null") }
  mutating func value(_ value: Bool) { literal(value ? "true" : "false") }
  mutating func value(_ value: some FixedWidthInteger) { literal(String(value)) }
  /// Swift's shortest form that reads back as the same number.
  mutating func value(_ value: Float) { value.isFinite ? literal("\(value)") : null() }
  mutating func value(_ value: Double) { value.isFinite ? literal("\(value)") : null() }

  mutating func value(_ value: String?) {
    guard let value else { return null() }
    begin()
    quoted(value)
    needsComma = true
  }

  mutating func value(_ value: Float?) {
    if let value { self.value(value) } else { null() }
  }

  /// JSON text as it is.
  mutating func raw(_ text: some Sequence<UInt8>) {
    begin()
    bytes.append(contentsOf: text)
    needsComma = true
  }

  private mutating func quoted(_ text: String) {
    bytes.append(UInt8(ascii: "\""))
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "\""): bytes.append(contentsOf: #"\""#.utf8)
      case UInt8(ascii: "\\"): bytes.append(contentsOf: #"\\"#.utf8)
      case 0x0A: bytes.append(contentsOf: #"\n"#.utf8)
      case 0x0D: bytes.append(contentsOf: #"\r"#.utf8)
      case 0x09: bytes.append(contentsOf: #"\t"#.utf8)
      case 0..<0x20, 0x7F:
        bytes.append(contentsOf: (byte < 0x10 ? #"\u000"# : #"\u00"#).utf8)
        bytes.append(contentsOf: String(byte, radix: 16).utf8)
      default: bytes.append(byte)
      }
    }
    bytes.append(UInt8(ascii: "\""))
  }
}

extension JSONWriter {
  mutating func field(_ name: String, _ value: String?) {
    key(name)
    self.value(value)
  }
  mutating func field(_ name: String, _ value: Bool) {
    key(name)
    self.value(value)
  }
  mutating func field(_ name: String, _ value: some FixedWidthInteger) {
    key(name)
    self.value(value)
  }
  mutating func field(_ name: String, _ value: Float?) {
    key(name)
    self.value(value)
  }
  mutating func field(_ name: String, _ value: Double) {
    key(name)
    self.value(value)
  }
  mutating func field(null name: String) {
    key(name)
    null()
  }
  mutating func object(_ name: String, _ body: (inout JSONWriter) throws -> Void) rethrows {
    key(name)
    try object(body)
  }
  mutating func array<Element>(
    _ name: String, _ elements: some Sequence<Element>, _ body: (inout JSONWriter, Element) throws -> Void
  ) rethrows {
    key(name)
    try array(elements, body)
  }
}

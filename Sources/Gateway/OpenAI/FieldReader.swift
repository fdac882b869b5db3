internal import Core

/// Reads the members of one object and says of each that is wrong where it is and what it should be. Null is absent;
/// unknown members are nobody's business.
struct FieldReader {
  let object: JSONObject
  /// Before a member's name: "" or `messages[2].`.
  let prefix: String

  init(_ object: JSONObject, prefix: String = "") {
    self.object = object
    self.prefix = prefix
  }

  func path(_ name: String) -> String { prefix + name }

  /// The member's value; nil if it is absent or null.
  subscript(name: String) -> JSONValue? {
    guard let value = object[name], value != .null else { return nil }
    return value
  }

  func mismatch(_ name: String, _ value: JSONValue, _ expected: String) -> GatewayError {
    .invalid(path(name), "\(path(name)) must be \(expected), not \(value.kind)")
  }

  func string(_ name: String) throws -> String? {
    guard let value = self[name] else { return nil }
    guard case .string(let text) = value else { throw mismatch(name, value, "a string") }
    return text
  }

  func bool(_ name: String) throws -> Bool? {
    guard let value = self[name] else { return nil }
    guard case .bool(let bool) = value else { throw mismatch(name, value, "a boolean") }
    return bool
  }

  func integer(_ name: String, in range: ClosedRange<Int64>) throws -> Int64? {
    guard let value = self[name] else { return nil }
    return try Self.integer(value, path: path(name), in: range)
  }

  func integer(_ name: String, in range: ClosedRange<Int>) throws -> Int? {
    try integer(name, in: Int64(range.lowerBound)...Int64(range.upperBound)).map(Int.init)
  }

  /// A whole number; `16.0` is one.
  static func integer(_ value: JSONValue, path: String, in range: ClosedRange<Int64>) throws -> Int64 {
    let integer: Int64
    switch value {
    case .integer(let exact): integer = exact
    case .number(let number):
      guard let exact = Int64(exactly: number) else {
        // Also numbers that are whole but beyond Int64: they are beyond every range, too.
        let isWhole = number.rounded() == number
        throw isWhole
          ? outside(path, "\(number)", range, isAbove: number > 0)
          : GatewayError.invalid(path, "\(path) must be a whole number")
      }
      integer = exact
    default: throw GatewayError.invalid(path, "\(path) must be a whole number, not \(value.kind)")
    }
    guard range.contains(integer) else { throw outside(path, "\(integer)", range) }
    return integer
  }

  /// - Parameter isAbove: whether it is more than any Int64.
  private static func outside(
    _ path: String, _ value: String, _ range: ClosedRange<Int64>, isAbove: Bool = false
  ) -> GatewayError {
    let allowed =
      range.upperBound == .max && !isAbove
      ? "\(range.lowerBound) or more" : "from \(range.lowerBound) to \(range.upperBound)"
    return .invalid(path, "\(path) is \(value): it must be \(allowed)")
  }

  func number(_ name: String, in range: ClosedRange<Float>) throws -> Float? {
    guard let value = self[name] else { return nil }
    let number = try Self.number(value, path: path(name))
    guard number >= Double(range.lowerBound), number <= Double(range.upperBound) else {
      throw GatewayError.invalid(
        path(name), "\(path(name)) is \(number): it must be from \(range.lowerBound) to \(range.upperBound)")
    }
    return Float(number)
  }

  static func number(_ value: JSONValue, path: String) throws -> Double {
    switch value {
    case .integer(let integer): return Double(integer)
    case .number(let number): return number
    default: throw GatewayError.invalid(path, "\(path) must be a number, not \(value.kind)")
    }
  }

  func object(_ name: String) throws -> FieldReader? {
    guard let value = self[name] else { return nil }
    guard case .object(let object) = value else { throw mismatch(name, value, "an object") }
    return FieldReader(object, prefix: path(name) + ".")
  }

  func array(_ name: String) throws -> [JSONValue]? {
    guard let value = self[name] else { return nil }
    guard case .array(let elements) = value else { throw mismatch(name, value, "an array") }
    return elements
  }

  /// One of the raw values of `type`.
  func choice<Choice: RawRepresentable & CaseIterable>(_ name: String, of type: Choice.Type) throws -> Choice?
  where Choice.RawValue == String {
    guard let text = try string(name) else { return nil }
    guard let choice = Choice(rawValue: text) else {
      let known = Choice.allCases.map { "\"\($0.rawValue)\"" }.joined(separator: ", ")
      throw GatewayError.invalid(path(name), "\(path(name)) is \"\(text.clipped)\": it must be one of \(known)")
    }
    return choice
  }

  /// Refuses a member that asks for what this server cannot do.
  func refuse(_ name: String, unless isHarmless: (JSONValue) -> Bool = { _ in false }, _ reason: String) throws {
    guard let value = self[name], !isHarmless(value) else { return }
    throw GatewayError.invalid(path(name), "\(path(name)) is not supported: \(reason)", code: "unsupported_parameter")
  }
}

extension String {
  /// At most 64 characters, for messages that repeat what a client sent.
  var clipped: String { count > 64 ? prefix(64) + "…" : self }
}

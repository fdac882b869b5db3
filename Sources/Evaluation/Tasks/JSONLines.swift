public import Core

/// JSON Lines: an object a line.
public enum JSONLines {
  /// Lines that hold more than white space, with their numbers from 1.
  public static func lines(of text: some StringProtocol) -> [(number: Int, line: String)] {
    text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).enumerated().compactMap {
      index, bytes in
      guard bytes.contains(where: { ![0x20, 0x09, 0x0D].contains($0) }) else { return nil }
      return (index + 1, String(decoding: bytes, as: UTF8.self))
    }
  }

  /// Objects one a line, or the elements of one array, each with its place for messages and its text. Throws `.badInput` that
  /// names the place and the fault.
  static func records(
    of text: some StringProtocol, source: String
  ) throws -> [(place: String, number: Int, text: String, object: JSONObject)] {
    let first = text.utf8.first { ![0x20, 0x09, 0x0A, 0x0D].contains($0) }
    guard first == UInt8(ascii: "[") else {
      return try lines(of: text).map { number, line in
        let place = "\(source):\(number)"
        return (place, number, line, try object(line, source: place))
      }
    }
    guard case .array(let elements) = try value(Array(text.utf8), source: source) else { return [] }
    return try elements.enumerated().map { index, element in
      let place = "\(source), record \(index + 1)"
      return (place, index + 1, element.text, try object(element, source: place))
    }
  }

  /// The object on a line. Throws `.badInput` that names `source` and the fault.
  public static func object(_ line: String, source: String) throws -> JSONObject {
    guard line.utf8.count <= EvaluationTask.maximumLineBytes else {
      throw FusionRouteError.badInput("\(source): the line is longer than \(EvaluationTask.maximumLineBytes) bytes")
    }
    return try object(try value(Array(line.utf8), source: source), source: source)
  }

  private static func value(_ bytes: [UInt8], source: String) throws -> JSONValue {
    do { return try JSONParser.parse(bytes) } catch let failure as JSONParser.Failure {
      throw FusionRouteError.badInput("\(source): this is no JSON: \(failure.message) (byte \(failure.offset + 1))")
    }
  }

  private static func object(_ value: JSONValue, source: String) throws -> JSONObject {
    guard case .object(let object) = value else {
      throw FusionRouteError.badInput("\(source): a line must be an object, not \(value.kind)")
    }
    return object
  }
}

extension JSONValue {
  /// A number, whole or not; nil for anything else and for what a Double cannot hold.
  public var double: Double? {
    switch self {
    case .integer(let value): Double(value)
    case .number(let value) where value.isFinite: value
    default: nil
    }
  }

  /// An object of these members, in this order.
  public static func members(_ members: [(String, JSONValue)]) -> JSONValue {
    .object(JSONObject(members: members.map { (key: $0.0, value: $0.1) }))
  }

  /// A number that JSON can hold: one that is not finite becomes null.
  public static func finite(_ value: Double?) -> JSONValue {
    guard let value, value.isFinite else { return .null }
    return .number(value)
  }
}

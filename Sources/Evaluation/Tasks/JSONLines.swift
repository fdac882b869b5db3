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

  /// The object on a line. Throws `.badInput` that names `source` and the fault.
  public static func object(_ line: String, source: String) throws -> JSONObject {
    guard line.utf8.count <= EvaluationTask.maximumLineBytes else {
      throw FusionRouteError.badInput("\(source): the line is longer than \(EvaluationTask.maximumLineBytes) bytes")
    }
    let value: JSONValue
    do { value = try JSONParser.parse(Array(line.utf8)) } catch let failure as JSONParser.Failure {
      throw FusionRouteError.badInput("\(source): this is no JSON: \(failure.message) (byte \(failure.offset + 1))")
    }
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

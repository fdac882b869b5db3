/// A JSON value as a request carries it. Integers stay exact, which a `Double` would not keep for seeds.
public enum JSONValue: Sendable, Equatable {
  case null
  case bool(Bool)
  case integer(Int64)
  /// Any other number; one beyond a `Double`'s range is infinite, so that its reader can refuse it by name.
  case number(Double)
  case string(String)
  case array([JSONValue])
  case object(JSONObject)

  /// What a message calls a value of this kind.
  public var kind: String {
    switch self {
    case .null: "null"
    case .bool: "a boolean"
    case .integer, .number: "a number"
    case .string: "a string"
    case .array: "an array"
    case .object: "an object"
    }
  }
}

/// Members in the order of the text. Keys are the same if their code points are. Of a repeated key the last one counts.
public struct JSONObject: Sendable, Equatable {
  /// Objects with more members look keys up in a table.
  private static let linearMembers = 12

  public let members: [(key: String, value: JSONValue)]
  /// Where the object stands in the bytes that were parsed.
  public let range: Range<Int>
  private let positions: [ExactText: Int]?

  public init(members: [(key: String, value: JSONValue)], range: Range<Int> = 0..<0) {
    self.members = members
    self.range = range
    guard members.count > Self.linearMembers else {
      positions = nil
      return
    }
    positions = Dictionary(members.enumerated().map { (ExactText($1.key), $0) }) { $1 }
  }

  public subscript(key: String) -> JSONValue? {
    let key = ExactText(key)
    if let positions { return positions[key].map { members[$0].value } }
    return members.last { ExactText($0.key) == key }?.value
  }

  public static func == (a: Self, b: Self) -> Bool {
    a.members.count == b.members.count
      && zip(a.members, b.members).allSatisfy { ExactText($0.key) == ExactText($1.key) && $0.value == $1.value }
  }
}

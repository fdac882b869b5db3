/// JSON in the order in which it is written down, which `JSONEncoder` does not keep.
indirect enum JSONText {
  case null
  case bool(Bool)
  case integer(Int)
  /// Not finite: null.
  case float(Float)
  case number(Double)
  case text(String)
  case array([JSONText])
  case object([(String, JSONText)])

  var rendered: String {
    switch self {
    case .null: "null"
    case .bool(let value): value ? "true" : "false"
    case .integer(let value): String(value)
    // Swift's shortest form that reads back as the same Float.
    case .float(let value): value.isFinite ? "\(value)" : "null"
    case .number(let value): value.isFinite ? "\(value)" : "null"
    case .text(let value): Self.string(value)
    case .array(let values): "[" + values.map(\.rendered).joined(separator: ",") + "]"
    case .object(let members):
      "{" + members.map { "\(Self.string($0.0)):\($0.1.rendered)" }.joined(separator: ",") + "}"
    }
  }

  var utf8: [UInt8] { Array(rendered.utf8) }

  /// A quoted JSON string.
  static func string(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\r": result += "\\r"
      case "\t": result += "\\t"
      // Line separators end a line for some readers of line-wise JSON.
      case _
      where scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value) || scalar.value == 0x2028
        || scalar.value == 0x2029:
        let digits = String(scalar.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }
}

internal import Core

extension SchemaReader {
  // MARK: Objects

  mutating func object(_ schema: JSONObject, at path: String) throws -> SchemaGraph.Shape {
    let properties = try properties(of: schema, at: path)
    guard properties.isEmpty else {
      switch schema["additionalProperties"] {
      case nil, .bool(true)?: return .object(properties, isClosed: false)
      case .bool(false)?: return .object(properties, isClosed: true)
      case .object(let object)? where object.members.isEmpty: return .object(properties, isClosed: false)
      default:
        throw SchemaError.keyword(
          "additionalProperties", at: path, "cannot be a schema beside \"properties\"; use false")
      }
    }
    switch schema["additionalProperties"] {
    case nil, .bool(true)?: return .anyObject
    case .bool(false)?: return .object([], isClosed: true)
    case let value?: return .map(try number(of: value, at: Self.path(path, "additionalProperties")))
    }
  }

  private mutating func properties(of schema: JSONObject, at path: String) throws -> [SchemaGraph.Property] {
    var members: [(key: String, value: JSONValue)] = []
    if let value = schema["properties"] {
      guard case .object(let object) = value else {
        throw SchemaError.keyword("properties", at: path, "must be an object of schemas")
      }
      members = object.members
    }
    let required = try required(of: schema, at: path)
    let wanted = Set(required)
    guard members.count <= GrammarLimits.properties else {
      throw SchemaError.keyword("properties", at: path, "has more than \(GrammarLimits.properties) members")
    }
    var names: Set<ExactText> = []
    let below = Self.path(path, "properties")
    let properties = try members.map { name, value in
      guard names.insert(ExactText(name)).inserted else {
        throw SchemaError.keyword("properties", at: path, "names \"\(SchemaError.clipped(name))\" twice")
      }
      guard name.utf8.count <= GrammarLimits.nameBytes else {
        throw SchemaError.keyword(
          "properties", at: path,
          "has a name of \(name.utf8.count) bytes; at most \(GrammarLimits.nameBytes) can be used")
      }
      return SchemaGraph.Property(
        name: name, schema: try number(of: value, at: Self.path(below, name)),
        isRequired: wanted.contains(ExactText(name)))
    }
    // The converter's own mark for properties of any name, of which it lets any number come.
    guard !properties.contains(where: { $0.name == "*" && !$0.isRequired }) else {
      throw SchemaError.keyword("properties", at: path, "names \"*\", which a grammar can only have if it is required")
    }
    if let absent = required.first(where: { !names.contains($0) }) {
      throw SchemaError.keyword(
        "required", at: path, "names \"\(SchemaError.clipped(absent.text))\", which \"properties\" does not have")
    }
    guard properties.count(where: { !$0.isRequired }) <= GrammarLimits.optionalProperties else {
      throw SchemaError.keyword(
        "required", at: path, "leaves out more than \(GrammarLimits.optionalProperties) of the properties")
    }
    return properties
  }

  private func required(of schema: JSONObject, at path: String) throws -> [ExactText] {
    guard let value = schema["required"] else { return [] }
    guard case .array(let list) = value else {
      throw SchemaError.keyword("required", at: path, "must be a list of property names")
    }
    return try list.map {
      guard case .string(let name) = $0 else {
        throw SchemaError.keyword("required", at: path, "must be a list of property names")
      }
      return ExactText(name)
    }
  }

  // MARK: Arrays

  mutating func array(_ schema: JSONObject, at path: String) throws -> SchemaGraph.Shape {
    switch schema["uniqueItems"] {
    case nil, .bool(false)?: break
    default: throw SchemaError.keyword("uniqueItems", at: path, "cannot be enforced while decoding; leave it out")
    }
    if schema["prefixItems"] != nil { return try tuple(schema, at: path) }
    let (least, most) = try counts("minItems", "maxItems", of: schema, limit: GrammarLimits.items, at: path)
    if case .array? = schema["items"] {
      throw SchemaError.keyword("items", at: path, "is a list; write \"prefixItems\" for elements of different schemas")
    }
    let item = try number(of: schema["items"] ?? .bool(true), at: Self.path(path, "items"))
    return .array(item, least: least, most: most)
  }

  /// All of the elements come, and no others.
  private mutating func tuple(_ schema: JSONObject, at path: String) throws -> SchemaGraph.Shape {
    guard case .array(let list)? = schema["prefixItems"], !list.isEmpty, list.count <= GrammarLimits.items else {
      throw SchemaError.keyword(
        "prefixItems", at: path, "must be a list of schemas, at least one and at most \(GrammarLimits.items)")
    }
    switch schema["items"] {
    case nil, .bool?: break
    default: throw SchemaError.keyword("items", at: path, "cannot be a schema beside \"prefixItems\"; use false")
    }
    let least = try count("minItems", of: schema, limit: .max, at: path) ?? 0
    let most = try count("maxItems", of: schema, limit: .max, at: path) ?? .max
    guard least <= list.count else {
      throw SchemaError.keyword("minItems", at: path, "asks for more elements than \"prefixItems\" has")
    }
    guard most >= list.count else {
      throw SchemaError.keyword("maxItems", at: path, "allows fewer elements than \"prefixItems\" has")
    }
    let below = Self.path(path, "prefixItems")
    return .tuple(try list.enumerated().map { try number(of: $1, at: Self.path(below, String($0))) })
  }

  // MARK: Strings

  mutating func string(_ schema: JSONObject, at path: String) throws -> SchemaGraph.Shape {
    let content = ["pattern", "format"].filter { schema[$0] != nil }
    guard let keyword = content.first else {
      let (least, most) = try counts("minLength", "maxLength", of: schema, limit: GrammarLimits.characters, at: path)
      return .string(least: least, most: most)
    }
    if let other = Self.stringKeywords.first(where: { $0 != keyword && schema[$0] != nil }) {
      throw SchemaError.keyword(
        other, at: path, "stands beside \"\(keyword)\", and a grammar cannot hold an answer to both")
    }
    guard case .string(let text)? = schema[keyword] else {
      throw SchemaError.keyword(keyword, at: path, "must be a string")
    }
    if keyword == "pattern" { return try pattern(text, keyword: keyword, at: path) }
    guard let format = StringFormat(rawValue: text) else {
      let known = StringFormat.allCases.map(\.rawValue).joined(separator: ", ")
      throw SchemaError.keyword(
        keyword, at: path, "is \"\(SchemaError.clipped(text))\": these can be enforced: \(known)")
    }
    return try pattern(format.pattern, keyword: keyword, at: path)
  }

  private mutating func pattern(_ pattern: String, keyword: String, at path: String) throws -> SchemaGraph.Shape {
    guard pattern.utf8.count <= GrammarLimits.patternBytes else {
      throw SchemaError.keyword(
        keyword, at: path, "has \(pattern.utf8.count) bytes; at most \(GrammarLimits.patternBytes) can be used")
    }
    do {
      return .language(try Automaton(try PatternParser.parse(pattern), steps: &patternSteps), .quoted)
    } catch let failure as PatternParser.Failure {
      throw SchemaError.keyword(keyword, at: path, "cannot be used: \(failure.reason)")
    } catch Automaton.Failure.empty {
      throw SchemaError.keyword(keyword, at: path, "matches no text")
    } catch {
      throw SchemaError.keyword(keyword, at: path, "makes the grammar too large: use fewer or smaller repetitions")
    }
  }

  // MARK: Numbers

  mutating func number(_ schema: JSONObject, isInteger: Bool, at path: String) throws -> SchemaGraph.Shape {
    guard let keyword = Self.numberKeywords.first(where: { schema[$0] != nil }) else {
      let pattern =
        isInteger ? #"^-?(?:0|[1-9]\d{0,14})$"# : #"^-?(?:0|[1-9]\d{0,14})(?:\.\d{1,15})?(?:[eE][+-]?\d{1,2})?$"#
      return .language(try Automaton(try PatternParser.parse(pattern), steps: &patternSteps), .plain)
    }
    let fraction = isInteger ? 0 : GrammarLimits.fractionDigits
    let largest = NumberRange.largest(fraction: fraction)
    var least = -largest
    var most = largest
    for keyword in Self.numberKeywords {
      guard let value = schema[keyword] else { continue }
      guard let bound = Self.scaled(value, fraction: fraction) else {
        throw SchemaError.keyword(keyword, at: path, "must be a number")
      }
      switch keyword {
      case "minimum": least = max(least, bound.up)
      case "maximum": most = min(most, bound.down)
      case "exclusiveMinimum": least = max(least, bound.down + 1)
      default: most = min(most, bound.up - 1)
      }
    }
    guard let regex = NumberRange(fraction: fraction, least: least, most: most).regex else {
      throw SchemaError.keyword(
        keyword, at: path,
        "leaves no \(isInteger ? "integer" : "number") of at most \(GrammarLimits.integerDigits) digits")
    }
    return .language(try Automaton(regex, steps: &patternSteps), .plain)
  }

  /// value·10^fraction, rounded either way; bounds far outside of what is written are cut to just outside.
  private static func scaled(_ value: JSONValue, fraction: Int) -> (down: Int128, up: Int128)? {
    let power = NumberRange.power(fraction)
    let limit = NumberRange.largest(fraction: fraction) + 1
    switch value {
    case .integer(let integer):
      let exact = max(-limit, min(limit, Int128(integer) * power))
      return (exact, exact)
    case .number(let number) where !number.isNaN:
      guard abs(number) < Double(limit) / Double(power) else {
        return number < 0 ? (-limit, -limit) : (limit, limit)
      }
      return decimal(number, fraction: fraction)
    default: return nil
    }
  }

  /// The shortest decimal that reads back as `number`, which is what its author wrote.
  private static func decimal(_ number: Double, fraction: Int) -> (down: Int128, up: Int128)? {
    let parts = "\(abs(number))".split(separator: "e")
    let digits = parts[0].split(separator: ".")
    let exponent = parts.count > 1 ? Int(parts[1]) ?? 0 : 0
    guard var mantissa = Int128(digits.joined()) else { return nil }
    var shift = exponent - digits.dropFirst().joined().count + fraction
    var isExact = true
    while shift > 0, mantissa != 0 { (mantissa, shift) = (mantissa * 10, shift - 1) }
    while shift < 0, mantissa != 0 {
      isExact = isExact && mantissa % 10 == 0
      (mantissa, shift) = (mantissa / 10, shift + 1)
    }
    // A tiny number whose digits are all cut off still lies above zero.
    if number != 0, mantissa == 0 { isExact = false }
    let above = mantissa + (isExact ? 0 : 1)
    return number < 0 ? (-above, -mantissa) : (mantissa, above)
  }

  // MARK: Constants

  mutating func literals(of schema: JSONObject, types: [String]?, at path: String) throws -> SchemaGraph.Shape {
    let keyword = schema["const"] != nil ? "const" : "enum"
    let others = Self.objectKeywords + Self.arrayKeywords + Self.stringKeywords + Self.numberKeywords + ["enum"]
    if let other = others.first(where: { $0 != keyword && schema[$0] != nil }) {
      throw SchemaError.keyword(
        other, at: path, "stands beside \"\(keyword)\", and a grammar cannot hold an answer to both")
    }
    var values: [JSONValue] = []
    if keyword == "const" {
      values = [schema["const"] ?? .null]
    } else {
      guard case .array(let list)? = schema["enum"], !list.isEmpty else {
        throw SchemaError.keyword("enum", at: path, "must be a list of values, at least one")
      }
      values = list
    }
    guard values.count <= GrammarLimits.literals else {
      throw SchemaError.keyword(keyword, at: path, "has more than \(GrammarLimits.literals) values")
    }
    if let types { values = values.filter { value in types.contains { Self.isType($0, of: value) } } }
    guard !values.isEmpty else { throw SchemaError.keyword(keyword, at: path, "has no value of the schema's type") }
    for value in values where !value.canBeWrittenExactly {
      throw SchemaError.keyword(keyword, at: path, "has a number that not every reader of JSON gets exactly")
    }
    return .literals(values)
  }

  private static func isType(_ type: String, of value: JSONValue) -> Bool {
    switch (value, type) {
    case (.null, "null"), (.bool, "boolean"), (.object, "object"), (.array, "array"), (.string, "string"): true
    case (.integer, "integer"), (.integer, "number"), (.number, "number"): true
    case (.number(let number), "integer"): number.rounded() == number
    default: false
    }
  }
}

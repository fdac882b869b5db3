internal import Core

/// Reads a JSON schema into a graph, and refuses by name every keyword that a grammar could not hold an answer to:
/// llama.cpp's converter silently ignores those, and answers would not validate.
///
/// The graph may describe fewer values than the schema, never others: keys come in the schema's order, `properties`
/// without `additionalProperties: false` gets no others, numbers have bounded digits.
struct SchemaReader {
  /// Say nothing about which values are valid.
  private static let annotations: Set<String> = [
    "title", "description", "default", "examples", "example", "$schema", "$id", "$comment", "deprecated",
    "readOnly", "writeOnly", "$defs", "definitions",
  ]
  /// Each decides alone what its schema means.
  private static let combiners = ["$ref", "anyOf", "oneOf", "allOf"]
  static let objectKeywords = ["properties", "required", "additionalProperties"]
  static let arrayKeywords = ["items", "prefixItems", "minItems", "maxItems", "uniqueItems"]
  static let stringKeywords = ["pattern", "format", "minLength", "maxLength"]
  static let numberKeywords = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]
  private static let known = annotations.union(
    combiners + ["type", "const", "enum"] + objectKeywords + arrayKeywords + stringKeywords + numberKeywords)

  private let root: JSONValue
  var graph = SchemaGraph()
  /// Schemas by the JSON pointer that leads to them.
  private var numbers: [ExactText: SchemaGraph.ID] = [:]
  private var pending: [(id: SchemaGraph.ID, schema: JSONValue, path: String)] = []
  private var repetitions = 0
  var patternSteps = GrammarLimits.patternSteps

  /// - Throws: `badInput` naming the keyword and where it is.
  static func read(_ text: [UInt8]) throws -> SchemaGraph {
    guard text.count <= GrammarLimits.schemaBytes else {
      throw FusionRouteError.badInput(
        "the schema has \(text.count) bytes; at most \(GrammarLimits.schemaBytes) can become a grammar")
    }
    let root: JSONValue
    do { root = try JSONParser.parse(text) } catch let failure as JSONParser.Failure {
      throw FusionRouteError.badInput("the schema is not valid JSON at byte \(failure.offset): \(failure.message)")
    }
    var reader = SchemaReader(root: root)
    try reader.readAll()
    try SchemaAnalysis.check(reader.graph)
    return reader.graph
  }

  private init(root: JSONValue) { self.root = root }

  /// Schemas wait in a list instead of on the stack, however they refer to each other.
  private mutating func readAll() throws {
    _ = try number(of: root, at: "#")
    while let next = pending.popLast() {
      graph.set(next.id, try shape(of: next.schema, at: next.path))
    }
  }

  /// The number of a schema inside this one.
  mutating func number(of schema: JSONValue, at path: String) throws -> SchemaGraph.ID {
    if let known = numbers[ExactText(path)] { return known }
    let id = try graph.reserve(path)
    numbers[ExactText(path)] = id
    pending.append((id, schema, path))
    return id
  }

  /// Escaped by bytes: a name may make one Character of a "/" and what stands before it.
  static func path(_ path: String, _ step: String) -> String {
    var bytes = Array(path.utf8) + [UInt8(ascii: "/")]
    for byte in step.utf8 {
      switch byte {
      case UInt8(ascii: "~"): bytes += "~0".utf8
      case UInt8(ascii: "/"): bytes += "~1".utf8
      default: bytes.append(byte)
      }
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  // MARK: One schema

  private mutating func shape(of schema: JSONValue, at path: String) throws -> SchemaGraph.Shape {
    switch schema {
    case .bool(true): return .any
    case .bool(false): throw SchemaError.schema(at: path, "is false, which no value satisfies")
    case .object(let object): return try shape(of: object, at: path)
    default: throw SchemaError.schema(at: path, "is \(schema.kind): a schema must be an object")
    }
  }

  private mutating func shape(of schema: JSONObject, at path: String) throws -> SchemaGraph.Shape {
    try Self.checkKeywords(of: schema, at: path)
    if let combiner = Self.combiners.first(where: { schema[$0] != nil }) {
      if let other = schema.members.first(where: { $0.key != combiner && !Self.annotates($0.key) }) {
        throw SchemaError.keyword(
          other.key, at: path, "stands beside \"\(combiner)\", and a grammar cannot hold an answer to both")
      }
      return try combined(schema, by: combiner, at: path)
    }
    let types = try types(of: schema, at: path)
    if schema["const"] != nil || schema["enum"] != nil { return try literals(of: schema, types: types, at: path) }
    guard let types else { return .any }
    if types.count == 1 { return try shape(of: schema, type: types[0], at: path) }
    return .alternatives(
      try types.map { type in
        let id = try graph.reserve(path)
        graph.set(id, try shape(of: schema, type: type, at: path))
        return id
      })
  }

  private static func annotates(_ keyword: String) -> Bool { annotations.contains(keyword) || keyword.hasPrefix("x-") }

  private static func checkKeywords(of schema: JSONObject, at path: String) throws {
    var seen: Set<ExactText> = []
    for keyword in schema.members.map(\.key) {
      guard seen.insert(ExactText(keyword)).inserted else {
        throw SchemaError.keyword(keyword, at: path, "is there twice")
      }
      guard known.contains(keyword) || annotates(keyword) else {
        throw SchemaError.keyword(keyword, at: path, "cannot be enforced while decoding; leave it out")
      }
      // A nested base address would change what `#/…` refers to.
      if keyword == "$id", path != "#" {
        throw SchemaError.keyword(keyword, at: path, "is only understood at the top of a schema; leave it out")
      }
    }
  }

  // MARK: References and combinations

  private mutating func combined(
    _ schema: JSONObject, by combiner: String, at path: String
  ) throws -> SchemaGraph.Shape {
    let keywordPath = Self.path(path, combiner)
    guard combiner != "$ref" else { return .alternatives([try target(of: schema, at: path)]) }
    guard case .array(let list)? = schema[combiner], !list.isEmpty else {
      throw SchemaError.keyword(combiner, at: path, "must be a list of schemas, at least one")
    }
    guard list.count <= GrammarLimits.alternatives else {
      throw SchemaError.keyword(combiner, at: path, "has more than \(GrammarLimits.alternatives) schemas")
    }
    if combiner == "allOf", list.count > 1 {
      throw SchemaError.keyword(
        combiner, at: path, "joins several schemas, which a grammar cannot do: write one schema")
    }
    let ids = try list.enumerated().map { try number(of: $1, at: Self.path(keywordPath, String($0))) }
    if combiner == "oneOf", let id = numbers[ExactText(path)] { graph.exclusive.append(id) }
    return .alternatives(ids)
  }

  private mutating func target(of schema: JSONObject, at path: String) throws -> SchemaGraph.ID {
    guard case .string(let reference)? = schema["$ref"] else {
      throw SchemaError.keyword("$ref", at: path, "must be a string")
    }
    guard reference == "#" || reference.utf8.starts(with: "#/".utf8), let steps = Self.steps(reference) else {
      throw SchemaError.keyword(
        "$ref", at: path,
        "is \"\(SchemaError.clipped(reference))\": only references into the same schema, such as \"#/$defs/name\", are followed"
      )
    }
    var value = root
    var found = "#"
    for step in steps {
      switch value {
      case .object(let object) where object[step] != nil: value = object[step] ?? .null
      case .array(let list) where Int(step).map(list.indices.contains) ?? false && String(Int(step) ?? -1) == step:
        value = list[Int(step) ?? 0]
      default:
        throw SchemaError.keyword("$ref", at: path, "is \"\(SchemaError.clipped(reference))\", which does not exist")
      }
      found = Self.path(found, step)
    }
    return try number(of: value, at: found)
  }

  /// The steps of a URI fragment that holds a JSON pointer (RFC 6901).
  private static func steps(_ reference: String) -> [String]? {
    var bytes: [UInt8] = []
    var rest = Array(reference.utf8.dropFirst())[...]
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "%") else {
        bytes.append(byte)
        continue
      }
      guard rest.count >= 2, let decoded = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16)
      else { return nil }
      bytes.append(decoded)
      rest = rest.dropFirst(2)
    }
    guard String(validating: bytes, as: UTF8.self) != nil else { return nil }
    return bytes.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).dropFirst().map(unescaped)
  }

  private static func unescaped(_ step: ArraySlice<UInt8>) -> String {
    var bytes: [UInt8] = []
    var rest = step
    while let byte = rest.popFirst() {
      if byte == UInt8(ascii: "~"), let next = rest.first, next == UInt8(ascii: "0") || next == UInt8(ascii: "1") {
        rest = rest.dropFirst()
        bytes.append(next == UInt8(ascii: "0") ? UInt8(ascii: "~") : UInt8(ascii: "/"))
      } else {
        bytes.append(byte)
      }
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  // MARK: Types

  private static let typeNames = ["null", "boolean", "object", "array", "string", "number", "integer"]

  /// nil: any.
  private func types(of schema: JSONObject, at path: String) throws -> [String]? {
    let names: [JSONValue]
    switch schema["type"] {
    case nil: return try impliedType(of: schema, at: path).map { [$0] }
    case .array(let list)? where !list.isEmpty: names = list
    case let value?: names = [value]
    }
    var types: [String] = []
    for name in names {
      guard case .string(let type) = name, Self.typeNames.contains(type) else {
        throw SchemaError.keyword(
          "type", at: path, "must be one or a list of " + Self.typeNames.map { "\"\($0)\"" }.joined(separator: ", "))
      }
      if !types.contains(type) { types.append(type) }
    }
    // An integer is a number.
    return types.contains("number") ? types.filter { $0 != "integer" } : types
  }

  /// Without a type a keyword binds only values of its own type; those are what the author means.
  private func impliedType(of schema: JSONObject, at path: String) throws -> String? {
    let groups = [
      ("object", Self.objectKeywords), ("array", Self.arrayKeywords), ("string", Self.stringKeywords),
      ("number", Self.numberKeywords),
    ]
    let implied = groups.filter { $0.1.contains { schema[$0] != nil } }
    guard implied.count <= 1 else {
      throw SchemaError.schema(
        at: path, "has keywords of \(implied[0].0) and \(implied[1].0) values but no \"type\"; add one")
    }
    return implied.first?.0
  }

  private mutating func shape(of schema: JSONObject, type: String, at path: String) throws -> SchemaGraph.Shape {
    switch type {
    case "null": .null
    case "boolean": .boolean
    case "object": try object(schema, at: path)
    case "array": try array(schema, at: path)
    case "string": try string(schema, at: path)
    default: try number(schema, isInteger: type == "integer", at: path)
    }
  }

  // MARK: Counts

  /// A count such as `maxLength`; nil if the keyword is absent.
  mutating func count(_ keyword: String, of schema: JSONObject, limit: Int, at path: String) throws -> Int? {
    let value: Int
    switch schema[keyword] {
    case nil: return nil
    case .integer(let integer)? where integer >= 0: value = Int(clamping: integer)
    case .number(let number)? where number >= 0 && number.rounded() == number:
      value = number < 1e15 ? Int(number) : .max
    default: throw SchemaError.keyword(keyword, at: path, "must be an integer that is not negative")
    }
    guard value <= limit else {
      throw SchemaError.keyword(keyword, at: path, "is \(value): a grammar can count to \(limit)")
    }
    return value
  }

  /// The bounds that `minKeyword` and `maxKeyword` give.
  mutating func counts(
    _ minKeyword: String, _ maxKeyword: String, of schema: JSONObject, limit: Int, at path: String
  ) throws -> (least: Int, most: Int?) {
    let least = try count(minKeyword, of: schema, limit: limit, at: path) ?? 0
    let most = try count(maxKeyword, of: schema, limit: limit, at: path)
    if let most, most < least {
      throw SchemaError.keyword(maxKeyword, at: path, "is smaller than \"\(minKeyword)\"")
    }
    repetitions += most ?? least
    guard repetitions <= GrammarLimits.repetitions else {
      throw SchemaError.keyword(
        most == nil ? minKeyword : maxKeyword, at: path,
        "makes the grammar too large: all counts together may be at most \(GrammarLimits.repetitions)")
    }
    return (least, most)
  }
}

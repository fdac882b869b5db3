internal import CLlamaExtras
internal import Core
internal import Foundation

/// Writes a checked schema as a grammar.
///
/// llama.cpp's converter writes objects, arrays and choices, one schema at a time, so that it never recurses: what a
/// schema refers to is there already, as a rule under the name that the converter gives to a reference. Rules for
/// numbers, strings with a form and constants are ours, since the converter's take texts that do not validate (`\ud800`,
/// 29 February of any year, 15 for a minimum of 1005, quotes inside of a pattern's `.`).
struct SchemaWriter {
  private let graph: SchemaGraph
  private var rules: [GrammarRule] = []
  private var schemas: [(name: String, text: String)] = []
  private var states = 0

  /// At most one space wherever JSON has room for white space: models that like to indent would otherwise spend their
  /// tokens on it, some without end.
  private static let space = GrammarRule(name: "space", text: "\" \"?")
  /// Never part of a grammar: the converter looks up what a schema refers to, but then uses our rule.
  private static let placeholder = "unresolved reference"

  /// GBNF with the start symbol `root`.
  ///
  /// - Throws: `badInput` if the grammar would be too large.
  static func grammar(_ graph: SchemaGraph) throws -> String {
    var writer = Self(graph: graph)
    writer.addCommonRules()
    for id in graph.nodes.indices { try writer.add(id) }
    return try writer.converted()
  }

  private init(graph: SchemaGraph) { self.graph = graph }

  private static func ruleName(_ id: SchemaGraph.ID) -> String { "ref-schemas-s\(id)" }

  private static func reference(_ id: SchemaGraph.ID) -> JSONValue {
    object([("$ref", .string("#/schemas/s\(id)"))])
  }

  private static func object(_ members: [(key: String, value: JSONValue)]) -> JSONValue {
    .object(JSONObject(members: members))
  }

  // MARK: Rules

  private mutating func add(_ name: String, _ text: String) { rules.append(GrammarRule(name: name, text: text)) }

  private mutating func addCommonRules() {
    add("root", Self.ruleName(0))
    // As the converter has it, but no half of a surrogate pair.
    let plain = GBNF.characters(TextEncoding.unescaped)
    add(
      "char",
      plain + #" | "\\" (["\\bfnrt] | "u" ([0-9abcefABCEF] [0-9a-fA-F]{3} | [dD] [0-7] [0-9a-fA-F]{2}))"#)
    add("string", #""\"" char* "\"""#)
    addAnyRules()
  }

  /// Any value, with a bound on its depth.
  private mutating func addAnyRules() {
    guard graph.nodes.contains(where: { $0.shape.isAny }) else { return }
    add("fr-number", #""-"? ([0] | [1-9] [0-9]{0,14}) ("." [0-9]{1,15})? ([eE] [-+]? [0-9]{1,2})?"#)
    add("fr-any-0", #"string | fr-number | "true" | "false" | "null""#)
    for depth in 1...GrammarLimits.anyDepth {
      let inner = "fr-any-\(depth - 1)"
      let member = #"string ":" space \#(inner)"#
      add("fr-object-\(depth)", #""{" space (\#(member) ("," space \#(member))*)? space "}""#)
      add(
        "fr-any-\(depth)", #"fr-any-0 | fr-object-\#(depth) | "[" space (\#(inner) ("," space \#(inner))*)? space "]""#)
    }
  }

  private mutating func add(_ id: SchemaGraph.ID) throws {
    let name = Self.ruleName(id)
    switch graph.nodes[id].shape {
    case .any: add(name, "fr-any-\(GrammarLimits.anyDepth)")
    case .anyObject: add(name, "fr-object-\(GrammarLimits.anyDepth)")
    case .string(0, nil): add(name, "string")
    case .string(let least, let most): add(name, #""\"" char{\#(least),\#(most.map(String.init) ?? "")} "\"""#)
    case .language(let automaton, let encoding): try add(automaton, encoding, id)
    case .literals(let values): try add(try Automaton(texts: values.map(\.text)), .plain, id)
    case .null: add(name, #""null""#)
    case .boolean: add(name, #""true" | "false""#)
    case .object(let properties, _): addObject(id, properties)
    case .map(let value):
      addSchema(id, [("type", .string("object")), ("additionalProperties", Self.reference(value))])
    case .array(let item, let least, let most):
      var members = [("type", JSONValue.string("array")), ("items", Self.reference(item))]
      members.append(("minItems", .integer(Int64(least))))
      if let most { members.append(("maxItems", .integer(Int64(most)))) }
      addSchema(id, members)
    case .tuple(let parts):
      addSchema(id, [("type", .string("array")), ("prefixItems", .array(parts.map(Self.reference)))])
    case .alternatives(let list):
      addSchema(id, [("anyOf", .array(list.map(Self.reference)))])
    }
  }

  private mutating func add(_ automaton: Automaton, _ encoding: TextEncoding, _ id: SchemaGraph.ID) throws {
    do {
      let added = try automaton.rules(
        name: Self.ruleName(id), encoding: encoding, limit: GrammarLimits.states - states)
      states += added.count
      rules += added
    } catch {
      throw SchemaError.tooLarge(
        "its patterns, number ranges and constants together need more than \(GrammarLimits.states) rules",
        at: graph.nodes[id].path)
    }
  }

  // MARK: Schemas for the converter

  private mutating func addObject(_ id: SchemaGraph.ID, _ properties: [SchemaGraph.Property]) {
    let members = properties.map { ($0.name, Self.reference($0.schema)) }
    let required = properties.filter(\.isRequired).map { JSONValue.string($0.name) }
    addSchema(
      id,
      [
        ("type", .string("object")), ("properties", Self.object(members)), ("required", .array(required)),
        ("additionalProperties", .bool(false)),
      ])
  }

  /// Under a name of its own; references lead to it through a rule.
  private mutating func addSchema(_ id: SchemaGraph.ID, _ members: [(key: String, value: JSONValue)]) {
    let name = "s\(id)"
    add(Self.ruleName(id), name)
    let referred = Set(graph.parts(id) + graph.alternatives(id)).sorted()
    let targets = referred.map { ("s\($0)", Self.object([("const", .string(Self.placeholder))])) }
    schemas.append((name, Self.object(members + [("schemas", Self.object(targets))]).text))
  }

  private func converted() throws -> String {
    func withCStrings<R>(_ texts: [String], _ body: ([UnsafePointer<CChar>?]) -> R) -> R {
      let copies = texts.map { strdup($0) }
      defer { for copy in copies { free(copy) } }
      return body(copies.map { UnsafePointer($0) })
    }
    let (text, shim) = withCStrings(rules.map(\.name) + schemas.map(\.name)) { names in
      withCStrings(rules.map(\.text) + schemas.map(\.text)) { texts in
        LlamaRuntime.withShimError { error in
          fr_grammar_convert(
            names, texts, rules.count, Array(names[rules.count...]), Array(texts[rules.count...]), schemas.count, error)
        }
      }
    }
    guard let text else {
      throw FusionRouteError.internal("llama.cpp could not convert a checked schema: \(shim ?? "no reason given")")
    }
    defer { fr_free(text) }
    return try finished(String(cString: text))
  }

  /// With our rule for white space.
  private func finished(_ text: String) throws -> String {
    var lines = text.split(separator: "\n").map(String.init)
    let spaces = lines.indices.filter { lines[$0].hasPrefix("space ::= ") }
    // A property of that name stands in a longer rule.
    let unresolved = " ::= " + #""\"\#(Self.placeholder)\"""#
    guard spaces.count == 1, !lines.contains(where: { $0.hasSuffix(unresolved) }) else {
      throw FusionRouteError.internal("llama.cpp's schema conversion names its rules in an unexpected way")
    }
    lines[spaces[0]] = "\(Self.space.name) ::= \(Self.space.text)"
    return lines.joined(separator: "\n") + "\n"
  }
}

extension SchemaGraph.Shape {
  fileprivate var isAny: Bool {
    switch self {
    case .any, .anyObject: true
    default: false
    }
  }
}

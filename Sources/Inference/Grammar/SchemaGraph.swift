internal import Core

/// A JSON schema with every reference followed: schemas are numbered, so that a recursive one is a cycle.
struct SchemaGraph {
  typealias ID = Int

  enum Shape {
    case null
    case boolean
    /// Any value, up to `GrammarLimits.anyDepth`.
    case any
    case anyObject
    case string(least: Int, most: Int?)
    /// Texts that an automaton knows: numbers as they are, strings by their contents.
    case language(Automaton, TextEncoding)
    /// JSON texts of constants.
    case literals([JSONValue])
    /// No other properties than these are written.
    case object([Property], isClosed: Bool)
    /// An object with any keys.
    case map(ID)
    case array(ID, least: Int, most: Int?)
    case tuple([ID])
    case alternatives([ID])
  }

  struct Property {
    var name: String
    var schema: ID
    var isRequired: Bool
  }

  struct Node {
    /// A JSON pointer, for messages.
    var path: String
    var shape: Shape
  }

  private(set) var nodes: [Node] = []
  /// Alternatives of which exactly one may match.
  var exclusive: [ID] = []

  /// A number for the schema at `path`, whose shape is set later.
  mutating func reserve(_ path: String) throws -> ID {
    guard nodes.count < GrammarLimits.schemas else {
      throw SchemaError.tooLarge("it has more than \(GrammarLimits.schemas) schemas inside", at: path)
    }
    nodes.append(Node(path: path, shape: .any))
    return nodes.count - 1
  }

  mutating func set(_ id: ID, _ shape: Shape) { nodes[id].shape = shape }

  /// Schemas that a value of `id` itself may be one of.
  func alternatives(_ id: ID) -> [ID] {
    if case .alternatives(let list) = nodes[id].shape { list } else { [] }
  }

  /// Whether a property or a constant has a character of plane 16.
  var namesPrivateCharacters: Bool {
    func isPrivate(_ text: String) -> Bool { text.unicodeScalars.contains { TextEncoding.planeSixteen ~= $0.value } }
    return nodes.contains { node in
      switch node.shape {
      case .object(let properties, _): properties.contains { isPrivate($0.name) }
      case .literals(let values): values.contains { isPrivate($0.text) }
      default: false
      }
    }
  }

  /// Schemas of parts of a value.
  func parts(_ id: ID) -> [ID] {
    switch nodes[id].shape {
    case .object(let properties, _): properties.map(\.schema)
    case .map(let part), .array(let part, _, _): [part]
    case .tuple(let parts): parts
    default: []
    }
  }
}

/// Sentences that refuse a schema.
enum SchemaError {
  /// Code points of a path or a word from outside that a message repeats: a Character has no largest length.
  private static let shown = 160

  static func clipped(_ text: String) -> String {
    let safe = String(text.map { $0.isNewline || $0.asciiValue.map { $0 < 0x20 } ?? false ? " " : $0 })
    let scalars = safe.unicodeScalars
    return scalars.count > shown ? String(scalars.prefix(shown)) + "…" : safe
  }

  /// The keyword is there, but cannot be followed.
  static func keyword(_ keyword: String, at path: String, _ reason: String) -> FusionRouteError {
    .badInput("the schema's keyword \"\(clipped(keyword))\" at \(clipped(path)) \(reason)")
  }

  static func schema(at path: String, _ reason: String) -> FusionRouteError {
    .badInput("the schema at \(clipped(path)) \(reason)")
  }

  static func tooLarge(_ reason: String, at path: String) -> FusionRouteError {
    .badInput("the schema is too large for a grammar at \(clipped(path)): \(reason)")
  }
}

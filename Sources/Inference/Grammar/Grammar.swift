public import Core
internal import Foundation
internal import Synchronization

/// What an answer must look like, ready for a model's vocabulary. Immutable; shared by any number of answers.
///
/// JSON schemas become grammars of llama.cpp. An answer that follows one to its end is valid for its schema; what a
/// grammar cannot hold it to is refused, by name, when the grammar is made. See <doc:StructuredOutput>.
public final class Grammar: Sendable {
  private let start: GrammarState
  private let isCompleteAtStart: Bool

  init(gbnf: String, hasCanary: Bool, tokens: GrammarTokens) throws {
    start = try GrammarState(gbnf: gbnf, hasCanary: hasCanary, tokens: tokens)
    isCompleteAtStart = try start.isComplete()
  }

  /// Any JSON object, as OpenAI's `response_format: {"type": "json_object"}` asks for.
  public static func json(model: Model) throws -> Grammar {
    try jsonSchema(Array(#"{"type":"object"}"#.utf8), model: model)
  }

  /// The JSON that a schema describes. The same text compiles only once for a model.
  ///
  /// - Parameter text: a JSON schema in UTF-8.
  /// - Throws: `badInput` if the text is no schema, or naming the keyword that cannot be enforced and where it is.
  public static func jsonSchema(_ text: [UInt8], model: Model) throws -> Grammar {
    try model.grammars.grammar(for: text, model: model)
  }

  /// A grammar in llama.cpp's notation with the start symbol `root`; not public, since llama.cpp runs for ever on some.
  static func gbnf(_ text: String, model: Model) throws -> Grammar {
    guard !text.utf8.contains(0) else { throw FusionRouteError.badInput("the grammar contains a NUL character") }
    return try Grammar(gbnf: text, hasCanary: false, tokens: try model.grammars.tokens(of: model))
  }

  /// A constraint at the start of an answer.
  public func makeConstraint() -> GrammarConstraint { GrammarConstraint(start, isComplete: isCompleteAtStart) }
}

/// How far an answer has come in its grammar. Copies share the state until one of them grows.
public struct GrammarConstraint: TokenConstraint {
  private var state: GrammarState
  /// Whether nothing but the end of the text may come next.
  public private(set) var isComplete: Bool

  init(_ state: GrammarState, isComplete: Bool) {
    self.state = state
    self.isComplete = isComplete
  }

  public func allows(_ token: Token) throws -> Bool { try state.allows(token) }

  /// Every token that must not come next, ascending.
  ///
  /// - Throws: `badInput` if no token may come although the answer is not complete: the vocabulary cannot spell it.
  public func forbidden() throws -> [Token] { try state.forbidden(isComplete: isComplete) }

  /// - Throws: `internal` if `token` is not allowed; the constraint is then as before.
  public mutating func accept(_ token: Token) throws {
    if !isKnownUniquelyReferenced(&state) { state = try state.copy() }
    guard try state.accept(token) else {
      throw FusionRouteError.internal("token \(token) does not follow the grammar; only allowed tokens may be accepted")
    }
    isComplete = try state.isComplete()
  }
}

/// The compiled grammars of one model.
final class GrammarCache: Sendable {
  private struct State {
    var tokens: GrammarTokens?
    var grammars: [SHA256Digest: (grammar: Grammar, used: UInt64)] = [:]
    var uses: UInt64 = 0

    mutating func use(_ key: SHA256Digest) -> Grammar? {
      uses += 1
      grammars[key]?.used = uses
      return grammars[key]?.grammar
    }

    mutating func keep(_ grammar: Grammar, _ key: SHA256Digest) -> Grammar {
      if grammars.count >= GrammarLimits.cachedGrammars,
        let oldest = grammars.min(by: { $0.value.used < $1.value.used })
      {
        grammars[oldest.key] = nil
      }
      grammars[key] = (grammar, uses)
      return grammar
    }
  }

  private let state = Mutex(State())

  /// For tests: how many are kept.
  var count: Int { state.withLock { $0.grammars.count } }

  func tokens(of model: Model) throws -> GrammarTokens {
    try state.withLock { state in
      if let tokens = state.tokens { return tokens }
      let tokens = try GrammarTokens(model: model)
      state.tokens = tokens
      return tokens
    }
  }

  func grammar(for text: [UInt8], model: Model) throws -> Grammar {
    let key = SHA256Digest(hashing: text)
    if let known = state.withLock({ $0.use(key) }) { return known }
    // Not under the lock: others need not wait for a large schema. Two may compile the same; one of them is kept.
    let graph = try SchemaReader.read(text)
    let compiled = try Self.compile(
      try SchemaWriter.grammar(graph), hasCanary: !graph.namesPrivateCharacters, tokens: try tokens(of: model),
      schema: text)
    return state.withLock { $0.use(key) ?? $0.keep(compiled, key) }
  }

  /// The grammar that `schema` became. Our checks took the schema, so if llama.cpp refuses the grammar, it is our defect
  /// and not its author's.
  static func compile(_ gbnf: String, hasCanary: Bool, tokens: GrammarTokens, schema: [UInt8]) throws -> Grammar {
    do {
      return try Grammar(gbnf: gbnf, hasCanary: hasCanary, tokens: tokens)
    } catch let error as FusionRouteError {
      throw FusionRouteError.internal(
        "llama.cpp refuses the grammar of a schema that was found to be good (SHA-256 \(SHA256Digest(hashing: schema).hex), "
          + "it begins \(SchemaError.clipped(String(decoding: schema.prefix(1024), as: UTF8.self)))): please report it "
          + "with the schema", cause: error)
    }
  }
}

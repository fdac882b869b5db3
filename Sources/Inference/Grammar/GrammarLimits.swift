/// Bounds on the schemas that become grammars. With them a grammar of any accepted schema is built in well under a
/// second, and the state that decoding carries stays small whatever tokens come.
enum GrammarLimits {
  /// Bytes of a schema's text.
  static let schemaBytes = 64 << 10
  /// Schemas inside one schema, every `$ref` target counted once.
  static let schemas = 1024
  /// Properties of one object.
  static let properties = 256
  /// Properties of one object that need not come. Their grammar grows with the square of them.
  static let optionalProperties = 64
  /// Bytes of a property's name.
  static let nameBytes = 512
  /// Schemas in one `anyOf` or `oneOf`.
  static let alternatives = 64
  /// The same, where those of `anyOf` inside `anyOf` are counted together.
  static let flatAlternatives = 256
  /// How deep `anyOf`, `oneOf` and `$ref` may follow each other before a value begins.
  static let alternativeDepth = 32
  /// Ways in which a text may be read at the same time: alternatives that begin alike multiply.
  static let readings = 128
  /// Comparisons of schemas until alternatives count as not told apart.
  static let comparisons = 100_000
  /// Values of one `enum`.
  static let literals = 1024
  /// Elements an array's `minItems` or `maxItems` may name.
  static let items = 512
  /// Characters that `minLength` or `maxLength` may name. llama.cpp takes more than 2,000 repetitions for "any number".
  static let characters = 2000
  /// The sum of all such bounds in one schema: each step is a rule of the grammar.
  static let repetitions = 8192
  /// Bytes of a `pattern`.
  static let patternBytes = 512
  /// Groups inside one another in a `pattern`.
  static let patternDepth = 16
  /// A count in a `pattern`'s braces.
  static let patternCount = 256
  /// States of a pattern while it is built: every repetition counts as often as it says.
  static let patternParts = 4096
  /// Steps that building the patterns of one schema may take, which can be exponential in their size.
  static let patternSteps = 2_000_000
  /// States of a finished pattern, number range or enumeration, each a rule of the grammar.
  static let automatonStates = 1024
  /// The sum of them in one schema.
  static let states = 8192
  /// Arrays and objects inside one another where a schema allows any value.
  static let anyDepth = 16
  /// Digits before the point of a number, so that every reader of JSON gets integers exactly.
  static let integerDigits = 15
  /// Digits after the point of a number with bounds.
  static let fractionDigits = 6
  /// Compiled grammars kept for a model.
  static let cachedGrammars = 64
}

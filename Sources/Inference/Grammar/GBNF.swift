/// One rule of a grammar in llama.cpp's notation.
struct GrammarRule: Equatable {
  var name: String
  var text: String
}

enum GBNF {
  /// Matches `text` and nothing else.
  static func literal(_ text: some Sequence<Unicode.Scalar>) -> String {
    "\"" + text.map(escaped).joined() + "\""
  }

  static func literal(_ text: String) -> String { literal(text.unicodeScalars) }

  /// Matches one character of `set`.
  static func characters(_ set: ScalarSet) -> String {
    let ranges = set.ranges.map { range in
      range.count == 1 ? escaped(range.lowerBound) : escaped(range.lowerBound) + "-" + escaped(range.upperBound)
    }
    return "[" + ranges.joined() + "]"
  }

  private static func escaped(_ scalar: Unicode.Scalar) -> String { escaped(scalar.value) }

  private static func escaped(_ value: UInt32) -> String {
    if let scalar = Unicode.Scalar(value), ScalarSet.wordCharacters.contains(value) { return String(scalar) }
    let digits = String(value, radix: 16)
    let (prefix, width) = value < 0x80 ? ("\\x", 2) : ("\\U", 8)
    return prefix + String(repeating: "0", count: width - digits.count) + digits
  }
}

/// How the characters of a language stand in the text.
enum TextEncoding {
  /// As they are.
  case plain
  /// Inside a JSON string: a quote and a backslash escaped.
  case quoted

  /// Characters that stand for themselves in a JSON string.
  static let unescaped = ScalarSet([0x20...0x10FFFF]).subtracting(ScalarSet([0x22...0x22, 0x5C...0x5C, 0x7F...0x7F]))
    .intersection(.all)
  private static let escapes: [(scalar: UInt32, letter: Unicode.Scalar)] = [
    (0x22, "\""), (0x5C, "\\"), (0x08, "b"), (0x0C, "f"), (0x0A, "n"), (0x0D, "r"), (0x09, "t"),
  ]
  /// Private characters that only a string without a form may have: where one is taken, any character is.
  static let planeSixteen: ClosedRange<UInt32> = 0x100000...0x10FFFF
  /// Characters of patterns: those that a JSON string can hold without `\u`.
  static let encodable = unescaped.union(ScalarSet(escapes.map { $0.scalar...$0.scalar }))
    .subtracting(ScalarSet([planeSixteen]))

  /// The ways to write one character of `set`, as grammar text. Never empty for a set of `encodable` characters.
  func symbols(_ set: ScalarSet) -> [String] {
    guard self == .quoted else { return [GBNF.characters(set)] }
    var symbols: [String] = []
    let plain = set.intersection(Self.unescaped)
    if !plain.isEmpty { symbols.append(GBNF.characters(plain)) }
    let letters = Self.escapes.filter { set.contains($0.scalar) }.map { $0.letter.value...$0.letter.value }
    if !letters.isEmpty { symbols.append(GBNF.literal("\\") + " " + GBNF.characters(ScalarSet(letters))) }
    return symbols
  }

  /// The only way to write the only character of `set`; nil if there are several.
  func spelling(_ set: ScalarSet) -> [Unicode.Scalar]? {
    guard let scalar = set.only else { return nil }
    guard self == .quoted, let escape = Self.escapes.first(where: { $0.scalar == scalar.value }) else {
      return [scalar]
    }
    return ["\\", escape.letter]
  }
}

extension Automaton {
  /// Grammar rules, one for each state where texts part; the first is called `name`.
  ///
  /// - Throws: `Failure.tooLarge` if there would be more than `limit`.
  func rules(name: String, encoding: TextEncoding, limit: Int) throws -> [GrammarRule] {
    var arrivals = [Int](repeating: 0, count: states.count)
    for edge in states.lazy.flatMap(\.edges) { arrivals[edge.target] += 1 }
    // The start and every state that is not just a step of a chain.
    let kept = states.indices.filter { index in
      index == 0 || !(states[index].isFinal || states[index].isStep && arrivals[index] == 1)
    }
    guard kept.count <= limit else { throw Failure.tooLarge }
    let isKept = Set(kept)
    func ruleName(_ state: Int) -> String { "\(name)-\(state)" }

    /// What follows after an edge into `state`.
    func path(_ set: ScalarSet, to target: Int) -> String {
      var items: [String] = []
      var spelled: [Unicode.Scalar] = []
      func flush() {
        if !spelled.isEmpty { items.append(GBNF.literal(spelled)) }
        spelled = []
      }
      var (set, target) = (set, target)
      while true {
        if let spelling = encoding.spelling(set) {
          spelled += spelling
        } else {
          flush()
          let symbols = encoding.symbols(set)
          items.append(symbols.count == 1 ? symbols[0] : "(" + symbols.joined(separator: " | ") + ")")
        }
        guard !isKept.contains(target), let edge = states[target].edges.first else { break }
        (set, target) = edge
      }
      flush()
      if isKept.contains(target) { items.append(ruleName(target)) }
      return items.joined(separator: " ")
    }

    let quote = encoding == .quoted ? GBNF.literal("\"") : ""
    let start = GrammarRule(
      name: name, text: [quote, ruleName(0), quote].filter { !$0.isEmpty }.joined(separator: " "))
    return [start]
      + kept.map { index in
        var alternatives = states[index].edges.map { path($0.set, to: $0.target) }
        if states[index].isAccepting { alternatives.insert("\"\"", at: 0) }
        return GrammarRule(name: ruleName(index), text: alternatives.joined(separator: " | "))
      }
  }
}

extension Automaton.State {
  fileprivate var isFinal: Bool { isAccepting && edges.isEmpty }
  fileprivate var isStep: Bool { !isAccepting && edges.count == 1 }
}

internal import Core

/// Reads a JSON schema's `pattern`: what ECMA-262 and the other engines agree on. Where they differ, as in what `\d` or
/// `\s` matches beyond ASCII, the language is what all of them match.
struct PatternParser {
  /// Why a pattern cannot be used, as the end of a sentence.
  struct Failure: Error {
    var reason: String
  }

  private let scalars: [Unicode.Scalar]
  private var position = 0
  private var depth = 0

  /// The contents of all JSON strings in which `pattern` is found.
  static func parse(_ pattern: String) throws -> Regex {
    var parser = PatternParser(scalars: Array(pattern.unicodeScalars))
    let regex = try parser.choice()
    guard parser.position == parser.scalars.count else { throw Failure(reason: "a ) closes no group") }
    return regex
  }

  private init(scalars: [Unicode.Scalar]) { self.scalars = scalars }

  private var current: Unicode.Scalar? { position < scalars.count ? scalars[position] : nil }

  private mutating func take(_ scalar: Unicode.Scalar) -> Bool {
    guard current == scalar else { return false }
    position += 1
    return true
  }

  private static let anything = Regex.repeated(.set(TextEncoding.encodable), least: 0, most: nil)

  /// Alternatives up to a `)` or the end. Outside of groups each may be anchored, and what is not may have any text
  /// before or behind it.
  private mutating func choice() throws -> Regex {
    var choices: [Regex] = []
    repeat {
      var parts: [Regex] = []
      if depth == 0, !take("^") { parts.append(Self.anything) }
      var isAnchored = false
      while let next = current, next != "|", next != ")" || depth == 0 {
        if depth == 0, next == "$", position + 1 == scalars.count || scalars[position + 1] == "|" {
          position += 1
          isAnchored = true
          break
        }
        parts.append(try quantified())
      }
      if depth == 0, !isAnchored { parts.append(Self.anything) }
      choices.append(.sequence(parts))
    } while take("|")
    return choices.count == 1 ? choices[0] : .choice(choices)
  }

  private mutating func quantified() throws -> Regex {
    let part = try atom()
    guard let (least, most) = try quantifier() else { return part }
    // A lazy quantifier matches the same texts.
    _ = take("?")
    if let next = current, "*+?{".unicodeScalars.contains(next) {
      throw Failure(reason: "a quantifier follows another one")
    }
    return .repeated(part, least: least, most: most)
  }

  private mutating func quantifier() throws -> (least: Int, most: Int?)? {
    if take("*") { return (0, nil) }
    if take("+") { return (1, nil) }
    if take("?") { return (0, 1) }
    guard take("{") else { return nil }
    let least = try count()
    var most: Int? = least
    if take(",") { most = current == "}" ? nil : try count() }
    guard take("}") else { throw Failure(reason: "a { is neither escaped nor a count such as {2} or {1,5}") }
    if let most, most < least { throw Failure(reason: "the count {\(least),\(most)} is empty") }
    return (least, most)
  }

  private mutating func count() throws -> Int {
    var value = 0
    let start = position
    while let digit = current?.value, (48...57).contains(digit) {
      value = min(value * 10 + Int(digit - 48), GrammarLimits.patternCount + 1)
      position += 1
    }
    guard position > start else {
      throw Failure(reason: "a { is neither escaped nor a count such as {2} or {1,5}")
    }
    guard value <= GrammarLimits.patternCount else {
      throw Failure(reason: "a count is larger than \(GrammarLimits.patternCount)")
    }
    return value
  }

  private mutating func atom() throws -> Regex {
    guard let scalar = current else { throw Failure(reason: "it ends too early") }
    position += 1
    switch scalar {
    case "(": return try group()
    case "[": return try characterClass()
    case ".": return .set(TextEncoding.encodable.subtracting(.lineEnds))
    case "\\": return .set(try encodable(try escape(inClass: false).set))
    case "^", "$": throw Failure(reason: "an anchor stands inside of it")
    case "*", "+", "?": throw Failure(reason: "nothing stands before a \(scalar)")
    case "{": throw Failure(reason: "a { is neither escaped nor a count such as {2} or {1,5}")
    case ")": throw Failure(reason: "a ) closes no group")
    default: return .set(try encodable(ScalarSet(scalar)))
    }
  }

  private mutating func group() throws -> Regex {
    if take("?"), !take(":") {
      throw Failure(reason: "lookarounds, named groups and flags, written (?…), cannot be part of a grammar")
    }
    depth += 1
    defer { depth -= 1 }
    guard depth <= GrammarLimits.patternDepth else {
      throw Failure(reason: "groups are nested deeper than \(GrammarLimits.patternDepth) levels")
    }
    let inner = try choice()
    guard take(")") else { throw Failure(reason: "a ( is not closed") }
    return inner
  }

  private func encodable(_ set: ScalarSet) throws -> ScalarSet {
    let rest = set.intersection(TextEncoding.encodable)
    guard !rest.isEmpty else {
      throw Failure(reason: "it asks for a control character without a short escape, or for a private one")
    }
    return rest
  }

  // MARK: Classes

  private mutating func characterClass() throws -> Regex {
    let isNegated = take("^")
    var set = ScalarSet()
    var hasShorthand = false
    // Engines differ about [] and []…].
    if current == "]" { throw Failure(reason: "a character class begins with ]") }
    while !take("]") {
      let first = try member()
      guard current == "-", position + 1 < scalars.count, scalars[position + 1] != "]" else {
        set = set.union(first.set)
        hasShorthand = hasShorthand || first.isShorthand
        continue
      }
      position += 1
      let last = try member()
      guard let low = first.set.only, let high = last.set.only, !first.isShorthand, !last.isShorthand, low <= high
      else { throw Failure(reason: "a range in a character class has no first or no last character") }
      set = set.union(ScalarSet([low...high]))
    }
    guard isNegated else { return .set(try encodable(set)) }
    // What is no digit or no space for one engine may be one for another, beyond ASCII.
    let universe = hasShorthand ? ScalarSet.printableASCII : TextEncoding.encodable
    return .set(try encodable(universe.subtracting(set)))
  }

  private mutating func member() throws -> (set: ScalarSet, isShorthand: Bool) {
    guard let scalar = current else { throw Failure(reason: "a [ is not closed") }
    position += 1
    return scalar == "\\" ? try escape(inClass: true) : (ScalarSet(scalar), false)
  }

  // MARK: Escapes

  private mutating func escape(inClass: Bool) throws -> (set: ScalarSet, isShorthand: Bool) {
    guard let scalar = current else { throw Failure(reason: "it ends with a backslash") }
    position += 1
    switch scalar {
    case "d": return (.digits, true)
    case "w": return (.wordCharacters, true)
    case "s": return (.spaces, true)
    case "D": return (ScalarSet.printableASCII.subtracting(.digits), true)
    case "W": return (ScalarSet.printableASCII.subtracting(.wordCharacters), true)
    case "S": return (ScalarSet.printableASCII.subtracting(.spaces), true)
    case "n": return (ScalarSet("\n"), false)
    case "r": return (ScalarSet("\r"), false)
    case "t": return (ScalarSet("\t"), false)
    case "f": return (ScalarSet("\u{C}"), false)
    case "b" where inClass: return (ScalarSet("\u{8}"), false)
    case "x": return (ScalarSet(try hexadecimal(2)), false)
    case "u": return (ScalarSet(try hexadecimal(4)), false)
    default:
      guard scalar.isASCII, !ScalarSet.wordCharacters.contains(scalar.value) else {
        throw Failure(reason: "the escape \\\(scalar) cannot be part of a grammar")
      }
      return (ScalarSet(scalar), false)
    }
  }

  private mutating func hexadecimal(_ digits: Int) throws -> Unicode.Scalar {
    var value: UInt32 = 0
    for _ in 0..<digits {
      guard let digit = current.flatMap({ Character($0).hexDigitValue }), current?.isASCII == true else {
        throw Failure(reason: "hexadecimal digits are missing behind \\x or \\u")
      }
      value = value * 16 + UInt32(digit)
      position += 1
    }
    guard let scalar = Unicode.Scalar(value) else { throw Failure(reason: "it names half of a surrogate pair") }
    return scalar
  }
}

/// Values of `format`, as patterns. The language of each is what validators take, or a part of it that people write.
enum StringFormat: String, CaseIterable {
  case date
  case time
  case dateTime = "date-time"
  case uuid
  case email
  case ipv4

  var pattern: String {
    // Every day of the calendar and no other; the year 0000 is none for many readers.
    let year = #"(?:\d{3}[1-9]|\d{2}[1-9]\d|\d[1-9]\d{2}|[1-9]\d{3})"#
    let fours = "(?:0[48]|[2468][048]|[13579][26])"
    let day = #"(?:0[1-9]|1\d|2[0-8])"#
    let long = #"(?:(?:0[13578]|1[02])-(?:29|30|31)|(?:0[469]|11)-(?:29|30))"#
    let date = #"(?:\#(year)-(?:(?:0[1-9]|1[0-2])-\#(day)|\#(long))|(?:\d{2}\#(fours)|\#(fours)00)-02-29)"#
    let hours = #"(?:[01]\d|2[0-3]):[0-5]\d"#
    let time = #"\#(hours):[0-5]\d(?:\.\d{3})?(?:Z|[+-]\#(hours))"#
    let byte = #"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]\d|\d)"#
    let word = "[A-Za-z0-9_]{1,20}"
    return switch self {
    case .date: "^\(date)$"
    case .time: "^\(time)$"
    case .dateTime: "^\(date)T\(time)$"
    case .uuid: "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
    case .email: #"^\#(word)(?:[.+-]\#(word)){0,2}@(?:[A-Za-z0-9]{1,20}(?:-[A-Za-z0-9]{1,20})?\.){1,3}[A-Za-z]{2,8}$"#
    case .ipv4: #"^\#(byte)(?:\.\#(byte)){3}$"#
    }
  }
}

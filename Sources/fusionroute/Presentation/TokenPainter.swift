/// Colours an answer's text by the expert of each token, with as few escape sequences as possible.
struct TokenPainter {
  private let style: Style
  private let order: [String: Int]
  private var current: Int?

  /// - Parameter experts: in the order of the head, which gives each its colour.
  init(style: Style, experts: [String]) {
    self.style = style
    order = Dictionary(experts.enumerated().map { ($1, $0) }, uniquingKeysWith: { first, _ in first })
  }

  /// What to write for a token's text.
  mutating func paint(_ text: String, expert: String?) -> String {
    // A model's text may hold control characters, which must not steer the reader's terminal.
    let text = style.isTerminal ? Self.printable(text) : text
    guard style.depth != .none, !text.isEmpty else { return text }
    let next = expert.flatMap { order[$0] }
    guard next != current else { return text }
    let change = (current == nil ? "" : Style.reset) + (next.map { style.open(.expert($0)) } ?? "")
    current = next
    return change + text
  }

  /// What to write at the end, so that what follows has its own colour.
  mutating func finish() -> String {
    defer { current = nil }
    return current == nil ? "" : Style.reset
  }

  /// Control characters but tab and line feed become U+FFFD.
  static func printable(_ text: String) -> String {
    guard text.unicodeScalars.contains(where: isHarmful) else { return text }
    var result = String.UnicodeScalarView()
    for scalar in text.unicodeScalars { result.append(isHarmful(scalar) ? "\u{FFFD}" : scalar) }
    return String(result)
  }

  private static func isHarmful(_ scalar: Unicode.Scalar) -> Bool {
    (scalar.value < 0x20 && scalar != "\n" && scalar != "\t") || (0x7F...0x9F).contains(scalar.value)
  }
}

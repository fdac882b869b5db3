/// A YAML document to be written, keys in their order.
indirect enum YAMLText: Sendable, Equatable {
  case text(String)
  case integer(Int)
  case flag(Bool)
  case list([YAMLText])
  case map([Entry])
  /// `{}`, as in `emptyDir: {}`.
  static let empty = YAMLText.map([])

  struct Entry: Sendable, Equatable {
    var key: String
    var value: YAMLText
  }

  /// Entries whose value is nil are left out.
  static func object(_ entries: KeyValuePairs<String, YAMLText?>) -> YAMLText {
    .map(entries.compactMap { key, value in value.map { Entry(key: key, value: $0) } })
  }

  static func texts(_ values: [String]) -> YAMLText { .list(values.map { .text($0) }) }

  /// With a final newline.
  var document: String {
    var lines: [String] = []
    append(to: &lines, indent: 0)
    return lines.joined(separator: "\n") + "\n"
  }

  static func documents(_ values: [YAMLText]) -> String { values.map(\.document).joined(separator: "---\n") }

  /// On the line of its key; nil if it needs lines of its own.
  private var inline: String? {
    switch self {
    case .text(let text): isBlock(text) ? nil : Quoting.yaml(text)
    case .integer(let value): String(value)
    case .flag(let value): String(value)
    case .list(let values): values.isEmpty ? "[]" : nil
    case .map(let entries): entries.isEmpty ? "{}" : nil
    }
  }

  private func append(to lines: inout [String], indent: Int) {
    let space = String(repeating: " ", count: indent)
    switch self {
    case .map(let entries) where !entries.isEmpty:
      for entry in entries {
        let key = space + Quoting.yaml(entry.key) + ":"
        if let inline = entry.value.inline {
          lines.append("\(key) \(inline)")
        } else if case .text(let text) = entry.value {
          lines.append("\(key) |")
          Self.appendBlock(text, to: &lines, indent: indent + 2)
        } else {
          lines.append(key)
          entry.value.append(to: &lines, indent: indent + 2)
        }
      }
    case .list(let values) where !values.isEmpty:
      for value in values {
        if let inline = value.inline {
          lines.append("\(space)- \(inline)")
          continue
        }
        var below: [String] = []
        value.append(to: &below, indent: indent + 2)
        if let first = below.first { below[0] = space + "- " + first.dropFirst(indent + 2) }
        lines += below
      }
    case .text(let text):
      // Alone in a list or document: always in quotes.
      lines.append(space + Quoting.yaml(text))
    default: lines.append(space + (inline ?? ""))
    }
  }

  /// Lines of plain characters, the last ended, none that YAML's block style would change.
  private func isBlock(_ text: String) -> Bool {
    guard text.contains("\n"), text.hasSuffix("\n"), !text.hasSuffix("\n\n"),
      let first = text.unicodeScalars.first, first != " ", first != "\n"
    else { return false }
    return text.unicodeScalars.allSatisfy { $0 == "\n" || (0x20...0x7E).contains($0.value) }
  }

  private static func appendBlock(_ text: String, to lines: inout [String], indent: Int) {
    let space = String(repeating: " ", count: indent)
    for line in text.dropLast().split(separator: "\n", omittingEmptySubsequences: false) {
      lines.append(line.isEmpty ? "" : space + line)
    }
  }
}

extension YAMLText: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral,
  ExpressibleByArrayLiteral
{
  init(stringLiteral value: String) { self = .text(value) }
  init(integerLiteral value: Int) { self = .integer(value) }
  init(booleanLiteral value: Bool) { self = .flag(value) }
  init(arrayLiteral elements: YAMLText...) { self = .list(elements) }
}

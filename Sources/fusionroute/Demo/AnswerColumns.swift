/// Several answers beside one another, or below one another where there is no room.
struct AnswerColumns {
  struct Column: Sendable {
    var title: String
    var role: Style.Role?
    /// What follows the title, such as whether the answer is right.
    var mark: String
    var text: String
  }

  /// A column that is narrower is not read any more.
  static let minimumWidth = 24
  /// Lines of an answer beside others; what is longer ends with an ellipsis.
  static let maximumLines = 16
  private static let gap = 3

  var columns: [Column]

  /// Lines of at most `style.width` characters.
  func lines(_ style: Style) -> [String] {
    let count = max(1, columns.count)
    let width = (style.width - Self.gap * (count - 1)) / count
    guard width >= Self.minimumWidth else {
      return columns.flatMap { column in
        [title(column, style, width: style.width)] + body(column, width: style.width - 2).map { "  \($0)" }
      }
    }
    let bodies = columns.map { body($0, width: width) }
    let space = String(repeating: " ", count: Self.gap)
    func joined(_ cells: [(shown: String, length: Int)]) -> String {
      let last = cells.count - 1
      let line = cells.enumerated().map { index, cell in
        index == last ? cell.shown : cell.shown + String(repeating: " ", count: max(0, width - cell.length))
      }.joined(separator: space)
      return String(line.reversed().drop { $0 == " " }.reversed())
    }
    let head = joined(columns.map { (title($0, style, width: width), min(width, heading($0).count)) })
    let height = bodies.map(\.count).max() ?? 0
    return [head]
      + (0..<height).map { row in
        joined(bodies.map { $0.indices.contains(row) ? ($0[row], $0[row].count) : ("", 0) })
      }
  }

  private func heading(_ column: Column) -> String {
    column.mark.isEmpty ? column.title : "\(column.title) \(column.mark)"
  }

  private func title(_ column: Column, _ style: Style, width: Int) -> String {
    let text = String(heading(column).prefix(width))
    return column.role.map { style.paint(text, $0) } ?? text
  }

  private func body(_ column: Column, width: Int) -> [String] {
    let lines = Self.wrapped(TokenPainter.printable(column.text), width: max(1, width))
    guard lines.count > Self.maximumLines else { return lines }
    return lines.prefix(Self.maximumLines - 1) + ["…"]
  }

  /// Breaks lines between words, longer words anywhere. Spaces at the start of a line, which code needs, stay.
  static func wrapped(_ text: String, width: Int) -> [String] {
    let text = text.replacing("\t", with: "    ")
    return text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).flatMap { line -> [String] in
      var lines: [String] = []
      var rest = line
      while rest.count > width {
        let head = rest.prefix(width + 1)
        let first = head.firstIndex { $0 != " " } ?? head.startIndex
        let space = head[first...].lastIndex(of: " ")
        let end = space ?? rest.index(rest.startIndex, offsetBy: width)
        lines.append(String(rest[..<end]))
        rest = rest[end...]
        if space != nil { rest = rest.drop { $0 == " " } }
      }
      return lines + [String(rest)]
    }
  }
}

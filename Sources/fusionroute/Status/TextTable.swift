/// Columns of text that fit a width.
struct TextTable {
  struct Cell {
    var text: String
    var role: Style.Role?
    var alignsRight = false

    init(_ text: String, _ role: Style.Role? = nil) {
      self.text = text
      self.role = role
    }

    static func number(_ text: String) -> Cell {
      var cell = Cell(text)
      cell.alignsRight = true
      return cell
    }
  }

  private static let gap = 2
  /// Characters of a cell that are shown at most.
  private static let maximumCell = 40

  private var rows: [[Cell]] = []

  mutating func add(_ cells: [Cell]) { rows.append(cells) }

  /// Lines of at most `style.width` characters.
  ///
  /// - Parameter expendable: columns to leave out, in this order, until the rest fits. What does not fit even then is cut
  ///   on the right.
  func lines(_ style: Style, expendable: [Int] = []) -> [String] {
    let all = rows.map(\.count).max() ?? 0
    let full = (0..<all).map { column in
      rows.map { column < $0.count ? min(Self.maximumCell, $0[column].text.count) : 0 }.max() ?? 0
    }
    var kept = Array(0..<all)
    for column in expendable where kept.reduce(-Self.gap, { $0 + full[$1] + Self.gap }) > style.width {
      kept.removeAll { $0 == column }
    }
    let widths = kept.map { full[$0] }
    let visible = rows.map { row in kept.filter { $0 < row.count }.map { row[$0] } }
    return visible.map { row in
      var line = ""
      var used = 0
      for (column, cell) in row.enumerated() {
        let isLast = column == row.count - 1
        let isLong = cell.text.count > Self.maximumCell
        let text = isLong ? String(cell.text.prefix(Self.maximumCell - 1)) + "~" : cell.text
        let space = String(repeating: " ", count: widths[column] - text.count)
        let start = column == 0 ? 0 : Self.gap
        let room = style.width - used - start
        guard room > 0 else { break }
        line += String(repeating: " ", count: start)
        used += start + widths[column]
        let shown = String((cell.alignsRight ? space + text : text + (isLast ? "" : space)).prefix(room))
        line += cell.role.map { style.paint(shown, $0) } ?? shown
      }
      while line.last == " " { line.removeLast() }
      return line
    }
  }
}

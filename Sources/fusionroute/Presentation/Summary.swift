internal import Foundation

/// Totals over the answers of one run, and how they are shown.
struct RunTotals: Sendable, Equatable {
  var answers = 0
  var promptTokens = 0
  var generatedTokens = 0
  var tokensPerExpert: [String: Int] = [:]
  var prefill = Duration.zero
  var decode = Duration.zero
  /// Tokens after the first of each answer: those that `decode` was spent on.
  var followingTokens = 0

  mutating func add(_ summary: AnswerSummary) {
    answers += 1
    promptTokens += summary.promptTokens
    generatedTokens += summary.generatedTokens
    tokensPerExpert.merge(summary.tokensPerExpert, uniquingKeysWith: +)
    if summary.generatedTokens > 0 { prefill += summary.prefill }
    decode += summary.decode
    followingTokens += max(0, summary.generatedTokens - 1)
  }

  /// Decoding speed of one answer, on average; nil if no answer had two tokens.
  var tokensPerSecond: Double? {
    followingTokens > 0 && decode > .zero ? Double(followingTokens) / decode.seconds : nil
  }

  /// Seconds, on average.
  var timeToFirstToken: Double? { answers > 0 ? prefill.seconds / Double(answers) : nil }
}

enum Summary {
  /// One line that says which colour is whose; empty without colours.
  static func legend(experts: [String], style: Style) -> String {
    guard style.depth != .none else { return "" }
    let mark = style.unicode ? "■" : "#"
    return experts.enumerated().map { style.paint("\(mark) \($1)", .expert($0)) }.joined(separator: "   ") + "\n"
  }

  /// Shows the legend on stderr, or beside the answers where they alone have colours.
  static func showLegend(experts: [String]) {
    let (answers, notes) = (Style(.standardOutput), Style(.standardError))
    let isBeside = answers.depth != .none && notes.depth == .none
    let text = legend(experts: experts, style: isBeside ? answers : notes)
    try? (isBeside ? FileHandle.standardOutput : .standardError).write(contentsOf: Data(text.utf8))
  }

  /// Tokens per expert with a bar of their share, and the speeds.
  static func table(_ totals: RunTotals, experts: [String], style: Style) -> String {
    var rows = experts.map { ($0, totals.tokensPerExpert[$0] ?? 0) }
    let others = totals.tokensPerExpert.filter { !experts.contains($0.key) }.sorted { $0.key < $1.key }
    rows += others.map { ($0.key, $0.value) }
    let all = max(1, totals.generatedTokens)
    let nameWidth = min(24, rows.map(\.0.count).max() ?? 0)
    let barWidth = max(8, min(32, style.width - nameWidth - 28))
    var text = ""
    for (index, (name, count)) in rows.enumerated() {
      let share = Double(count) / Double(all)
      let name = name.count > nameWidth ? String(name.prefix(nameWidth - 1)) + "~" : name
      text += "  " + name + String(repeating: " ", count: nameWidth - name.count) + "  "
      text += style.paint(bar(share, width: barWidth, unicode: style.unicode), .expert(index))
      text +=
        "  \(padded("\(Int((share * 100).rounded()))", 3)) %  \(padded("\(count)", 5)) token\(count == 1 ? "" : "s")\n"
    }
    let dot = style.unicode ? " · " : ", "
    var facts = ["\(totals.generatedTokens) token\(totals.generatedTokens == 1 ? "" : "s")"]
    if totals.answers > 1 { facts.insert("\(totals.answers) answers", at: 0) }
    if let speed = totals.tokensPerSecond { facts.append("\(decimal(speed, 1)) tokens/s") }
    if let first = totals.timeToFirstToken, totals.generatedTokens > 0 {
      facts.append("first token after \(decimal(first, 2)) s")
    }
    facts.append("\(totals.promptTokens) prompt tokens")
    return text + "  " + facts.joined(separator: dot) + "\n"
  }

  /// A bar of exactly `width` columns; any share above zero shows.
  static func bar(_ share: Double, width: Int, unicode: Bool) -> String {
    let eighths = Int((share.isFinite ? min(1, max(0, share)) : 0) * Double(width * 8) + 0.5)
    if !unicode {
      let full = share > 0 ? max(1, (eighths + 4) / 8) : 0
      return String(repeating: "#", count: full) + String(repeating: ".", count: width - full)
    }
    let parts = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"]
    let shown = share > 0 ? max(1, eighths) : 0
    let text = String(repeating: "█", count: shown / 8) + parts[shown % 8]
    return text + String(repeating: " ", count: width - text.count)
  }

  /// `value` with a fixed number of decimals.
  static func decimal(_ value: Double, _ places: Int) -> String { String(format: "%.\(places)f", value) }

  private static func padded(_ text: String, _ width: Int) -> String {
    String(repeating: " ", count: max(0, width - text.count)) + text
  }
}

extension Duration {
  var seconds: Double {
    let (seconds, attoseconds) = components
    return Double(seconds) + Double(attoseconds) * 1e-18
  }

  var milliseconds: Double { seconds * 1000 }
}

internal import Core
internal import Evaluation
internal import Foundation

/// Where results go: a table or JSON on stdout, and `summary.json` and `report.html` beside the answers.
struct EvaluationOutput: Sendable {
  let folder: String
  var format: OutputFormat
  var title: String
  var facts: [(String, String)]
  /// Prompts of each task that the report holds answers to, at most; nil: as many as there is room for.
  var browsable: Int?

  static let resultsName = "results.jsonl"

  var reportPath: String { "\(folder)/report.html" }

  func write(_ results: EvaluationResults) throws {
    let summary = results.summary()
    try write(summary.json.text + "\n", to: "\(folder)/summary.json")
    let page = EvaluationReport.page(results, summary, title: title, facts: facts, browsable: browsable)
    try write(page, to: reportPath)
    switch format {
    case .json: print(summary.json.text)
    case .text:
      print(Self.table(summary, style: Style(.standardOutput)), terminator: "")
      for row in summary.rows where row.missing > 0 {
        Self.say("incomplete: \(row.method) lacks \(row.missing) answers")
      }
      Self.say("answers  \(folder)/\(Self.resultsName)\nreport   \(reportPath)")
    }
  }

  private func write(_ text: String, to path: String) throws {
    var file = try AtomicFile(path: path)
    try file.write(Array(text.utf8))
    try file.commit()
  }

  static func say(_ text: String) { try? FileHandle.standardError.write(contentsOf: Data((text + "\n").utf8)) }

  /// The table for a terminal: accuracies, their mean with its interval, the difference to the reference, costs.
  static func table(_ summary: EvaluationSummary, style: Style) -> String {
    var table = TextTable()
    let hasMean = summary.averaged.count > 1
    var head = ["method"] + summary.tasks
    if hasMean { head.append("mean") }
    head += [
      "95 %", "\(summary.reference) −", "95 %", "p", "only one right", "tokens/s", "expert/token", "router/token",
    ]
    table.add(head.enumerated().map { $0 == 0 ? .init($1, .faint) : faint($1) })
    for row in summary.rows {
      var cells: [TextTable.Cell] = [.init(row.method, row.method == summary.reference ? .strong : nil)]
      cells += row.cells.map { .number($0.accuracy.map(percent) ?? "–") }
      let single = row.cells.first { summary.averaged.contains($0.task) }
      if hasMean { cells.append(.number(row.average.map(percent) ?? "–")) }
      cells.append(.number(interval(hasMean ? row.averageInterval : single?.interval)))
      let comparison = row.comparison
      cells.append(.number(comparison?.difference.map(points) ?? ""))
      cells.append(.number(comparison?.interval.map { "\(points($0.lower)) … \(points($0.upper))" } ?? ""))
      cells.append(.number(comparison?.pValue.map { Summary.decimal($0, 4) } ?? ""))
      cells.append(.number(comparison.map { "\($0.won) : \($0.lost)" } ?? ""))
      let speed = row.cost.tokensPerSecond.map { Summary.decimal($0, 1) } ?? "–"
      cells.append(.number(row.cost.interleaved > 0 ? "~\(speed)" : speed))
      let reward = row.cost.rewardEvaluations
      let evaluations = row.cost.perToken(row.cost.expertEvaluations).map { Summary.decimal($0, 2) } ?? "–"
      let more = reward > 0 ? row.cost.perToken(reward).map { " + \(Summary.decimal($0, 1))" } ?? "" : ""
      cells.append(.number(evaluations + more))
      cells.append(.number(row.cost.perToken(row.cost.routerEvaluations).map { Summary.decimal($0, 2) } ?? "–"))
      table.add(cells)
    }
    // On a terminal what tells least goes first; elsewhere all of it is wanted.
    let last = head.count
    var wide = style
    if !style.isTerminal { wide.width = 10_000 }
    return table.lines(wide, expendable: [last - 1, last - 2, last - 3, last - 5, last - 4, last - 6]).joined(
      separator: "\n")
      + "\n"
  }

  private static func faint(_ text: String) -> TextTable.Cell {
    var cell = TextTable.Cell(text, .faint)
    cell.alignsRight = true
    return cell
  }

  private static func percent(_ share: Double) -> String { Summary.decimal(100 * share, 1) }

  private static func points(_ difference: Double) -> String {
    let text = Summary.decimal(100 * difference, 1)
    return difference > 0 && text != "0.0" ? "+\(text)" : text == "-0.0" ? "0.0" : text
  }

  private static func interval(_ interval: Interval?) -> String {
    interval.map { "\(percent($0.lower))–\(percent($0.upper))" } ?? ""
  }
}

internal import Core

/// The results for people: one HTML file that needs nothing beside it.
public enum EvaluationReport {
  /// Bytes of answers to browse, at most.
  public static let maximumBrowsableBytes = 20_000_000

  /// - Parameters:
  ///   - facts: what was run, as pairs of a name and a text.
  ///   - browsable: prompts of each task that the browser of answers holds at most; nil: as many as there is room for.
  public static func page(
    _ results: EvaluationResults, _ summary: EvaluationSummary, title: String, facts: [(String, String)],
    browsable: Int? = nil, maximumBytes: Int = maximumBrowsableBytes
  ) -> String {
    let answers = ReportBrowser.section(results, summary, limit: browsable, maximumBytes: maximumBytes)
    let rows = facts.map { "<tr><th>\(HTML.escaped($0.0))</th><td>\(HTML.escaped($0.1))</td></tr>" }.joined()
    return """
      <!doctype html>
      <html lang="en"><head><meta charset="utf-8"><title>\(HTML.escaped(title))</title>
      <meta name="viewport" content="width=device-width"><style>\(ReportStyle.css)</style></head><body><main>
      <h1>\(HTML.escaped(title))</h1><table class="facts">\(rows)</table>
      \(ReportTables.accuracies(summary))
      \(ReportTables.descriptions(summary))
      \(differences(summary, links: !answers.isEmpty))
      \(charts(summary))
      \(ReportTables.changes(summary, links: !answers.isEmpty))
      \(ReportTables.tags(summary))
      \(answers)
      </main></body></html>

      """
  }

  private static func differences(_ summary: EvaluationSummary, links: Bool) -> String {
    guard summary.rows.contains(where: { $0.comparison?.tasks.isEmpty == false }) else { return "" }
    var panels = summary.averaged.map { ReportCharts.differences(summary, task: $0) }
    if summary.averaged.count > 1 { panels.append(ReportCharts.differences(summary, task: nil)) }
    return "<h2>\(HTML.escaped(summary.reference)) minus each method</h2><div class='panels'>" + panels.joined()
      + "</div>" + ReportTables.differences(summary, links: links)
  }

  private static func charts(_ summary: EvaluationSummary) -> String {
    var html = "<h2>Accuracy by task and method</h2><div class='panels'>"
    html += summary.tasks.map { ReportCharts.accuracies(summary, task: $0) }.joined() + "</div>"
    guard !summary.shares.isEmpty else { return html }
    html += "<h2>Who decides, along the answers of \(HTML.escaped(summary.reference))</h2>" + legend(summary.experts)
    html += "<div class='panels'>"
    html += summary.shares.map { ReportCharts.shares($0, experts: summary.experts) }.joined() + "</div>"
    return html + ReportTables.shares(summary)
  }

  static func legend(_ experts: [String]) -> String {
    let tags = experts.enumerated().map { "<span class='tag \(ReportStyle.classes($0))'>\(HTML.escaped($1))</span>" }
    return "<p class='legend'>\(tags.joined())<span class='tag none'>router, or all experts</span></p>"
  }
}

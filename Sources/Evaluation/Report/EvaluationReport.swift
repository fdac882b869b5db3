internal import Core

/// The results for people: one HTML file that needs nothing beside it.
public enum EvaluationReport {
  /// Prompts of each task whose answers can be browsed, at most.
  public static let defaultBrowsable = 40

  /// - Parameters:
  ///   - facts: what was run, as pairs of a name and a text.
  ///   - browsable: prompts of each task that the browser of answers holds at most.
  public static func page(
    _ results: EvaluationResults, _ summary: EvaluationSummary, title: String, facts: [(String, String)],
    browsable: Int = defaultBrowsable
  ) -> String {
    let rows = facts.map { "<tr><th>\(HTML.escaped($0.0))</th><td>\(HTML.escaped($0.1))</td></tr>" }.joined()
    return """
      <!doctype html>
      <html lang="en"><head><meta charset="utf-8"><title>\(HTML.escaped(title))</title>
      <meta name="viewport" content="width=device-width"><style>\(ReportStyle.css)</style></head><body>
      <h1>\(HTML.escaped(title))</h1><table class="facts">\(rows)</table>
      \(table(summary))
      \(charts(summary))
      \(changes(summary))
      \(tags(summary))
      \(ReportBrowser.section(results, summary, browsable: browsable))
      </body></html>

      """
  }

  // MARK: Table

  private static func table(_ summary: EvaluationSummary) -> String {
    let tasks = summary.tasks.map { "<th>\(HTML.escaped($0))</th>" }.joined()
    let several = summary.averaged.count > 1
    var html = "<h2>Right answers</h2><div class='wide'><table><thead><tr><th>method</th>\(tasks)"
    if several { html += "<th>mean</th>" }
    html += "<th>\(HTML.escaped(summary.reference)) − method</th><th>only one right</th><th>tokens/s</th>"
    html +=
      "<th>expert evaluations<small>per token</small></th><th>tokens<small>per answer</small></th></tr></thead><tbody>"
    for row in summary.rows {
      html += "<tr\(row.method == summary.reference ? " class='reference'" : "")><th>\(HTML.escaped(row.method))</th>"
      html += row.cells.map(cell).joined()
      if several { html += "<td>\(row.average.map(HTML.percent) ?? "–")\(small(row.averageInterval))</td>" }
      html += comparison(row.comparison) + cost(row.cost) + "</tr>"
    }
    html += "</tbody></table></div>"
    let left = summary.tasks.filter { !summary.averaged.contains($0) }
    let outside = left.isEmpty ? "" : " Not in the mean: \(left.joined(separator: ", "))."
    html += """
      <p class='note'>Percentages of right answers with 95 % bootstrap intervals over prompts \
      (\(summary.bootstrap.resamples) resamples, seed \(summary.bootstrap.seed)). The difference is that of the means, on \
      the prompts that both answered, with the interval and p of the paired bootstrap; beside it the prompts that only \
      \(HTML.escaped(summary.reference)) and that only the method got right, with the p of McNemar’s exact test. Tokens/s is the \
      speed of one answer while several are under way; for methods that choose among answers, the time of all of them \
      counts. Expert evaluations are the tokens that went through experts, prompts included, for each token of the answer; \
      + are those of a reward model.\(HTML.escaped(outside))</p>
      """
    return html
  }

  private static func small(_ interval: Interval?) -> String {
    guard let interval else { return "" }
    return "<small>\(HTML.percent(interval.lower))–\(HTML.percent(interval.upper))</small>"
  }

  private static func cell(_ cell: EvaluationSummary.Cell) -> String {
    guard let accuracy = cell.accuracy else { return "<td>–</td>" }
    let parts = cell.parts.map { "\($0.name) \(HTML.percent($0.share))" }
    var title = "\(cell.passed) of \(cell.answers)"
    if cell.passedWithSeveralExperts > 0 { title += "; \(cell.passedWithSeveralExperts) right ones by several experts" }
    let below = parts.isEmpty ? "" : "<small>\(HTML.escaped(parts.joined(separator: ", ")))</small>"
    return "<td title='\(HTML.escaped(title))'>\(HTML.percent(accuracy))\(small(cell.interval))\(below)</td>"
  }

  private static func comparison(_ comparison: EvaluationSummary.Comparison?) -> String {
    guard let comparison, let difference = comparison.difference else { return "<td></td><td></td>" }
    let kind = comparison.interval.map { $0.lower > 0 ? "good" : $0.upper < 0 ? "bad" : "" } ?? ""
    var html = "<td class='\(kind)'>\(HTML.points(difference))"
    if let interval = comparison.interval {
      html += "<small>\(HTML.points(interval.lower)) … \(HTML.points(interval.upper))"
      html += comparison.pValue.map { ", p \(HTML.pValue($0))" } ?? ""
      html += "</small>"
    }
    return html
      + "</td><td>\(comparison.won) : \(comparison.lost)<small>p \(HTML.pValue(comparison.signTest)), n \(comparison.count)</small></td>"
  }

  private static func cost(_ cost: EvaluationSummary.Cost) -> String {
    func number(_ value: Double?, _ places: Int) -> String { value.map { HTML.decimal($0, places) } ?? "–" }
    let reward = cost.rewardEvaluations > 0 ? " + \(number(cost.perToken(cost.rewardEvaluations), 1))" : ""
    let cut = cost.cut > 0 ? "<small>\(cost.cut) cut off</small>" : ""
    return
      "<td>\(number(cost.tokensPerSecond, 1))</td><td>\(number(cost.perToken(cost.expertEvaluations), 2))\(reward)</td>"
      + "<td>\(number(cost.tokensPerAnswer, 0))\(cut)</td>"
  }

  // MARK: Plots and break-downs

  private static func charts(_ summary: EvaluationSummary) -> String {
    var html = "<h2>Accuracy by task and method</h2><div class='panels'>"
    html += summary.tasks.map { ReportCharts.accuracies(summary, task: $0) }.joined() + "</div>"
    guard !summary.shares.isEmpty else { return html }
    html += "<h2>Who decides, along the answers of \(HTML.escaped(summary.reference))</h2>" + legend(summary.experts)
    html += "<div class='panels'>"
    html += summary.shares.map { ReportCharts.shares($0, experts: summary.experts) }.joined() + "</div>"
    html += "<div class='wide below'><table><thead><tr><th>task</th>"
    html += summary.experts.map { "<th>\(HTML.escaped($0))</th>" }.joined()
    html += "<th>right answers by several experts</th></tr></thead><tbody>"
    let row = summary.rows.first { $0.method == summary.reference }
    for shares in summary.shares {
      html += "<tr><th>\(HTML.escaped(shares.task))</th>"
      html += shares.overall.map { "<td>\(HTML.percent($0)) %</td>" }.joined()
      let cell = row?.cells.first { $0.task == shares.task }
      html += "<td>\(cell?.passedWithSeveralExperts ?? 0) of \(cell?.passed ?? 0)</td></tr>"
    }
    return html + "</tbody></table></div>"
  }

  static func legend(_ experts: [String]) -> String {
    let tags = experts.enumerated().map { "<span class='tag \(ReportStyle.classes($0))'>\(HTML.escaped($1))</span>" }
    return "<p class='legend'>\(tags.joined())<span class='tag none'>router, or all experts</span></p>"
  }

  private static func changes(_ summary: EvaluationSummary) -> String {
    guard let before = summary.changesFrom, !summary.changes.isEmpty else { return "" }
    var html = "<h2>What \(HTML.escaped(summary.reference)) fixed and broke against \(HTML.escaped(before))</h2>"
    html += "<div class='wide'><table><thead><tr><th>task</th><th>fixed</th><th>broken</th></tr></thead><tbody>"
    for change in summary.changes {
      html +=
        "<tr><th>\(HTML.escaped(change.task))</th><td>\(change.fixed.count)</td><td>\(change.broken.count)</td></tr>"
    }
    return html + "</tbody></table></div>"
  }

  private static func tags(_ summary: EvaluationSummary) -> String {
    guard !summary.tags.isEmpty else { return "" }
    var html = "<h2>By tag</h2>"
    for task in summary.tasks {
      let rows = summary.tags.filter { $0.task == task }
      guard !rows.isEmpty else { continue }
      html += "<details><summary>\(HTML.escaped(task))</summary><div class='wide'><table><thead><tr><th>tag</th>"
      html += "<th>prompts</th>" + summary.rows.map { "<th>\(HTML.escaped($0.method))</th>" }.joined()
      html += "</tr></thead><tbody>"
      for row in rows {
        html += "<tr><th>\(HTML.escaped("\(row.tag.name): \(row.tag.value)"))</th><td>\(row.count)</td>"
        html += row.accuracies.map { "<td>\($0.map(HTML.percent) ?? "–")</td>" }.joined() + "</tr>"
      }
      html += "</tbody></table></div></details>"
    }
    return html
  }
}

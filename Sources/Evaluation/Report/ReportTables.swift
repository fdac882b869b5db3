internal import Core

/// Tables of the report.
enum ReportTables {
  /// Opens what a table stands in. It scrolls by itself where the window is narrow, with the keyboard too.
  private static func wide(below: Bool = false) -> String {
    "<div class='wide\(below ? " below" : "")' tabindex='0' role='group' aria-label='table'>"
  }

  // MARK: Right answers

  static func accuracies(_ summary: EvaluationSummary) -> String {
    var head = ["method", "prompts"] + summary.tasks
    let several = summary.averaged.count > 1
    if several { head.append("mean") }
    var html = "<h2>Right answers</h2>\(wide())<table><thead><tr>"
    html += head.map { "<th>\(HTML.escaped($0))</th>" }.joined()
    html += "<th>\(HTML.escaped(summary.reference)) − method</th><th>only one right</th><th>tokens/s</th>"
    html +=
      "<th>evaluations of experts<small>per token</small></th><th>of router or own model<small>per token</small></th>"
    html += "<th>tokens<small>per answer</small></th></tr></thead><tbody>"
    for row in summary.rows {
      html += "<tr\(row.method == summary.reference ? " class='reference'" : "")><th>\(HTML.escaped(row.method))</th>"
      html += prompts(row) + row.cells.map(cell).joined()
      if several {
        html +=
          "<td>\(row.average.map(HTML.percent) ?? "–")\(small(row.averageInterval))\(spread(row.averageSpread))</td>"
      }
      html += comparison(row.comparison) + cost(row.cost) + "</tr>"
    }
    return html + "</tbody></table></div>" + note(summary)
  }

  private static func note(_ summary: EvaluationSummary) -> String {
    let left = summary.tasks.filter { !summary.averaged.contains($0) }
    let outside = left.isEmpty ? "" : " Not in the mean: \(left.joined(separator: ", "))."
    let interleaved = summary.rows.contains { $0.cost.interleaved > 0 }
    let speeds = interleaved ? " After ~ it tells little, since methods ran at once." : ""
    return """
      <p class='note'>Percentages of right answers with 95 % bootstrap intervals over prompts \
      (\(summary.bootstrap.resamples) resamples, seed \(summary.bootstrap.seed)): how far other prompts of the same kinds would move \
      them, not other kinds of prompts nor another training run. Where all of n answers are right, or all wrong, the interval has no \
      width, and yet a share of 3/n of the others is plausible. The difference is that of the means, on the \
      prompts that both answered, with the interval and p of the paired bootstrap; beside it the prompts that only \
      \(HTML.escaped(summary.reference)) and that only the method got right, with the p of McNemar’s exact test. Of a mean of \
      several methods ± is the standard deviation between them, with the lowest and the highest. Tokens/s is the speed of all answers \
      that are under way together; for methods that choose among answers, the time of all of them counts.\(speeds) Evaluations are \
      tokens that went through models, prompts included, for each token of the answer; + are those of a reward \
      model.\(HTML.escaped(outside))</p>
      """
  }

  private static func prompts(_ row: EvaluationSummary.Row) -> String {
    let counts = row.cells.map(\.count)
    let text =
      Set(counts).count == 1 && counts.count > 1
      ? "\(counts.count) × \(counts[0])" : counts.map(String.init).joined(separator: " + ")
    return "<td>\(text)\(row.missing > 0 ? "<small class='bad'>\(row.missing) missing</small>" : "")</td>"
  }

  private static func small(_ interval: Interval?) -> String {
    guard let interval else { return "" }
    return "<small>\(HTML.percent(interval.lower))–\(HTML.percent(interval.upper))</small>"
  }

  private static func spread(_ spread: EvaluationSummary.Spread?) -> String {
    guard let spread else { return "" }
    let range = "\(HTML.percent(spread.lowest)) … \(HTML.percent(spread.highest))"
    return "<small>± \(HTML.percent(spread.deviation)) (\(range))</small>"
  }

  private static func cell(_ cell: EvaluationSummary.Cell) -> String {
    guard let accuracy = cell.accuracy else { return "<td>–</td>" }
    let parts = cell.parts.map { "\($0.name) \(HTML.percent($0.share))" }
    var title = "\(cell.passed) of \(cell.answers)"
    if cell.passedWithSeveralExperts > 0 { title += "; \(cell.passedWithSeveralExperts) right ones by several experts" }
    let below = parts.isEmpty ? "" : "<small>\(HTML.escaped(parts.joined(separator: ", ")))</small>"
    return "<td title='\(HTML.escaped(title))'>\(HTML.percent(accuracy))\(small(cell.interval))\(spread(cell.spread))"
      + "\(below)</td>"
  }

  private static func comparison(_ comparison: EvaluationSummary.Comparison?) -> String {
    guard let comparison, let value = comparison.difference else { return "<td></td><td></td>" }
    return difference(
      value: value, interval: comparison.interval, more: comparison.pValue.map { ", p \(HTML.pValue($0))" } ?? "")
      + "<td>\(discordant(comparison.won, comparison.lost, comparison.signTest, comparison.count))</td>"
  }

  private static func difference(value: Double, interval: Interval?, more: String) -> String {
    let kind = interval.map { $0.lower > 0 ? "good" : $0.upper < 0 ? "bad" : "" } ?? ""
    var html = "<td class='\(kind)'>\(HTML.points(value))"
    if let interval {
      html += "<small>\(HTML.points(interval.lower)) … \(HTML.points(interval.upper))\(more)</small>"
    }
    return html + "</td>"
  }

  private static func discordant(_ won: Int, _ lost: Int, _ pValue: Double?, _ count: Int) -> String {
    let test = pValue.map { "p \(HTML.pValue($0)), " } ?? ""
    return "\(won) : \(lost)<small>\(test)n \(count)</small>"
  }

  private static func cost(_ cost: EvaluationSummary.Cost) -> String {
    func number(_ value: Double?, _ places: Int) -> String { value.map { HTML.decimal($0, places) } ?? "–" }
    let reward = cost.rewardEvaluations > 0 ? " + \(number(cost.perToken(cost.rewardEvaluations), 1))" : ""
    let cut = cost.cut > 0 ? "<small>\(cost.cut) cut off</small>" : ""
    return "<td>\(cost.interleaved > 0 ? "~\u{2009}" : "")\(number(cost.tokensPerSecond, 1))</td>"
      + "<td>\(number(cost.perToken(cost.expertEvaluations), 2))\(reward)</td>"
      + "<td>\(number(cost.perToken(cost.routerEvaluations), 2))</td>"
      + "<td>\(number(cost.tokensPerAnswer, 0))\(cut)</td>"
  }

  // MARK: What rows are

  static func descriptions(_ summary: EvaluationSummary) -> String {
    let rows = summary.rows.compactMap { row in
      summary.descriptions[row.method].map {
        "<tr><th>\(HTML.escaped(row.method))</th><td>\(HTML.escaped($0))</td></tr>"
      }
    }
    guard !rows.isEmpty else { return "" }
    return "<details><summary>What each method is</summary>\(wide())<table class='words'><tbody>"
      + rows.joined() + "</tbody></table></div></details>"
  }

  // MARK: Differences

  /// - Parameter links: whether the page has answers that numbers can lead to.
  static func differences(_ summary: EvaluationSummary, links: Bool) -> String {
    // A mean has no answers.
    let leads = links && summary.rows.contains { $0.method == summary.reference && !$0.isMean }
    let several = summary.averaged.count > 1
    var html = "\(wide(below: true))<table><thead><tr><th>\(HTML.escaped(summary.reference)) minus</th>"
    html += summary.averaged.map { "<th>\(HTML.escaped($0))</th>" }.joined()
    html += "\(several ? "<th>mean</th>" : "")</tr></thead><tbody>"
    for row in summary.rows {
      guard let comparison = row.comparison else { continue }
      html += "<tr><th>\(HTML.escaped(row.method))</th>"
      for task in summary.averaged {
        guard let found = comparison.tasks.first(where: { $0.task == task }) else {
          html += "<td>–</td>"
          continue
        }
        let pValue = found.signTest.map { ", p \(HTML.pValue($0))" } ?? ""
        let won = link("\(found.won)", task, row.method, "won", if: leads && !row.isMean)
        let lost = link("\(found.lost)", task, row.method, "lost", if: leads && !row.isMean)
        let more = "<br>\(won) : \(lost)"
        html += difference(value: found.difference, interval: found.interval, more: more + pValue)
      }
      if several {
        html +=
          comparison.difference.map {
            difference(
              value: $0, interval: comparison.interval, more: comparison.pValue.map { ", p \(HTML.pValue($0))" } ?? "")
          } ?? "<td>–</td>"
      }
      html += "</tr>"
    }
    return html + """
      </tbody></table></div><p class='note'>Points, on the prompts that both answered, with the interval of the paired bootstrap; below, \
      the prompts that only \(HTML.escaped(summary.reference)) and that only the method got right, with the p of McNemar’s exact test; of \
      the mean, the p of the bootstrap.</p>
      """
  }

  /// A link to the answers behind a number; the browser of answers reads what follows #.
  private static func link(
    _ text: String, _ task: String, _ method: String, _ outcome: String, if leads: Bool
  ) -> String {
    guard leads else { return HTML.escaped(text) }
    let target = "#task=\(encoded(task))&with=\(encoded(method))&show=\(outcome)"
    return "<a href='\(HTML.escaped(target))'>\(HTML.escaped(text))</a>"
  }

  /// For a part of a URL's fragment, as encodeURIComponent does.
  static func encoded(_ text: String) -> String {
    let plain = Set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~".utf8)
    let digits = Array("0123456789ABCDEF".utf8)
    return String(
      decoding: text.utf8.flatMap { byte -> [UInt8] in
        plain.contains(byte) ? [byte] : [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
      }, as: UTF8.self)
  }

  // MARK: Break-downs

  static func shares(_ summary: EvaluationSummary) -> String {
    var html = "\(wide(below: true))<table><thead><tr><th>task</th>"
    html += summary.experts.map { "<th>\(HTML.escaped($0))</th>" }.joined()
    html += "<th>right answers by several experts</th><th>tokens of other experts<small>in those</small></th>"
    html += "</tr></thead><tbody>"
    let row = summary.rows.first { $0.method == summary.reference }
    for shares in summary.shares {
      html += "<tr><th>\(HTML.escaped(shares.task))</th>"
      html += shares.overall.map { "<td>\(HTML.percent($0)) %</td>" }.joined()
      let cell = row?.cells.first { $0.task == shares.task }
      let (several, passed) = (cell?.passedWithSeveralExperts ?? 0, cell?.passed ?? 0)
      let share = passed > 0 ? "<small>\(HTML.percent(Double(several) / Double(passed))) %</small>" : ""
      html += "<td>\(several) of \(passed)\(share)</td>"
      html += "<td>\(cell?.shareOfOtherExperts.map { "\(HTML.percent($0)) %" } ?? "–")</td></tr>"
    }
    return html + """
      </tbody></table></div><p class='note'>Of the tokens that show: blanks and the end of the text, which any expert would write, count for \
      nobody. The last column is the mean share that experts other than the answer’s leading one decided.</p>
      """
  }

  static func changes(_ summary: EvaluationSummary, links: Bool) -> String {
    summary.changes.map { changes in
      var html =
        "<h2>What \(HTML.escaped(summary.reference)) fixed and broke against \(HTML.escaped(changes.from))</h2>"
      html += "\(wide())<table><thead><tr><th>task</th><th>fixed</th><th>broken</th><th>net</th>"
      html += "<th>p<small>McNemar</small></th></tr></thead><tbody>"
      for change in changes.tasks {
        let net = change.fixed.count - change.broken.count
        html += "<tr><th>\(HTML.escaped(change.task))</th>"
        html += "<td>\(link("\(change.fixed.count)", change.task, changes.from, "won", if: links))</td>"
        html += "<td>\(link("\(change.broken.count)", change.task, changes.from, "lost", if: links))</td>"
        html += "<td>\(net > 0 ? "+" : "")\(net)</td><td>\(HTML.pValue(change.signTest))</td></tr>"
      }
      return html + "</tbody></table></div>"
    }.joined()
  }

  static func tags(_ summary: EvaluationSummary) -> String {
    guard !summary.tags.isEmpty else { return "" }
    var html = "<h2>By tag</h2>"
    for task in summary.tasks {
      let rows = summary.tags.filter { $0.task == task }
      guard !rows.isEmpty else { continue }
      html += "<details><summary>\(HTML.escaped(task))</summary>\(wide())<table><thead><tr><th>tag</th>"
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

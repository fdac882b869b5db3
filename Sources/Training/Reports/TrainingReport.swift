internal import Core
internal import Foundation

/// A run for people: one HTML file with curves, that needs nothing beside it.
public enum TrainingReport {
  /// Writes the report of the log at `log`.
  ///
  /// - Parameters:
  ///   - facts: what the run was, as pairs of a name and a text.
  ///   - experts: names in the order of the head's rows.
  public static func write(
    log: String, to path: String, title: String, facts: [(String, String)], experts: [String] = []
  ) throws {
    let html = page(RunLog.entries(log), title: title, facts: facts, experts: experts)
    var file = try AtomicFile(path: path)
    try file.write(Array(html.utf8))
    try file.commit()
  }

  static func page(
    _ entries: [JSONObject], title: String, facts: [(String, String)], experts: [String]
  ) -> String {
    let steps = entries.filter { $0["held_out"] == nil && $0["head_warmup"] == nil }
    let heldOut = entries.filter { $0["held_out"] != nil }
    let rows = facts.map { "<tr><th>\(HTML.escaped($0.0))</th><td>\(HTML.escaped($0.1))</td></tr>" }.joined()
    return """
      <!doctype html>
      <html lang='en'><head><meta charset='utf-8'><title>\(HTML.escaped(title))</title>
      <meta name='viewport' content='width=device-width'><style>\(style)</style></head><body><main>
      <h1>\(HTML.escaped(title))</h1><table>\(rows)</table>
      \(charts(steps, heldOut).map(\.svg).joined())
      \(pairs(heldOut.last))
      \(tables(heldOut.last ?? steps.last, isHeldOut: !heldOut.isEmpty, experts: experts))
      </main></body></html>

      """
  }

  private static let style = """
    body{font:15px/1.5 system-ui,sans-serif;max-width:44rem;margin:2rem auto;padding:0 1rem;color:#1f2328;background:#fff}
    h1{font-size:1.4rem}h2{font-size:1.1rem}table{border-collapse:collapse;margin:.5rem 0 1rem}
    th,td{padding:.15rem .75rem .15rem 0;text-align:left;vertical-align:top;font-weight:normal}th{color:#57606a}
    td.n{text-align:right;font-variant-numeric:tabular-nums}figure{margin:1.2rem 0}figcaption{font-weight:600}
    figcaption span{font-weight:normal;margin-left:1rem;white-space:nowrap}
    figcaption i{display:inline-block;width:.8em;height:.25em;margin-right:.35em;vertical-align:middle}
    svg{width:100%;height:auto}svg text{font-size:11px;fill:#57606a}.grid{stroke:#d8dee4;stroke-width:1}
    @media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}th,svg text{color:#9198a1;fill:#9198a1}
    .grid{stroke:#30363d}}
    """

  private static func number(_ value: JSONValue?) -> Double? {
    switch value {
    case .integer(let value): Double(value)
    case .number(let value): value
    default: nil
    }
  }

  private static func points(_ entries: [JSONObject], _ key: String) -> [(x: Double, y: Double)] {
    entries.compactMap { entry in
      guard let step = number(entry["step"]), let value = number(entry[key]) else { return nil }
      return (step, value)
    }
  }

  private static func charts(_ steps: [JSONObject], _ heldOut: [JSONObject]) -> [Chart] {
    func chart(_ title: String, _ lines: [(name: String, key: String)], isShare: Bool = false) -> Chart? {
      var series = lines.map { Chart.Series(name: $0.name, points: points(steps, $0.key)) }
      series += lines.map {
        Chart.Series(name: "\($0.name), held out", points: points(heldOut, $0.key), isSparse: true)
      }
      series.removeAll { $0.points.isEmpty }
      return series.isEmpty ? nil : Chart(title: title, series: series, isShare: isShare)
    }
    return [
      chart("Loss", [("loss", "loss")]), chart("Language model loss, nats per response token", [("loss", "lm")]),
      chart("Routing loss, nats per token of S", [("loss", "route"), ("floor", "route_floor")]),
      chart("Routing accuracy on S", [("accuracy", "routing_accuracy")], isShare: true),
      chart("Entropy of the routing weights, nats", [("entropy", "routing_entropy")]),
      chart("Preference loss", [("loss", "preference")]),
      chart(
        "Pairs", [("preferred", "preference_accuracy"), ("settled", "settled"), ("reselected", "reselected")],
        isShare: true),
      chart("Margin ℓ", [("mean", "margin")]), chart("Norm of the gradient", [("norm", "gradient_norm")]),
      chart("Learning rate", [("rate", "rate")]), chart("Tokens per second", [("tokens/s", "tokens_per_second")]),
      chart("Padding, share of the tokens computed", [("share", "padding")], isShare: true),
    ].compactMap { $0 }
  }

  private static func integers(_ value: JSONValue?) -> [Int] {
    guard case .array(let values)? = value else { return [] }
    return values.compactMap { if case .integer(let value) = $0 { Int(value) } else { nil } }
  }

  /// Pairs in the right order, by task.
  private static func pairs(_ heldOut: JSONObject?) -> String {
    guard case .object(let tasks)? = heldOut?["pairs_by_task"] else { return "" }
    let rows = tasks.members.compactMap { name, value -> String? in
      guard case .object(let counts) = value, let pairs = number(counts["pairs"]), pairs > 0,
        let preferred = number(counts["preferred"])
      else { return nil }
      return "<tr><th>\(HTML.escaped(name))</th><td class='n'>\(Int(preferred)) of \(Int(pairs))</td>"
        + "<td class='n'>\(String(format: "%.1f", 100 * preferred / pairs)) %</td></tr>"
    }
    return "<h2>Held-out pairs in the right order at the end</h2><table>\(rows.joined())</table>"
  }

  /// Share of tokens per expert, and the confusion of routed against best expert.
  private static func tables(_ entry: JSONObject?, isHeldOut: Bool, experts: [String]) -> String {
    let selected = integers(entry?["selected"])
    let confusion = integers(entry?["confusion"])
    guard !selected.isEmpty, selected.count == experts.count, confusion.count == experts.count * experts.count else {
      return ""
    }
    let place = isHeldOut ? "on held-out data at the end" : "in the last step"
    let total = max(1, selected.reduce(0, +))
    var html = "<h2>Tokens per expert, \(place)</h2><table>"
    for (name, count) in zip(experts, selected) {
      let share = 100 * Double(count) / Double(total)
      html += "<tr><th>\(HTML.escaped(name))</th><td class='n'>\(count)</td>"
      html += "<td class='n'>\(String(format: "%.1f", share)) %</td></tr>"
    }
    html += "</table><h2>Routed expert (rows) against best expert (columns) on S, \(place)</h2><table><tr><th></th>"
    html += experts.map { "<th>\(HTML.escaped($0))</th>" }.joined() + "</tr>"
    for (row, name) in experts.enumerated() {
      html += "<tr><th>\(HTML.escaped(name))</th>"
      html += experts.indices.map { "<td class='n'>\(confusion[row * experts.count + $0])</td>" }.joined() + "</tr>"
    }
    return html + "</table>"
  }
}

internal import Core

/// Plots as inline SVG, whose colours are the style sheet's.
enum ReportCharts {
  private static let width = 460.0
  private static let rowHeight = 18.0

  /// Accuracy on one task: a dot for each method, a line for its interval.
  static func accuracies(_ summary: EvaluationSummary, task: String) -> String {
    let rows = summary.rows.compactMap { row in
      row.cells.first { $0.task == task && $0.count > 0 }.map { (row.method, $0) }
    }
    guard !rows.isEmpty else { return "" }
    let names = min(24, rows.map(\.0.count).max() ?? 0)
    let left = Double(names) * 6.4 + 12
    let plot = width - left - 46
    func x(_ share: Double) -> Double { left + max(0, min(1, share)) * plot }
    let height = Double(rows.count) * rowHeight + 26
    var body = ""
    for tick in stride(from: 0.0, through: 1, by: 0.25) {
      body += "<line class='grid' x1='\(n(x(tick)))' x2='\(n(x(tick)))' y1='4' y2='\(n(height - 20))'/>"
      body +=
        "<text class='axis' x='\(n(x(tick)))' y='\(n(height - 6))' text-anchor='middle'>\(Int(tick * 100))\u{2009}%</text>"
    }
    for (index, (method, cell)) in rows.enumerated() {
      guard let accuracy = cell.accuracy else { continue }
      let y = (Double(index) + 0.5) * rowHeight + 4
      body += "<text x='\(n(left - 8))' y='\(n(y + 4))' text-anchor='end'>\(HTML.escaped(clipped(method)))</text>"
      if let interval = cell.interval {
        body +=
          "<line class='whisker' x1='\(n(x(interval.lower)))' x2='\(n(x(interval.upper)))' y1='\(n(y))' y2='\(n(y))'/>"
      }
      let expert = summary.experts.firstIndex(of: method)
      let kind =
        method == summary.reference ? "dot reference" : expert.map { "c\($0 % ReportStyle.expertColours)" } ?? "dot"
      let label = "\(method): \(HTML.percent(accuracy)) % of \(cell.count)"
      body +=
        "<circle class='\(kind)' cx='\(n(x(accuracy)))' cy='\(n(y))' r='4.5'><title>\(HTML.escaped(label))</title></circle>"
      body +=
        "<text class='axis' x='\(n(width - 2))' y='\(n(y + 4))' text-anchor='end'>\(HTML.percent(accuracy))</text>"
    }
    return figure("\(task)", body, height: height, label: "Accuracy of each method on \(task)")
  }

  /// The reference minus each method on one task, or of the mean: a dot for each, a line for its interval.
  static func differences(_ summary: EvaluationSummary, task: String?) -> String {
    let rows: [(method: String, difference: Double, interval: Interval?, count: Int)] = summary.rows.compactMap { row in
      guard let comparison = row.comparison else { return nil }
      guard let task else {
        return comparison.difference.map { (row.method, $0, comparison.interval, comparison.count) }
      }
      return comparison.tasks.first { $0.task == task }.map { (row.method, $0.difference, $0.interval, $0.count) }
    }
    guard !rows.isEmpty else { return "" }
    let ends = rows.flatMap {
      [$0.difference, $0.interval?.lower ?? $0.difference, $0.interval?.upper ?? $0.difference]
    }
    let (low, high) = (min(0, ends.min() ?? 0), max(0.01, ends.max() ?? 0))
    let left = Double(min(24, rows.map(\.method.count).max() ?? 0)) * 6.4 + 12
    let plot = width - left - 46
    func x(_ points: Double) -> Double { left + (points - low) / (high - low) * plot }
    let height = Double(rows.count) * rowHeight + 26
    let step = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5].first { (high - low) / $0 <= 6 } ?? 1
    var body = ""
    for tick in Int((low / step).rounded(.up))...Int((high / step).rounded(.down)) {
      let place = x(Double(tick) * step)
      let kind = tick == 0 ? "zero" : "grid"
      body += "<line class='\(kind)' x1='\(n(place))' x2='\(n(place))' y1='4' y2='\(n(height - 20))'/>"
      let label = Int((Double(tick) * step * 100).rounded())
      body +=
        "<text class='axis' x='\(n(place))' y='\(n(height - 6))' text-anchor='middle'>\(label > 0 ? "+" : "")\(label)</text>"
    }
    for (index, row) in rows.enumerated() {
      let y = (Double(index) + 0.5) * rowHeight + 4
      body += "<text x='\(n(left - 8))' y='\(n(y + 4))' text-anchor='end'>\(HTML.escaped(clipped(row.method)))</text>"
      var label = "\(row.method): \(HTML.points(row.difference)) points"
      if let interval = row.interval {
        body +=
          "<line class='whisker' x1='\(n(x(interval.lower)))' x2='\(n(x(interval.upper)))' y1='\(n(y))' y2='\(n(y))'/>"
        label += ", \(HTML.points(interval.lower)) … \(HTML.points(interval.upper)), \(row.count) prompts"
      }
      // Hollow where the interval holds zero, so that it is told without colour.
      let kind = row.interval.map { $0.lower > 0 ? "above" : $0.upper < 0 ? "below" : "neither" } ?? "neither"
      body += "<circle class='dot \(kind)' cx='\(n(x(row.difference)))' cy='\(n(y))' r='4.5'>"
      body += "<title>\(HTML.escaped(label))</title></circle>"
      body +=
        "<text class='axis' x='\(n(width - 2))' y='\(n(y + 4))' text-anchor='end'>\(HTML.points(row.difference))</text>"
    }
    let title = task ?? "mean"
    return figure(title, body, height: height, label: "\(summary.reference) minus each method, in points: \(title)")
  }

  /// Share of the experts in each tenth of the answers, stacked.
  static func shares(_ shares: EvaluationSummary.Shares, experts: [String]) -> String {
    let (left, top, plot, height) = (40.0, 6.0, width - 50, 150.0)
    let bar = plot / Double(EvaluationSummary.Shares.bins)
    var body = ""
    for tick in [0.0, 0.5, 1] {
      let y = top + (1 - tick) * height
      body += "<line class='grid' x1='\(n(left))' x2='\(n(left + plot))' y1='\(n(y))' y2='\(n(y))'/>"
      body +=
        "<text class='axis' x='\(n(left - 6))' y='\(n(y + 4))' text-anchor='end'>\(Int(tick * 100))\u{2009}%</text>"
    }
    for (bin, row) in shares.byPosition.enumerated() {
      var base = 0.0
      for (expert, share) in row.enumerated() where share > 0 {
        let y = top + (1 - base - share) * height
        let label = "\(experts[expert]), tenth \(bin + 1): \(HTML.percent(share)) %"
        // A line of the page's colour between the parts, so that they are told apart without colour too.
        body +=
          "<rect class='c\(expert % ReportStyle.expertColours)' x='\(n(left + Double(bin) * bar + 1.5))' y='\(n(y))' "
        body += "width='\(n(bar - 3))' height='\(n(share * height))' stroke='var(--surface)'>"
        body += "<title>\(HTML.escaped(label))</title></rect>"
        base += share
      }
    }
    body += "<text class='axis' x='\(n(left))' y='\(n(top + height + 16))'>start of the answers</text>"
    body += "<text class='axis' x='\(n(left + plot))' y='\(n(top + height + 16))' text-anchor='end'>end</text>"
    return figure(shares.task, body, height: top + height + 22, label: "Experts along the answers to \(shares.task)")
  }

  private static func figure(_ title: String, _ body: String, height: Double, label: String) -> String {
    """
    <figure><figcaption>\(HTML.escaped(title))</figcaption>\
    <svg viewBox='0 0 \(n(width)) \(n(height))' role='img' aria-label='\(HTML.escaped(label))'>\(body)</svg></figure>

    """
  }

  private static func clipped(_ text: String) -> String { text.count > 24 ? text.prefix(23) + "…" : text }

  private static func n(_ value: Double) -> String { HTML.decimal(value, 1) }
}

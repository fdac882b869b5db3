internal import Core
internal import Foundation

/// A line chart as SVG.
struct Chart {
  struct Series {
    var name: String
    var points: [(x: Double, y: Double)]
    /// Measured seldom: shown with marks.
    var isSparse = false
  }

  static let colours = ["#1f6feb", "#d1242f", "#1a7f37", "#8250df", "#9a6700", "#57606a"]
  private static let size = (width: 640.0, height: 240.0)
  private static let margin = (left: 56.0, right: 12.0, top: 10.0, bottom: 26.0)

  var title: String
  var series: [Series]
  /// Shown from 0 to 1 as percentages.
  var isShare = false

  var svg: String {
    let points = series.flatMap(\.points).filter { $0.x.isFinite && $0.y.isFinite }
    guard let left = points.map(\.x).min(), let right = points.map(\.x).max() else { return "" }
    var (low, high) = isShare ? (0, 1) : (points.map(\.y).min() ?? 0, points.map(\.y).max() ?? 1)
    if high - low < 1e-12 { (low, high) = (low - 0.5, high + 0.5) }
    let width = Self.size.width - Self.margin.left - Self.margin.right
    let height = Self.size.height - Self.margin.top - Self.margin.bottom
    func x(_ value: Double) -> Double { Self.margin.left + (value - left) / max(1e-12, right - left) * width }
    func y(_ value: Double) -> Double { Self.margin.top + (high - value) / (high - low) * height }
    var body = ""
    for tick in Self.ticks(low, high) {
      let label = isShare ? "\(Int((tick * 100).rounded())) %" : Self.text(tick)
      body += "<line x1='\(Self.margin.left)' x2='\(Self.size.width - Self.margin.right)' y1='\(Self.text(y(tick)))' "
      body += "y2='\(Self.text(y(tick)))' class='grid'/>"
      body += "<text x='\(Self.margin.left - 6)' y='\(Self.text(y(tick) + 4))' text-anchor='end'>\(label)</text>"
    }
    for tick in Self.ticks(left, right) where tick == tick.rounded() {
      body += "<text x='\(Self.text(x(tick)))' y='\(Self.size.height - 8)' text-anchor='middle'>\(Int(tick))</text>"
    }
    for (index, line) in series.enumerated() {
      let colour = Self.colours[index % Self.colours.count]
      let shown = line.points.filter { $0.x.isFinite && $0.y.isFinite }.map { (x: x($0.x), y: y($0.y)) }
      let path = Self.thinned(shown).map { "\(Self.text($0.x)),\(Self.text($0.y))" }.joined(separator: " ")
      body += "<polyline points='\(path)' fill='none' stroke='\(colour)' stroke-width='1.5'/>"
      guard line.isSparse || shown.count == 1 else { continue }
      for point in shown {
        body += "<circle cx='\(Self.text(point.x))' cy='\(Self.text(point.y))' r='2.5' fill='\(colour)'/>"
      }
    }
    let legend = series.enumerated().map { index, line in
      "<span><i style='background:\(Self.colours[index % Self.colours.count])'></i>\(HTML.escaped(line.name))</span>"
    }.joined()
    let label = HTML.escaped("\(title) over steps")
    return """
      <figure><figcaption>\(HTML.escaped(title)) \(legend)</figcaption>
      <svg viewBox='0 0 \(Int(Self.size.width)) \(Int(Self.size.height))' role='img' aria-label='\(label)'>\(body)</svg>
      </figure>

      """
  }

  /// At most as many points as the chart has columns: of each column the lowest and the highest.
  private static func thinned(_ points: [(x: Double, y: Double)]) -> [(x: Double, y: Double)] {
    let limit = Int(size.width)
    guard points.count > 2 * limit else { return points }
    let columns = Dictionary(grouping: points.indices) { Int(points[$0].x) }
    return columns.keys.sorted().flatMap { column -> [(x: Double, y: Double)] in
      let all = columns[column] ?? []
      let extremes = [all.min { points[$0].y < points[$1].y }, all.max { points[$0].y < points[$1].y }]
      return Set(extremes.compactMap { $0 }).sorted().map { points[$0] }
    }
  }

  /// Round numbers within a range, about five.
  static func ticks(_ low: Double, _ high: Double) -> [Double] {
    let rough = (high - low) / 5
    guard rough > 0, rough.isFinite else { return [low] }
    let power = pow(10, floor(log10(rough)))
    let step = [1, 2, 5, 10].map { $0 * power }.first { $0 >= rough } ?? 10 * power
    let first = (low / step).rounded(.up)
    return stride(from: first, through: (high / step).rounded(.down) + 0.5, by: 1).map { $0 * step }
  }

  static func text(_ value: Double) -> String {
    if value == value.rounded(), abs(value) < 1e6 { return String(Int(value)) }
    return String(format: abs(value) >= 100 ? "%.0f" : abs(value) >= 1 ? "%.2f" : "%.3g", value)
  }
}

/// Prometheus' text format, version 0.0.4.
struct PrometheusText {
  enum Kind: String {
    case counter
    case gauge
    case histogram
  }

  static let contentType = "text/plain; version=0.0.4; charset=utf-8"

  private(set) var text = ""
  private var name = ""

  /// Begins the samples of one name.
  mutating func family(_ name: String, _ kind: Kind, _ help: String) {
    self.name = name
    text += "# HELP \(name) \(help)\n# TYPE \(name) \(kind.rawValue)\n"
  }

  mutating func sample(_ value: some FixedWidthInteger, _ labels: [(String, String)] = []) {
    line(name, labels, String(value))
  }

  mutating func sample(_ value: Double, _ labels: [(String, String)] = []) { line(name, labels, "\(value)") }

  mutating func sample(_ histogram: Histogram, _ labels: [(String, String)] = []) {
    var below: UInt64 = 0
    for (bound, count) in zip(histogram.bounds, histogram.counts) {
      below += count
      line(name + "_bucket", labels + [("le", "\(bound)")], String(below))
    }
    line(name + "_bucket", labels + [("le", "+Inf")], String(histogram.count))
    line(name + "_sum", labels, "\(histogram.sum)")
    line(name + "_count", labels, String(histogram.count))
  }

  /// A name with one sample.
  mutating func single(_ name: String, _ kind: Kind, _ help: String, _ value: some FixedWidthInteger) {
    family(name, kind, help)
    sample(value)
  }

  mutating func single(_ name: String, _ kind: Kind, _ help: String, _ value: Double) {
    family(name, kind, help)
    sample(value)
  }

  private mutating func line(_ name: String, _ labels: [(String, String)], _ value: String) {
    let set = labels.map { "\($0)=\"\(Self.escaped($1))\"" }.joined(separator: ",")
    text += set.isEmpty ? "\(name) \(value)\n" : "\(name){\(set)} \(value)\n"
  }

  private static func escaped(_ value: String) -> String {
    // By scalars: a quote may be part of a Character.
    value.unicodeScalars.reduce(into: "") { result, scalar in
      switch scalar {
      case "\\": result += #"\\"#
      case "\"": result += #"\""#
      case "\n": result += #"\n"#
      default: result.unicodeScalars.append(scalar)
      }
    }
  }
}

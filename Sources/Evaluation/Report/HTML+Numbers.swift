internal import Core

extension HTML {
  /// A share as a percentage: `43.2`.
  static func percent(_ share: Double) -> String { decimal(100 * share, 1) }

  /// A difference of shares in points, with its sign: `+4.0`.
  static func points(_ difference: Double) -> String {
    let text = decimal(100 * difference, 1)
    return difference > 0 && text != "0.0" ? "+\(text)" : text == "-0.0" ? "0.0" : text
  }

  static func pValue(_ value: Double) -> String { value < 0.001 ? "<\u{2009}0.001" : decimal(value, 3) }

  /// A number with a fixed number of decimals.
  static func decimal(_ value: Double, _ places: Int) -> String {
    guard value.isFinite, abs(value) < 1e15 else { return "–" }
    var power = 1.0
    for _ in 0..<places { power *= 10 }
    let whole = (abs(value) * power).rounded()
    let digits = String(Int(whole))
    let padded = String(repeating: "0", count: max(0, places + 1 - digits.count)) + digits
    let sign = value < 0 ? "-" : ""
    return places == 0 ? sign + padded : sign + padded.dropLast(places) + "." + padded.suffix(places)
  }
}

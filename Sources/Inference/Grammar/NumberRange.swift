/// The decimal numbers between two bounds, both included, as JSON without exponent.
///
/// Bounds are scaled by 10^fraction, so that an excluded bound is the next number inwards that can be written.
struct NumberRange {
  /// Digits after the point at most; 0: integers, without a point.
  let fraction: Int
  let least: Int128
  let most: Int128

  /// The largest number that is written: 999…9.99…9.
  static func largest(fraction: Int) -> Int128 { power(GrammarLimits.integerDigits + fraction) - 1 }

  static func power(_ exponent: Int) -> Int128 { (0..<exponent).reduce(Int128(1)) { power, _ in power * 10 } }

  /// nil if no number lies between the bounds.
  var regex: Regex? {
    var choices: [Regex] = []
    if least < 0 {
      choices += magnitudes(from: max(1, -most), to: min(-least, Self.largest(fraction: fraction))).map {
        .sequence([.text("-"), $0])
      }
    }
    if most >= 0 { choices += magnitudes(from: max(0, least), to: min(most, Self.largest(fraction: fraction))) }
    return choices.isEmpty ? nil : .choice(choices)
  }

  private func magnitudes(from least: Int128, to most: Int128) -> [Regex] {
    guard least <= most else { return [] }
    var choices: [Regex] = []
    let shortest = wholeDigits(least)
    let longest = wholeDigits(most)
    for count in Set([shortest, longest]).sorted() {
      let low = count == shortest ? digits(least, whole: count) : digits(Self.power(count - 1 + fraction), whole: count)
      let high = count == longest ? digits(most, whole: count) : [Int](repeating: 9, count: count + fraction)
      choices.append(Tail(whole: count, fraction: fraction, low: low, high: high).regex)
    }
    if longest - shortest > 1 {
      // Whatever has more digits than one bound and less than the other.
      let rest = Tail(whole: 1, fraction: fraction, index: 1)
      choices.append(
        .sequence([
          .digit(1...9), .repeated(.digit(0...9), least: shortest, most: longest - 2), rest.regex,
        ]))
    }
    return choices
  }

  /// How many digits stand before the point; 1 for 0.5.
  private func wholeDigits(_ value: Int128) -> Int { max(1, String(value / Self.power(fraction)).count) }

  private func digits(_ value: Int128, whole: Int) -> [Int] {
    let text = String(value)
    let digits = text.compactMap(\.wholeNumberValue)
    return [Int](repeating: 0, count: whole + fraction - digits.count) + digits
  }
}

/// The digits of a number from one position on, as far as the bounds still bind them.
private struct Tail {
  let whole: Int
  let fraction: Int
  var index = 0
  /// nil: an earlier digit has decided that the number lies on the right side.
  var low: [Int]?
  var high: [Int]?

  var regex: Regex {
    guard index < whole + fraction else { return .empty }
    // Without bounds only the position matters.
    return low == nil && high == nil ? .shared((whole - index) * 100 + fraction, rest) : rest
  }

  private var rest: Regex {
    guard index >= whole else { return digit }
    let more: Regex = index == whole ? .sequence([.text("."), digit]) : digit
    // Digits after the point may be left out where zeros stand for them.
    return low?[index...].allSatisfy { $0 == 0 } ?? true ? .choice([.empty, more]) : more
  }

  private var digit: Regex {
    let least = low?[index] ?? 0
    let most = high?[index] ?? 9
    if low != nil, high != nil, least == most { return branch(least...least, low: low, high: high) }
    var choices: [Regex] = []
    if low != nil { choices.append(branch(least...least, low: low, high: nil)) }
    if high != nil { choices.append(branch(most...most, low: nil, high: high)) }
    let (first, last) = (low == nil ? least : least + 1, high == nil ? most : most - 1)
    if first <= last { choices.append(branch(first...last, low: nil, high: nil)) }
    return .choice(choices)
  }

  private func branch(_ digits: ClosedRange<Int>, low: [Int]?, high: [Int]?) -> Regex {
    .sequence([
      .digit(digits), Tail(whole: whole, fraction: fraction, index: index + 1, low: low, high: high).regex,
    ])
  }
}

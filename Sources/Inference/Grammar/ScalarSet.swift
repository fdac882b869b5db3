/// A set of Unicode scalar values, without surrogates: ranges in ascending order with gaps between them.
struct ScalarSet: Hashable {
  private(set) var ranges: [ClosedRange<UInt32>]

  static let all = ScalarSet([0...0xD7FF, 0xE000...0x10FFFF])
  static let digits = ScalarSet(["0"..."9"])
  static let wordCharacters = ScalarSet(["0"..."9", "A"..."Z", "_"..."_", "a"..."z"])
  /// What `\s` means to every engine, of the characters that JSON has a short escape for.
  static let spaces = ScalarSet([0x09...0x0A, 0x0C...0x0D, 0x20...0x20])
  static let printableASCII = ScalarSet([0x20...0x7E])
  static let lineEnds = ScalarSet([0x0A...0x0A, 0x0D...0x0D, 0x2028...0x2029])

  init(_ ranges: [ClosedRange<UInt32>] = []) {
    var sorted: [ClosedRange<UInt32>] = []
    for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
      if let last = sorted.last, range.lowerBound <= last.upperBound &+ 1 {
        sorted[sorted.count - 1] = last.lowerBound...max(last.upperBound, range.upperBound)
      } else {
        sorted.append(range)
      }
    }
    self.ranges = sorted
  }

  init(_ ranges: [ClosedRange<Unicode.Scalar>]) {
    self.init(ranges.map { $0.lowerBound.value...$0.upperBound.value })
  }

  init(_ scalar: Unicode.Scalar) { self.init([scalar.value...scalar.value]) }

  var isEmpty: Bool { ranges.isEmpty }

  /// The only member; nil if there are none or several.
  var only: Unicode.Scalar? {
    guard ranges.count == 1, ranges[0].count == 1 else { return nil }
    return Unicode.Scalar(ranges[0].lowerBound)
  }

  func contains(_ scalar: UInt32) -> Bool { ranges.contains { $0.contains(scalar) } }

  func union(_ other: Self) -> Self { Self(ranges + other.ranges) }

  func subtracting(_ other: Self) -> Self {
    var rest: [ClosedRange<UInt32>] = []
    for range in ranges {
      var low = range.lowerBound
      for cut in other.ranges where cut.upperBound >= range.lowerBound && cut.lowerBound <= range.upperBound {
        if cut.lowerBound > low { rest.append(low...(cut.lowerBound - 1)) }
        low = cut.upperBound + 1
      }
      if low <= range.upperBound { rest.append(low...range.upperBound) }
    }
    return Self(rest)
  }

  func intersection(_ other: Self) -> Self { subtracting(Self.everything.subtracting(other)) }

  /// With surrogates, to complement against.
  private static let everything = ScalarSet([0...0x10FFFF])
}

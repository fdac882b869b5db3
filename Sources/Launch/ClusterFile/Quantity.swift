/// Sizes and durations as people write them.
public enum Quantity {
  private static let byteUnits: [(String, Int)] = [
    ("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000), ("KB", 1000), ("B", 1), ("", 1),
  ]
  // Nanoseconds.
  private static let timeUnits: [(String, Int64)] = [
    ("ms", 1_000_000), ("us", 1000), ("min", 60_000_000_000), ("s", 1_000_000_000), ("h", 3_600_000_000_000),
  ]

  /// Bytes of `80GiB`, `1.5GB` or `4096`; nil if it is no size or is above 2⁶².
  public static func bytes(_ text: String) -> Int? {
    guard let (value, factor) = split(text, units: byteUnits.map { ($0.0, Double($0.1)) }) else { return nil }
    let bytes = (value * factor).rounded()
    return bytes <= 0x1p62 ? Int(bytes) : nil
  }

  /// `500ms`, `1.5s`, `5min`, `2h`; nil if it is no duration or is longer than 30 days.
  public static func duration(_ text: String) -> Duration? {
    guard let (value, factor) = split(text, units: timeUnits.map { ($0.0, Double($0.1)) }) else { return nil }
    let nanoseconds = (value * factor).rounded()
    return nanoseconds <= 30 * 86_400 * 1e9 ? .nanoseconds(Int64(nanoseconds)) : nil
  }

  /// `1.5s` of a duration, exact in nanoseconds; what ``duration(_:)`` reads back.
  public static func text(_ duration: Duration) -> String {
    let nanoseconds = duration.nanoseconds
    if nanoseconds % 1_000_000_000 == 0 { return "\(nanoseconds / 1_000_000_000)s" }
    if nanoseconds % 1_000_000 == 0 { return "\(nanoseconds / 1_000_000)ms" }
    return "\(nanoseconds / 1000)us"
  }

  /// `1.5 GiB` of a number of bytes, rounded to a tenth.
  public static func text(bytes: UInt64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)]
    guard let (unit, shift) = units.first(where: { bytes >> UInt64($0.1) > 0 }) else { return "\(bytes) B" }
    let tenths = (Double(bytes) / Double(UInt64(1) << UInt64(shift)) * 10).rounded()
    return tenths.truncatingRemainder(dividingBy: 10) == 0
      ? "\(Int(tenths / 10)) \(unit)" : "\(tenths / 10) \(unit)"
  }

  private static func split(_ text: String, units: [(String, Double)]) -> (Double, Double)? {
    let digits = text.prefix { ("0"..."9").contains($0) || $0 == "." }
    let unit = text.dropFirst(digits.count).drop { $0 == " " }
    guard !digits.isEmpty, digits.first != ".", let value = Double(String(digits)), value.isFinite,
      let factor = units.first(where: { $0.0 == unit })?.1
    else { return nil }
    return (value, factor)
  }
}

/// Joins the bytes of token pieces into text: UTF-8 characters may be split over tokens.
///
/// The text given out, joined, is what `String(decoding:as:)` makes of all bytes: an invalid byte becomes U+FFFD, but only
/// once no later byte can make it valid.
public struct TextAssembler: Sendable {
  /// The start of a character whose end has not come.
  private var pending: [UInt8] = []

  public init() {}

  /// Text that is complete with these bytes; may be empty.
  public mutating func append(_ bytes: some Sequence<UInt8>) -> String {
    pending.append(contentsOf: bytes)
    let complete = pending.count - Self.unfinished(pending)
    let text = String(decoding: pending[..<complete], as: UTF8.self)
    pending.removeFirst(complete)
    return text
  }

  /// What is left at the end: U+FFFD if a character was cut off, else nothing.
  public mutating func finish() -> String {
    let text = String(decoding: pending, as: UTF8.self)
    pending = []
    return text
  }

  /// Length of the longest suffix, at most 3 bytes, that is a proper beginning of a valid character.
  private static func unfinished(_ bytes: [UInt8]) -> Int {
    for length in stride(from: min(3, bytes.count), through: 1, by: -1) where isBeginning(bytes.suffix(length)) {
      return length
    }
    return 0
  }

  /// Whether these 1 to 3 bytes begin a longer valid character (Unicode 15, table 3-7).
  private static func isBeginning(_ bytes: ArraySlice<UInt8>) -> Bool {
    let lead = bytes[bytes.startIndex]
    let length: Int
    var second: ClosedRange<UInt8> = 0x80...0xBF
    switch lead {
    case 0xC2...0xDF: length = 2
    case 0xE0: (length, second) = (3, 0xA0...0xBF)
    case 0xED: (length, second) = (3, 0x80...0x9F)
    case 0xE1...0xEF: length = 3
    case 0xF0: (length, second) = (4, 0x90...0xBF)
    case 0xF4: (length, second) = (4, 0x80...0x8F)
    case 0xF1...0xF3: length = 4
    default: return false
    }
    guard bytes.count < length else { return false }
    for (i, byte) in bytes.dropFirst().enumerated() {
      let valid = i == 0 ? second : 0x80...0xBF
      if !valid.contains(byte) { return false }
    }
    return true
  }
}

internal import Core

/// Finds stop strings in text that comes in pieces, and holds back only what may still become one.
///
/// The match that is complete first wins, and of those that end at the same byte the longest, so that the result does not
/// depend on how the text is cut into pieces. Strings match byte for byte.
public struct StopMatcher: Sendable {
  public struct Output: Sendable, Equatable {
    /// Text that is certainly not part of a stop string.
    public var text: String
    /// The stop string that ended the text; it is not part of `text`.
    public var matched: String?
  }

  /// One stop string, matched by Knuth, Morris and Pratt.
  private struct Pattern: Sendable {
    let text: String
    let bytes: [UInt8]
    /// failure[i]: length of the longest proper border of the first i + 1 bytes.
    let failure: [Int]
    /// Bytes of the pattern that the text so far ends with.
    var matched = 0

    init(_ text: String) {
      self.text = text
      bytes = Array(text.utf8)
      var failure = [Int](repeating: 0, count: bytes.count)
      var length = 0
      for i in bytes.indices.dropFirst() {
        while length > 0 && bytes[i] != bytes[length] { length = failure[length - 1] }
        if bytes[i] == bytes[length] { length += 1 }
        failure[i] = length
      }
      self.failure = failure
    }

    mutating func advance(_ byte: UInt8) {
      while matched > 0 && (matched == bytes.count || bytes[matched] != byte) { matched = failure[matched - 1] }
      if bytes[matched] == byte { matched += 1 }
    }
  }

  private var patterns: [Pattern]
  private var held: [UInt8] = []
  /// The stop string that was found; nothing comes after it.
  public private(set) var stopped: String?

  /// Throws `FusionRouteError.badInput` for an empty stop string.
  public init(_ stops: [String]) throws {
    if let index = stops.firstIndex(of: "") {
      throw FusionRouteError.badInput("stop string \(index + 1) of \(stops.count) is empty: leave it out")
    }
    patterns = stops.map(Pattern.init)
  }

  /// Text that may be given out now.
  public mutating func append(_ text: String) -> Output {
    if stopped != nil { return Output(text: "", matched: nil) }
    if patterns.isEmpty { return Output(text: text, matched: nil) }
    for byte in text.utf8 {
      held.append(byte)
      for i in patterns.indices { patterns[i].advance(byte) }
      let complete = patterns.filter { $0.matched == $0.bytes.count }
      if let longest = complete.max(by: { $0.bytes.count < $1.bytes.count }) {
        stopped = longest.text
        let before = String(decoding: held.dropLast(longest.bytes.count), as: UTF8.self)
        held = []
        return Output(text: before, matched: longest.text)
      }
    }
    let kept = patterns.map(\.matched).max() ?? 0
    let free = String(decoding: held.dropLast(kept), as: UTF8.self)
    held.removeFirst(held.count - kept)
    return Output(text: free, matched: nil)
  }

  /// What was held back, at the end of the text.
  public mutating func finish() -> String {
    let text = String(decoding: held, as: UTF8.self)
    held = []
    return text
  }
}

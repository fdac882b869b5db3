#if canImport(Darwin)
  internal import Darwin
#else
  internal import Glibc
#endif

/// Reads a descriptor line by line.
struct LineReader {
  private let descriptor: Int32
  private var buffer = [UInt8](repeating: 0, count: 65_536)
  private var unread = 0..<0
  private var isAtEnd = false
  private var left: Int

  /// - Parameter limit: bytes that are read at most.
  init(_ descriptor: Int32, limit: Int = .max) {
    self.descriptor = descriptor
    left = limit
  }

  /// The next line without its line feed, cut one byte above ``Prompt/maximumLineBytes``; nil at the end and when the
  /// descriptor cannot be read. Blocks.
  mutating func next() -> [UInt8]? {
    var line: [UInt8] = []
    while !isAtEnd {
      if let end = buffer[unread].firstIndex(of: UInt8(ascii: "\n")) {
        Self.append(buffer[unread.lowerBound..<end], to: &line)
        unread = end + 1..<unread.upperBound
        return line
      }
      Self.append(buffer[unread], to: &line)
      let count = read(descriptor, &buffer, min(left, buffer.count))
      unread = 0..<max(0, count)
      left -= unread.count
      if count == 0 || (count < 0 && errno != EINTR) { isAtEnd = true }
    }
    return line.isEmpty ? nil : line
  }

  private static func append(_ bytes: ArraySlice<UInt8>, to line: inout [UInt8]) {
    line += bytes.prefix(max(0, Prompt.maximumLineBytes + 1 - line.count))
  }
}

internal import Hummingbird

/// Frames server-sent events. Each is handed to the connection as one write, which waits while the client reads slower
/// than tokens come.
struct EventStreamWriter {
  private static let prefix = Array("data: ".utf8)
  private static let end = Array("\n\n".utf8)

  static func event(_ json: [UInt8]) -> ByteBuffer {
    var buffer = ByteBuffer()
    buffer.reserveCapacity(prefix.count + json.count + end.count)
    buffer.writeBytes(prefix)
    buffer.writeBytes(json)
    buffer.writeBytes(end)
    return buffer
  }

  /// Ends an answer of OpenAI's.
  static let done = event(Array("[DONE]".utf8))
  /// A line that clients skip.
  static let comment = ByteBuffer(string: ": waiting\n\n")
}

internal import Core

/// Reads a stream of server-sent events (WHATWG HTML, 9.2), however its bytes arrive.
struct EventStreamParser {
  struct Event: Sendable, Equatable {
    /// `message` unless the stream says otherwise.
    var type = "message"
    var data: String
  }

  /// Bytes that one event's data, or one line, may have.
  static let maximumBytes = 16 << 20

  private var line: [UInt8] = []
  private var type = ""
  private var data: [UInt8] = []
  private var hasData = false
  private var endsWithCarriageReturn = false
  private var isAtStart = true

  /// The events that `bytes` complete. Throws `unavailable` if one is larger than the limit.
  mutating func add(_ bytes: some Sequence<UInt8>) throws -> [Event] {
    var events: [Event] = []
    for byte in bytes {
      defer { endsWithCarriageReturn = byte == UInt8(ascii: "\r") }
      switch byte {
      case UInt8(ascii: "\n") where endsWithCarriageReturn:
        continue
      case UInt8(ascii: "\n"), UInt8(ascii: "\r"):
        if let event = endLine() { events.append(event) }
      default:
        guard line.count + data.count < Self.maximumBytes else {
          throw FusionRouteError.unavailable("the service sent an event of more than \(Self.maximumBytes) bytes")
        }
        line.append(byte)
      }
    }
    return events
  }

  private mutating func endLine() -> Event? {
    defer { line.removeAll(keepingCapacity: true) }
    if isAtStart {
      isAtStart = false
      if line.starts(with: [0xEF, 0xBB, 0xBF]) { line.removeFirst(3) }
    }
    guard !line.isEmpty else { return dispatch() }
    let colon = line.firstIndex(of: UInt8(ascii: ":")) ?? line.endIndex
    var value = line[colon...].dropFirst()
    if value.first == UInt8(ascii: " ") { value = value.dropFirst() }
    switch String(decoding: line[..<colon], as: UTF8.self) {
    case "data":
      if hasData { data.append(UInt8(ascii: "\n")) }
      data += value
      hasData = true
    case "event": type = String(decoding: value, as: UTF8.self)
    // Comments, whose name is empty, and what only a browser needs: `id`, `retry`.
    default: break
    }
    return nil
  }

  private mutating func dispatch() -> Event? {
    defer {
      type = ""
      data.removeAll(keepingCapacity: true)
      hasData = false
    }
    guard hasData else { return nil }
    return Event(type: type.isEmpty ? "message" : type, data: String(decoding: data, as: UTF8.self))
  }
}

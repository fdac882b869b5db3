/// One connection as a ROUTER socket knows it. A peer that reconnects is a new one.
public struct PeerID: Hashable, Sendable, CustomStringConvertible {
  /// The number ZeroMQ gave the connection (RFC 28: routing ids of its own making are a zero byte and four more).
  let number: UInt32

  static let byteCount = 5

  /// nil for any other routing id: peers do not choose their own.
  init?(routingID bytes: UnsafeRawBufferPointer) {
    guard bytes.count == Self.byteCount, bytes[0] == 0 else { return nil }
    number = bytes[1...4].reduce(0) { $0 << 8 | UInt32($1) }
  }

  /// A made-up peer, for tests of what is built on top.
  public init(number: UInt32) { self.number = number }

  var routingID: (UInt8, UInt8, UInt8, UInt8, UInt8) {
    (
      0, UInt8(truncatingIfNeeded: number >> 24), UInt8(truncatingIfNeeded: number >> 16),
      UInt8(truncatingIfNeeded: number >> 8), UInt8(truncatingIfNeeded: number)
    )
  }

  public var description: String { "peer-" + String(number, radix: 16) }
}

/// Why a message was refused. Every message from outside ends as a value or as one of these, never as a trap.
public struct WireError: Error, Sendable, Hashable, CustomStringConvertible {
  /// Open set of kinds.
  public struct Code: RawRepresentable, Hashable, Sendable {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }

    /// Not a protocol buffer of ours, or larger in memory than its kind may be.
    public static let malformed = Code(rawValue: "malformed")
    /// A frame or the whole message exceeds the cap of its kind.
    public static let tooLarge = Code(rawValue: "too-large")
    /// The envelope holds no body this version knows.
    public static let unknownMessage = Code(rawValue: "unknown-message")
    /// The peer speaks only versions that this side does not serve; `peerProtocols` says which.
    public static let protocolVersion = Code(rawValue: "protocol-version")
    /// A message that only the other side may send.
    public static let direction = Code(rawValue: "direction")
    /// A field breaks its rule or a limit.
    public static let field = Code(rawValue: "field")
    /// Payload frames do not match the header in number or size, or hold values they must not.
    public static let payload = Code(rawValue: "payload")
  }

  public let code: Code
  /// One full sentence.
  public let message: String
  /// With `.protocolVersion`: the versions the peer speaks, for a refusal that it can show.
  public let peerProtocols: ClosedRange<UInt32>?

  public init(_ code: Code, _ message: String, peerProtocols: ClosedRange<UInt32>? = nil) {
    self.code = code
    self.message = message
    self.peerProtocols = peerProtocols
  }

  public var description: String { message }
}

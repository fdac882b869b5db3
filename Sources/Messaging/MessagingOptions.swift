public import Logging

/// Limits and times of a server or client; the defaults are what the runtime uses.
public struct MessagingOptions: Sendable {
  public var logger: Logger
  /// How often `tick` is called on the I/O thread.
  public var tickInterval: Duration = .milliseconds(100)
  /// Bytes in one frame. A larger one costs its sender the connection.
  public var maximumFrameBytes = 4 << 20
  /// Frames in one message; a message with more is dropped.
  public var maximumFrames = 512
  /// Bytes in one message; a larger one is dropped.
  public var maximumMessageBytes = 8 << 20
  /// Bytes that may wait to be sent to one peer; what exceeds it is refused by `send`.
  public var outboxBytesPerPeer = 64 << 20
  /// Messages that ZeroMQ itself holds per peer and direction.
  public var highWaterMark: Int32 = 1_000
  /// How long a connection may take over its handshake.
  public var handshakeTimeout: Duration = .seconds(2)
  public var connectTimeout: Duration = .seconds(5)
  /// First and longest pause between attempts to connect.
  public var reconnectInterval: (first: Duration, longest: Duration) = (.milliseconds(100), .seconds(5))
  /// ZMTP pings. Loose on purpose: tight ones lose large replies on slow links.
  public var heartbeatInterval: Duration = .seconds(1)
  public var heartbeatTimeout: Duration = .seconds(10)
  /// Connections the kernel holds before they are accepted.
  public var backlog: Int32 = 512
  /// What a server takes over `tcp://`.
  public var connections = ConnectionLimits()

  public init(logger: Logger = Logger(label: "fusionroute.messaging")) {
    self.logger = logger
  }
}

/// How many connections a server takes over `tcp://`. One that is over a limit is closed before its handshake.
public struct ConnectionLimits: Sendable, Hashable {
  /// Open at once. Never more than half of the descriptors that the process may have.
  public var total = 8_192
  /// Of them, from one address.
  public var perAddress = 2_048
  /// New ones within `handshakeTimeout`, which is also how long one may stay without a handshake. Never more than a
  /// quarter of the descriptors.
  public var new = 2_048
  /// Of them, from one address.
  public var newPerAddress = 256

  public init() {}
}

/// Counts since the start.
public struct MessagingStatistics: Sendable, Hashable {
  public var received: UInt64 = 0
  public var receivedBytes: UInt64 = 0
  public var sent: UInt64 = 0
  public var sentBytes: UInt64 = 0
  /// Received and dropped: too many frames, too large, no frames or a routing id the peer chose itself.
  public var droppedMalformed: UInt64 = 0
  /// Received and dropped: the key that the connection came with is not (or no longer) in the allow-list.
  public var droppedUnauthorised: UInt64 = 0
  /// Not sent: over the peer's outbox limit.
  public var droppedOutbox: UInt64 = 0
  /// Not sent: the peer had gone.
  public var droppedUnreachable: UInt64 = 0
  /// Of any kind; ``refusedKeys`` are among them.
  public var handshakeFailures: UInt64 = 0
  /// Handshakes with a key that is not in the allow-list, or with none.
  public var refusedKeys: UInt64 = 0
  /// Closed because of ``ConnectionLimits``.
  public var refusedConnections: UInt64 = 0
  public var disconnects: UInt64 = 0

  public init() {}
}

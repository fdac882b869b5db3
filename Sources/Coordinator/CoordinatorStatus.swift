/// What a coordinator is doing; a snapshot. As JSON with snake_case keys it is the body of `/fusionroute/status`.
public struct CoordinatorStatus: Sendable, Codable, Equatable {
  public struct Router: Sendable, Codable, Equatable {
    public var model: String
    /// Identity of its model, adapters, head and settings, in hexadecimal; nil from a service that does not tell.
    public var fingerprint: String?
    /// Tokens per sequence.
    public var context: Int
    /// Sequences decoded at once.
    public var slots: Int
    /// Requests that wait for the router's model.
    public var queued: Int
    public var residentSequences: Int
    /// Tokens in its KV cache.
    public var kvTokens: Int
    public var evaluatedTokens: UInt64
  }

  public struct Replica: Sendable, Codable, Equatable {
    public var id: String
    public var host: String
    public var pid: Int
    /// verifying, serving, draining or quarantined.
    public var state: String
    public var slots: Int
    public var context: Int
    /// Sequences placed on it.
    public var sequences: Int
    /// Requests of this coordinator under way with it.
    public var underWay: Int
    /// Requests of all its coordinators that its model has not answered, as it reported in its last heartbeat, less
    /// those of this coordinator that it has answered since. What follows is as of that heartbeat.
    public var queued: Int
    public var residentSequences: Int
    public var kvTokens: Int
    public var evaluatedTokens: UInt64
    /// Since its last frame, in milliseconds.
    public var silenceMs: Int
    public var batchInvariant: Bool
  }

  public struct Expert: Sendable, Codable, Equatable {
    public var name: String
    /// Whether the routing head knows it.
    public var routed: Bool
    /// Identity of the model, adapters and settings that its replicas have; nil while it has none.
    public var fingerprint: String?
    public var replicas: [Replica]
    /// Tokens it decided since the start.
    public var tokens: UInt64
  }

  public struct Requests: Sendable, Codable, Equatable {
    public var running: Int
    public var waiting: Int
    public var queueLimit: Int
    public var finished: UInt64
    public var failed: UInt64
    public var cancelled: UInt64
    public var refused: UInt64
  }

  /// Sums since the start; times in microseconds.
  public struct Totals: Sendable, Codable, Equatable {
    public var promptTokens: UInt64
    public var cachedTokens: UInt64
    public var generatedTokens: UInt64
    public var failovers: UInt64
    public var rowBytes: UInt64
    public var routerQueueUs: UInt64
    public var routerComputeUs: UInt64
    public var wireUs: UInt64
    public var expertQueueUs: UInt64
    public var expertComputeUs: UInt64
    public var mergeUs: UInt64
  }

  /// What faults came to since the start.
  public struct Faults: Sendable, Codable, Equatable {
    /// Replicas that did not leave in order.
    public var lostReplicas: UInt64
    /// Slow steps that were sent to a second replica as well, and those that the second answered first.
    public var hedgedSteps: UInt64
    public var hedgesWon: UInt64
  }

  /// What was turned away at the workers' door since the start.
  public struct Door: Sendable, Codable, Equatable {
    /// Registrations that were refused.
    public var refusedWorkers: UInt64
    /// Connections closed because there were too many, or too many new ones.
    public var limitedConnections: UInt64
    /// Handshakes with a key that is not in the allow-list, and those that failed otherwise.
    public var refusedKeys: UInt64
    public var failedHandshakes: UInt64
    /// Messages that were dropped: no messages, with a key that is no longer allowed, too many of a peer's.
    public var malformedMessages: UInt64
    public var unauthorisedMessages: UInt64
    public var limitedMessages: UInt64
    /// Messages to peers that were dropped: too many waited for the peer, or it had gone.
    public var outboxMessages: UInt64
    public var unreachableMessages: UInt64
  }

  public var version: String
  public var uptimeS: Double
  public var ready: Bool
  /// Why it is not ready; empty when it is.
  public var reason: String
  public var router: Router
  /// In the order of the head's rows, then the others.
  public var experts: [Expert]
  public var requests: Requests
  public var totals: Totals
  /// nil: told by a service that does not count them.
  public var faults: Faults?
  public var door: Door?
  /// Generated tokens per second over the last ten seconds.
  public var tokensPerSecond: Double
}

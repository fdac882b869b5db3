/// Starts and stops replicas of experts while a cluster runs: whoever started its workers.
public protocol ReplicaScaler: Sendable {
  /// Brings an expert to `count` replicas that this scaler started. Returns when those in excess have begun to drain and
  /// those that were missing are being started; they take work once they have registered.
  ///
  /// - Throws: ``FusionRouteError``: `.badInput` for an expert that it does not know or a count that does not fit,
  ///   `.unavailable` if a process cannot be started.
  func scale(expert: String, to count: Int) async throws -> ReplicaChange
}

/// What a change of the number of replicas came to. Replicas are named `EXPERT.NUMBER`.
public struct ReplicaChange: Sendable, Equatable, Codable {
  public var started: [String]
  public var stopped: [String]

  public init(started: [String] = [], stopped: [String] = []) {
    self.started = started
    self.stopped = stopped
  }
}

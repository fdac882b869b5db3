/// Starts and stops replicas of experts while a cluster runs: whoever started its workers.
public protocol ReplicaScaler: Sendable {
  /// Brings an expert to `count` replicas on all machines where this scaler starts workers. Returns when those in excess
  /// have been told to leave, and drain, and those that were missing are being started; they take work once they have
  /// registered.
  ///
  /// - Throws: ``FusionRouteError``: `.badInput` for an expert that it does not know or a count that does not fit,
  ///   `.unavailable` if a process or a host cannot be started. What was changed before stays.
  func scale(expert: String, to count: Int) async throws -> ReplicaChange
}

/// What a change of the number of replicas came to.
public struct ReplicaChange: Sendable, Equatable, Codable {
  /// The numbers on one host that a launcher has changed.
  public struct Host: Sendable, Equatable, Codable {
    public var name: String
    public var launcher: String
    public var from: Int
    public var to: Int

    public init(name: String, launcher: String, from: Int, to: Int) {
      self.name = name
      self.launcher = launcher
      self.from = from
      self.to = to
    }
  }

  /// Replicas of this machine, named `EXPERT.NUMBER`.
  public var started: [String]
  public var stopped: [String]
  /// Other hosts, in the order of the cluster file.
  public var hosts: [Host]

  public init(started: [String] = [], stopped: [String] = [], hosts: [Host] = []) {
    self.started = started
    self.stopped = stopped
    self.hosts = hosts
  }
}

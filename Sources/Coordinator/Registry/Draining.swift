/// Which replicas are to drain.
public enum DrainSelection: Sendable, Equatable {
  /// By its name in ``CoordinatorStatus``: `replica-3`.
  case replica(String)
  /// Every one on a host.
  case host(String)
  /// Every one of an expert.
  case expert(String)
  case process(pid: Int32, host: String)

  func contains(_ replica: Replica) -> Bool {
    switch self {
    case .replica(let name): replica.id.description == name
    case .host(let name): replica.offer.host == name
    case .expert(let name): replica.offer.expert == name
    case .process(let pid, let host): replica.offer.pid == pid && replica.offer.host == host
    }
  }

  /// Says that nothing is meant. Names may be anybody's, and of any length.
  var nothingMeant: String {
    switch self {
    case .replica(let name): "there is no replica \"\(name.prefix(64))\""
    case .host(let name): "there is no replica on a host \"\(name.prefix(64))\""
    case .expert(let name): "there is no replica of an expert \"\(name.prefix(64))\""
    case .process(let pid, let host): "there is no replica of the process \(pid) on a host \"\(host.prefix(64))\""
    }
  }
}

/// A replica that finishes what it has and then leaves.
public struct DrainingReplica: Sendable, Equatable, Codable {
  public var id: String
  public var expert: String
  public var host: String
  public var pid: Int32
  /// Sequences that were placed on it when it began to drain.
  public var sequences: Int
}

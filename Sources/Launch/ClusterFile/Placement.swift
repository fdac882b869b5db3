/// Which host runs which replica.
public struct Placement: Sendable, Equatable {
  public struct Replica: Sendable, Hashable {
    public var expert: String
    /// 0 ..< replicas of the expert.
    public var index: Int
    /// Nil: this machine.
    public var host: String?

    public init(expert: String, index: Int, host: String?) {
      self.expert = expert
      self.index = index
      self.host = host
    }
  }

  /// Experts in the order of the file, then replicas.
  public let replicas: [Replica]

  public init(_ replicas: [Replica]) { self.replicas = replicas }

  /// Without regard to sizes and limits: replicas of one expert go to its hosts in turn. The turn goes on from expert to expert among those that leave
  /// the choice open, so that they spread over all hosts.
  public init(_ cluster: ClusterFile) {
    var replicas: [Replica] = []
    var turn = 0
    for expert in cluster.experts {
      for index in 0..<expert.replicas {
        let host: String?
        if !expert.hosts.isEmpty {
          host = expert.hosts[index % expert.hosts.count]
        } else if cluster.hosts.isEmpty {
          host = nil
        } else {
          host = cluster.hosts[turn % cluster.hosts.count].name
          turn += 1
        }
        replicas.append(Replica(expert: expert.name, index: index, host: host))
      }
    }
    self.replicas = replicas
  }

  public func replicas(on host: String?) -> [Replica] { replicas.filter { $0.host == host } }
}

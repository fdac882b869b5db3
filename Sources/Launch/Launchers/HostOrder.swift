/// What is to run on one host.
public struct HostOrder: Sendable, Equatable, Codable {
  public struct Replicas: Sendable, Hashable, Codable {
    public var expert: String
    public var count: Int
    /// Of one replica: bytes with its weights, computing threads.
    public var bytes: UInt64
    public var threads: Int

    public init(expert: String, count: Int, bytes: UInt64 = 0, threads: Int = 1) {
      self.expert = expert
      self.count = count
      self.bytes = bytes
      self.threads = threads
    }
  }

  public var host: ClusterFile.Host
  /// In the order of the file; no expert twice.
  public var replicas: [Replicas]
  /// Bytes that they take together; weights that several map count once.
  public var bytes: UInt64
  /// Absolute path of `fusionroute` here.
  public var program: String
  /// Absolute path of the cluster file here.
  public var cluster: String
  public var logLevel: String
  /// How long workers may take to stop.
  public var graceSeconds: Double

  public init(
    host: ClusterFile.Host, replicas: [Replicas], bytes: UInt64, program: String, cluster: String,
    logLevel: String = "info", graceSeconds: Double = 5
  ) {
    self.host = host
    self.replicas = replicas
    self.bytes = bytes
    self.program = program
    self.cluster = cluster
    self.logLevel = logLevel
    self.graceSeconds = graceSeconds
  }

  /// The orders of a plan, one for each host that has replicas, in the order of the file.
  public static func orders(
    of plan: PlacementPlan, cluster: ClusterFile, path: String, program: String, logLevel: String = "info"
  ) -> [HostOrder] {
    cluster.hosts.compactMap { host in
      var replicas: [Replicas] = []
      for row in plan.rows where row.replica.host == host.name {
        if replicas.last?.expert == row.replica.expert {
          replicas[replicas.count - 1].count += 1
        } else {
          replicas.append(
            Replicas(
              expert: row.replica.expert, count: 1, bytes: row.demand.bytes, threads: row.demand.threads))
        }
      }
      guard !replicas.isEmpty else { return nil }
      return HostOrder(
        host: host, replicas: replicas, bytes: plan.hosts.first { $0.name == host.name }?.usedBytes ?? 0,
        program: program, cluster: path, logLevel: logLevel, graceSeconds: cluster.supervision.grace.inSeconds)
    }
  }

  /// Cores that the replicas need: those of contexts of several threads, and those of one thread each its own.
  public var threads: Int { replicas.reduce(0) { $0 + $1.count * $1.threads } }

  public func count(of expert: String) -> Int { replicas.first { $0.expert == expert }?.count ?? 0 }

  /// Sets how many replicas of an expert there are; none takes it out.
  mutating func set(_ wanted: Replicas) {
    let index = replicas.firstIndex { $0.expert == wanted.expert }
    switch (index, wanted.count > 0) {
    case (let index?, true): replicas[index].count = wanted.count
    case (let index?, false): replicas.remove(at: index)
    case (nil, true): replicas.append(wanted)
    case (nil, false): break
    }
  }

  /// The command line there, without what a launcher adds.
  public var workers: [String] {
    [host.program ?? program] + workersArguments(clusterPath: host.clusterPath ?? cluster)
  }

  func workersArguments(clusterPath: String) -> [String] {
    ["workers", "-c", clusterPath, "--host", host.name]
      + replicas.flatMap { ["--replicas", "\($0.expert)=\($0.count)"] }
      + ["--log-level", logLevel]
  }
}

extension Duration {
  var inSeconds: Double { Double(components.seconds) + Double(components.attoseconds) / 1e18 }
}

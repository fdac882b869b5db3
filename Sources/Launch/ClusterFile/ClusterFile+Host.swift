extension ClusterFile {
  /// A machine, or with Slurm and Kubernetes a share of a fleet, that replicas run on.
  public struct Host: Sendable, Equatable, Codable {
    public var name: String
    /// Empty where the launcher finds the machine.
    public var address: String
    public var launcher: Launcher
    /// Bytes.
    public var memory: Int?
    /// Cores.
    public var threads: Int?
    /// Path of `fusionroute` there; nil: the same as here.
    public var program: String?
    /// Path of the cluster file there; nil: the same as here.
    public var clusterPath: String?
    public var ssh = SSH()
    public var slurm = Slurm()
    public var kubernetes = Kubernetes()

    public init(name: String, address: String, launcher: Launcher = .manual, memory: Int? = nil, threads: Int? = nil) {
      self.name = name
      self.address = address
      self.launcher = launcher
      self.memory = memory
      self.threads = threads
    }

    /// Whether replicas on it reach the coordinator over a network.
    public var isRemote: Bool { launcher != .local && !Endpoint.isLoopback(host: address) }

    /// Whether it is the machine that the coordinator runs on, so that `up` and `run` start its replicas as their own
    /// processes.
    public var isHere: Bool {
      switch launcher {
      case .local: true
      case .manual: !isRemote
      case .ssh, .slurm, .kubernetes: false
      }
    }
  }

  /// What `ssh` is told. Nil: as its own configuration says.
  public struct SSH: Sendable, Equatable, Codable {
    public var user: String?
    public var port: Int?
    /// Absolute path of a private key.
    public var identity: String?
    /// Absolute path of a file of host keys.
    public var knownHosts: String?

    public init() {}
  }

  /// What `sbatch` is told. Nil: the site's default.
  public struct Slurm: Sendable, Hashable, Codable {
    public var partition: String?
    public var account: String?
    /// Further options, such as `--exclusive` or `--time=12:00:00`.
    public var options: [String] = []

    public init() {}
  }

  /// What the manifests say.
  public struct Kubernetes: Sendable, Hashable, Codable {
    public var namespace = "default"
    public var image = "fusionroute:latest"
    /// Name of the PersistentVolumeClaim with the models.
    public var volume = "fusionroute-models"
    /// Replicas of an expert at most; nil: no autoscaling.
    public var maximumReplicas: Int?

    public init() {}
  }
}

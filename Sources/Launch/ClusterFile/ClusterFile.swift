/// A cluster as its YAML file describes it: models, experts, hosts, endpoints and policies.
///
/// Every key, its type and its default stand in ``ClusterSchema``; <doc:ClusterFile> is generated from it.
public struct ClusterFile: Sendable, Equatable {
  /// What a forward pass needs to know, for the router and for experts alike.
  public struct Engine: Sendable, Equatable {
    /// Absolute path of the model.
    public var model: String
    /// Absolute path of a LoRA adapter.
    public var lora: String?
    public var loraScale: Float
    public var threads: Int
    public var gpuLayers: Int
    /// Tokens per sequence.
    public var context: Int
    /// Sequences in the KV cache at once.
    public var slots: Int
    public var kv: KVType

    public init(
      model: String, lora: String? = nil, loraScale: Float = 1, threads: Int = 1, gpuLayers: Int = 0,
      context: Int = 4096, slots: Int = 4, kv: KVType = .auto
    ) {
      self.model = model
      self.lora = lora
      self.loraScale = loraScale
      self.threads = threads
      self.gpuLayers = gpuLayers
      self.context = context
      self.slots = slots
      self.kv = kv
    }
  }

  public enum KVType: String, Sendable, CaseIterable { case auto, f16, f32 }
  public enum ExpertLoss: String, Sendable, CaseIterable {
    case fail
    case nextBest = "next_best"
    case router
  }
  public enum Warm: String, Sendable, CaseIterable { case auto, all, selected }
  public enum Fanout: String, Sendable, CaseIterable { case selected, predicted, all }
  public enum Launcher: String, Sendable, CaseIterable, Codable { case manual, local, ssh, slurm, kubernetes }

  public struct Router: Sendable, Equatable {
    public var engine: Engine
    /// Absolute path of the routing head.
    public var head: String

    public init(engine: Engine, head: String) {
      self.engine = engine
      self.head = head
    }
  }

  public struct Expert: Sendable, Equatable {
    public var name: String
    public var engine: Engine
    public var replicas: Int
    /// Names of hosts; empty: all in turn.
    public var hosts: [String]

    public init(name: String, engine: Engine, replicas: Int = 1, hosts: [String] = []) {
      self.name = name
      self.engine = engine
      self.replicas = replicas
      self.hosts = hosts
    }
  }

  public struct Listen: Sendable, Equatable {
    public var http: String
    /// Nil: a private ipc socket of the run.
    public var workers: Endpoint?
    public var advertise: Endpoint?

    public init(http: String = "127.0.0.1:8080", workers: Endpoint? = nil, advertise: Endpoint? = nil) {
      self.http = http
      self.workers = workers
      self.advertise = advertise
    }
  }

  public struct Decoding: Sendable, Equatable {
    public var topK = 32
    public var reproducible = true
    public var warm = Warm.auto
    public var fanout = Fanout.selected
    /// Share of steps, 0 to 1.
    public var auditRate = 0.001

    public init() {}
  }

  public struct Supervision: Sendable, Equatable {
    public var restarts = 5
    public var window = Duration.seconds(60)
    public var backOff = Duration.milliseconds(500)
    public var grace = Duration.seconds(5)
    public var orphanAfter = Duration.seconds(60)

    public init() {}
  }

  /// How the HTTP service is bounded and what it writes down.
  public struct Gateway: Sendable, Equatable {
    /// Absolute path of the file of hashed API keys.
    public var apiKeys: String?
    /// Absolute paths of PEM files; both or neither.
    public var certificate: String?
    public var privateKey: String?
    /// Origins whose pages may call from a browser, as browsers write them: `https://HOST[:PORT]`, or `*`.
    public var allowedOrigins: [String] = []
    /// Further names that requests may call this machine while it listens on loopback.
    public var allowedHosts: [String] = []
    /// Bytes of a request body.
    public var maximumBody = 8 << 20
    public var maximumConnections = 4096
    /// Requests that may wait for a slot.
    public var queueLimit = 1024
    /// How many of them may be one client's; nil: half.
    public var clientQueueLimit: Int?
    /// Nil: a request that names no deadline has none.
    public var requestDeadline: Duration?
    /// New tokens of a request that names no maximum.
    public var defaultMaximumTokens = 256
    public var shutdownGrace = Duration.seconds(30)
    /// Absolute paths of files to write.
    public var requestLog: String?
    public var trace: String?

    public init() {}
  }

  /// Path of the file as it was given; for messages.
  public var source: String
  public var router: Router
  /// In the order of the file.
  public var experts: [Expert]
  public var hosts: [Host]
  public var listen: Listen
  public var decoding: Decoding
  public var onExpertLoss: ExpertLoss
  public var expertWait: Duration
  public var startWait: Duration
  public var supervision: Supervision
  /// Absolute path of the keys directory.
  public var keys: String?
  public var gateway = Gateway()
  /// Line of each key, by its path (`experts.math.model`), for messages about the file.
  var lines: [String: Int] = [:]

  public init(
    source: String, router: Router, experts: [Expert], hosts: [Host] = [], listen: Listen = Listen(),
    decoding: Decoding = Decoding(), onExpertLoss: ExpertLoss = .fail, expertWait: Duration = .seconds(30),
    startWait: Duration = .seconds(300), supervision: Supervision = Supervision(), keys: String? = nil
  ) {
    self.source = source
    self.router = router
    self.experts = experts
    self.hosts = hosts
    self.listen = listen
    self.decoding = decoding
    self.onExpertLoss = onExpertLoss
    self.expertWait = expertWait
    self.startWait = startWait
    self.supervision = supervision
    self.keys = keys
  }

  public func expert(named name: String) -> Expert? { experts.first { $0.name == name } }

  public func host(named name: String) -> Host? { hosts.first { $0.name == name } }
}

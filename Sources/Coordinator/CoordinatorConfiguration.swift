public import Core
public import Inference
public import Messaging

/// Everything a coordinator is started with.
public struct CoordinatorConfiguration: Sendable {
  public var routerModel: String
  public var routerAdapters: [AdapterFile]
  public var routerHead: String
  /// Experts of the cluster; those beyond the head's are reached by mode `expert:<name>` alone. Empty: the head's.
  public var experts: [String]
  public var gpuLayers: Int
  public var threads: Int
  /// Tokens per sequence.
  public var context: Int
  /// Sequences decoded at once.
  public var slots: Int
  public var kvType: KVType?
  /// Where workers dial in: `tcp://` or `ipc://` endpoints.
  public var endpoints: [String]
  /// Keys and allow-list; nil only for loopback and ipc.
  public var security: ServerSecurity?
  /// Logits asked of an expert at first.
  public var topK: Int
  public var reproducible: Bool
  /// Share of steps checked against the full row.
  public var auditRate: Double
  /// How long a sequence waits for a replica of an expert that has none.
  public var expertWait: Duration
  public var stepTimeout: Duration
  public var heartbeat: Duration
  /// Silence after which a worker counts as lost.
  public var silence: Duration
  /// Time without progress, beyond a batch's own budget, after which a worker with work counts as hung.
  public var hang: Duration
  /// When a slow step is sent to a second replica.
  public var hedging: Hedging
  /// Whether experts may read prompts while the router does, under ``WarmPolicy/auto``.
  public var warmsAtArrival: Bool
  /// Requests that may wait for a slot.
  public var queueLimit: Int
  /// How many of them may be one client's; nil: half.
  public var clientQueueLimit: Int?
  /// Takes the spans of sampled requests; nil: nobody does.
  public var traceSink: (any TraceSink)?

  public init(routerModel: String, routerHead: String, endpoints: [String]) {
    self.routerModel = routerModel
    self.routerHead = routerHead
    self.endpoints = endpoints
    routerAdapters = []
    experts = []
    gpuLayers = 0
    threads = 1
    context = 4096
    slots = 4
    kvType = nil
    security = nil
    topK = 32
    reproducible = true
    auditRate = 0.001
    expertWait = .seconds(10)
    stepTimeout = .seconds(120)
    heartbeat = .milliseconds(500)
    silence = .seconds(3)
    hang = .seconds(10)
    hedging = Hedging()
    warmsAtArrival = false
    queueLimit = 1024
    clientQueueLimit = nil
    traceSink = nil
  }

  /// When a step that takes unusually long is sent to a second replica of the expert as well.
  public struct Hedging: Sendable, Equatable {
    /// The percentile of past steps that counts as usual, 0 to 1.
    public var percentile = 0.99
    /// A step is slow once it takes so many times that.
    public var factor = 2.0
    /// And not before.
    public var minimum = Duration.milliseconds(100)
    /// Second requests for each step, at most; 0: none.
    public var share = 0.05

    public init() {}

    var limits: HedgePolicy.Limits {
      var limits = HedgePolicy.Limits()
      limits.percentile = percentile
      limits.factor = factor
      limits.minimum = minimum.nanoseconds
      limits.share = share
      return limits
    }
  }
}

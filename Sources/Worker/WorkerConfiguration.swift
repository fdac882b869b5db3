public import Inference
public import Messaging

/// Everything one expert's worker process is started with.
public struct WorkerConfiguration: Sendable {
  /// The expert's name, one of those in the router's head.
  public var expert: String
  public var model: String
  public var adapters: [AdapterFile]
  /// Endpoints of the coordinators to dial.
  public var coordinators: [String]
  /// This worker's keys and the coordinator's public key; nil for loopback and ipc.
  public var security: ClientSecurity?
  public var gpuLayers: Int
  public var threads: Int
  /// Tokens per sequence.
  public var context: Int
  /// Sequences in the KV cache at once.
  public var slots: Int
  public var kvType: KVType?
  public var reproducible: Bool
  /// The name of this machine as the coordinator sees it.
  public var host: String
  /// Silence of every coordinator after which the worker ends by itself.
  public var orphanTimeout: Duration
  /// Time that sequences have to move away after a SIGTERM.
  public var drainTimeout: Duration

  public init(expert: String, model: String, coordinators: [String]) {
    self.expert = expert
    self.model = model
    self.coordinators = coordinators
    adapters = []
    security = nil
    gpuLayers = 0
    threads = 1
    context = 4096
    slots = 4
    kvType = nil
    reproducible = true
    host = "localhost"
    orphanTimeout = .seconds(60)
    drainTimeout = .seconds(10)
  }
}

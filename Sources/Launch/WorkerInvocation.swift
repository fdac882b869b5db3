/// The command line of one replica's worker process.
public struct WorkerInvocation: Sendable, Equatable {
  public var expert: ClusterFile.Expert
  /// Where it dials.
  public var coordinators: [String]
  public var hostName: String
  public var reproducible: Bool
  public var supervision: ClusterFile.Supervision
  /// Keys directory and the name of the worker's key in it.
  public var keys: (directory: String, name: String)?
  public var logLevel: String
  public var logFormat: String

  public init(
    expert: ClusterFile.Expert, coordinators: [String], hostName: String, cluster: ClusterFile,
    keyName: String?, logLevel: String, logFormat: String
  ) {
    self.expert = expert
    self.coordinators = coordinators
    self.hostName = hostName
    reproducible = cluster.decoding.reproducible
    supervision = cluster.supervision
    keys = cluster.keys.flatMap { directory in keyName.map { (directory, $0) } }
    self.logLevel = logLevel
    self.logFormat = logFormat
  }

  /// Arguments for `fusionroute`; the process ends when its stdin does.
  public var arguments: [String] {
    let engine = expert.engine
    var arguments = ["worker", "--expert", expert.name, "--model", engine.model]
    for endpoint in coordinators { arguments += ["--coordinator", endpoint] }
    if let lora = engine.lora { arguments += ["--lora", lora, "--lora-scale", "\(engine.loraScale)"] }
    arguments += [
      "--threads", "\(engine.threads)", "--gpu-layers", "\(engine.gpuLayers)", "--context", "\(engine.context)",
      "--slots", "\(engine.slots)", "--kv", engine.kv.rawValue, "--host-name", hostName,
      "--orphan-after", Quantity.text(supervision.orphanAfter),
      // Less than the grace that the supervisor gives, so that a draining worker says goodbye before it is killed.
      "--drain-time", Quantity.text(supervision.grace * 0.8), "--log-level", logLevel, "--log-format",
      logFormat, "--exit-with-stdin",
    ]
    if !reproducible { arguments.append("--no-reproducible") }
    if let keys { arguments += ["--keys", keys.directory, "--key", keys.name] }
    return arguments
  }

  public static func == (a: Self, b: Self) -> Bool { a.arguments == b.arguments }
}

extension ClusterFile {
  /// Whether every replica on this machine, and the router, has cores of its own, so that experts can read prompts
  /// while the router does without slowing it down.
  public func expertsHaveOwnCores(cores: Int, placement: Placement) -> Bool {
    router.engine.threads + localEngines(placement).reduce(0) { $0 + $1.threads } <= cores
  }

  /// Sentences about settings that work but not well.
  public func warnings(cores: Int, placement: Placement) -> [String] {
    let engines = [router.engine] + localEngines(placement)
    let threads = engines.reduce(0) { $0 + $1.threads }
    guard engines.contains(where: { $0.threads > 1 }), threads > cores else { return [] }
    return [
      "\(engines.count) processes with \(threads) threads share \(cores) cores: processes of several threads that share "
        + "cores slow each other down many times over; use one thread each, or fewer processes"
    ]
  }

  /// The engines of the replicas on this machine.
  private func localEngines(_ placement: Placement) -> [Engine] {
    placement.replicas.filter { $0.host.flatMap { host(named: $0) }?.isRemote != true }
      .compactMap { expert(named: $0.expert)?.engine }
  }

  /// Checks a host's replicas against its `threads`: those of contexts of several threads need cores of their own.
  /// Throws `badInput` naming the host's line.
  public func checkThreads(on host: Host, replicas: [Placement.Replica]) throws {
    guard let limit = host.threads else { return }
    let threads = replicas.compactMap { expert(named: $0.expert)?.engine.threads }
    let exclusive = threads.filter { $0 > 1 }.reduce(0, +)
    let needed = exclusive + (threads.contains(1) ? 1 : 0)
    guard exclusive > 0, needed > limit else { return }
    throw error(
      "hosts.\(host.name)",
      "the replicas placed on the host \"\(host.name)\" have \(exclusive) threads that need cores of their own"
        + "\(needed > exclusive ? ", and others need one more" : ""), more than its \(limit)")
  }
}

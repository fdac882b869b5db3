/// What ``Planner`` decides about: hosts with what they have, experts with what a replica of them takes.
public struct PlacementProblem: Sendable, Equatable {
  /// Weights of one file. Processes on one host that map the same file share its pages.
  public struct Weights: Sendable, Hashable {
    public var file: String
    /// Bytes.
    public var bytes: UInt64

    public init(file: String, bytes: UInt64) {
      self.file = file
      self.bytes = bytes
    }
  }

  /// What one process takes.
  public struct Demand: Sendable, Equatable {
    public var threads: Int
    public var weights: Weights
    /// KV cache, buffers and adapters: bytes that no other process shares.
    public var ownBytes: UInt64

    public init(threads: Int, weights: Weights, ownBytes: UInt64) {
      self.threads = threads
      self.weights = weights
      self.ownBytes = ownBytes
    }

    /// Bytes on a host where nobody maps its weights yet.
    public var bytes: UInt64 { ownBytes.addingSaturated(weights.bytes) }
  }

  public struct Host: Sendable, Equatable {
    public var name: String
    /// Bytes that may be used; nil: not limited.
    public var memory: UInt64?
    /// Cores; nil: not known.
    public var cores: Int?
    /// What runs there besides replicas: the router on the coordinator's host.
    public var residents: [Demand]

    public init(name: String, memory: UInt64? = nil, cores: Int? = nil, residents: [Demand] = []) {
      self.name = name
      self.memory = memory
      self.cores = cores
      self.residents = residents
    }
  }

  public struct Expert: Sendable, Equatable {
    public var name: String
    public var replicas: Int
    public var demand: Demand
    /// Names of the hosts it may be on; empty: any.
    public var hosts: [String]

    public init(name: String, replicas: Int, demand: Demand, hosts: [String] = []) {
      self.name = name
      self.replicas = replicas
      self.demand = demand
      self.hosts = hosts
    }
  }

  public var hosts: [Host]
  public var experts: [Expert]

  public init(hosts: [Host], experts: [Expert]) {
    self.hosts = hosts
    self.experts = experts
  }
}

/// What is on one host so far.
struct HostLoad: Equatable {
  let memory: UInt64?
  let cores: Int?
  private(set) var ownBytes: UInt64 = 0
  private var weights: [String: (bytes: UInt64, users: Int)] = [:]
  private(set) var weightBytes: UInt64 = 0
  /// Threads of contexts with several; each has a core to itself.
  private(set) var exclusiveThreads = 0
  /// Contexts of one thread; they share the other cores.
  private(set) var singles = 0
  /// Replicas of each expert, by its index in the problem.
  private(set) var replicas: [Int: Int] = [:]
  private(set) var total = 0

  init(_ host: PlacementProblem.Host) {
    memory = host.memory
    cores = host.cores
    for resident in host.residents { take(resident) }
  }

  var usedBytes: UInt64 { ownBytes.addingSaturated(weightBytes) }
  var threads: Int { exclusiveThreads + singles }

  /// Bytes left; nil: not limited.
  var freeBytes: UInt64? { memory.map { $0 > usedBytes ? $0 - usedBytes : 0 } }

  /// Bytes that one more process would take here.
  func bytes(of demand: PlacementProblem.Demand) -> UInt64 {
    weights[demand.weights.file] == nil ? demand.bytes : demand.ownBytes
  }

  func hasMemory(for demand: PlacementProblem.Demand) -> Bool {
    freeBytes.map { bytes(of: demand) <= $0 } ?? true
  }

  /// Contexts of several threads have cores of their own: their threads meet at barriers and spin, and one that has to
  /// wait for a core holds up all. Those of one thread may share what is left, if anything is.
  func hasCores(for demand: PlacementProblem.Demand) -> Bool {
    guard let cores else { return true }
    return coresNeeded(with: demand) <= cores
  }

  func coresNeeded(with demand: PlacementProblem.Demand) -> Int {
    demand.threads > 1
      ? exclusiveThreads + demand.threads + (singles > 0 ? 1 : 0) : exclusiveThreads + 1
  }

  func fits(_ demand: PlacementProblem.Demand) -> Bool { hasMemory(for: demand) && hasCores(for: demand) }

  func count(of expert: Int) -> Int { replicas[expert] ?? 0 }

  mutating func add(_ demand: PlacementProblem.Demand, of expert: Int) {
    take(demand)
    replicas[expert, default: 0] += 1
    total += 1
  }

  mutating func remove(_ demand: PlacementProblem.Demand, of expert: Int) {
    ownBytes -= demand.ownBytes
    if let entry = weights[demand.weights.file] {
      weights[demand.weights.file] = entry.users > 1 ? (entry.bytes, entry.users - 1) : nil
      if entry.users == 1 { weightBytes -= entry.bytes }
    }
    if demand.threads > 1 { exclusiveThreads -= demand.threads } else { singles -= 1 }
    let left = count(of: expert) - 1
    replicas[expert] = left > 0 ? left : nil
    total -= 1
  }

  private mutating func take(_ demand: PlacementProblem.Demand) {
    // Sizes are of files and saturate far below what addition could overflow: see PlacementProblem.maximumBytes.
    ownBytes += demand.ownBytes
    let entry = weights[demand.weights.file]
    if entry == nil { weightBytes += demand.weights.bytes }
    weights[demand.weights.file] = (entry?.bytes ?? demand.weights.bytes, (entry?.users ?? 0) + 1)
    if demand.threads > 1 { exclusiveThreads += demand.threads } else { singles += 1 }
  }

  static func == (a: Self, b: Self) -> Bool {
    a.memory == b.memory && a.cores == b.cores && a.ownBytes == b.ownBytes
      && a.exclusiveThreads == b.exclusiveThreads && a.singles == b.singles && a.replicas == b.replicas
      && a.weights.mapValues(\.users) == b.weights.mapValues(\.users)
  }
}

extension PlacementProblem {
  /// Bytes that a demand counts at most, so that sums of all replicas a file can name stay below 2⁶⁴.
  public static let maximumBytes: UInt64 = 1 << 44

  /// With sizes brought below ``maximumBytes``; a process of 16 TiB fits nowhere anyway.
  func clamped() -> PlacementProblem {
    func clamp(_ demand: Demand) -> Demand {
      var demand = demand
      demand.ownBytes = min(demand.ownBytes, Self.maximumBytes)
      demand.weights.bytes = min(demand.weights.bytes, Self.maximumBytes)
      return demand
    }
    var result = self
    for index in result.hosts.indices { result.hosts[index].residents = result.hosts[index].residents.map(clamp) }
    for index in result.experts.indices { result.experts[index].demand = clamp(result.experts[index].demand) }
    return result
  }
}

extension UInt64 {
  func addingSaturated(_ other: UInt64) -> UInt64 {
    let (sum, overflow) = addingReportingOverflow(other)
    return overflow ? .max : sum
  }
}

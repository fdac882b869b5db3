/// Where each replica goes and why, and what each host then carries.
public struct PlacementPlan: Sendable, Equatable {
  /// What decided for a replica's host.
  public enum Reason: String, Sendable, CaseIterable {
    case pinned, onlyHost, onlyRoom, spread, freeCore, leastBusy, fewestReplicas, mostMemory, firstOfEquals, search

    /// For a person.
    public var text: String {
      switch self {
      case .pinned: "its \"host\" names no other"
      case .onlyHost: "the only host"
      case .onlyRoom: "the only host with room"
      case .spread: "keeps replicas of this expert apart"
      case .freeCore: "has a core free"
      case .leastBusy: "fewest threads for its cores"
      case .fewestReplicas: "fewest replicas so far"
      case .mostMemory: "most memory free"
      case .firstOfEquals: "first of equal hosts"
      case .search: "all fit only this way"
      }
    }
  }

  public struct Row: Sendable, Equatable {
    public var replica: Placement.Replica
    public var demand: PlacementProblem.Demand
    public var why: Reason
  }

  public struct HostUse: Sendable, Equatable {
    public var name: String
    /// Bytes; nil: not limited.
    public var memory: UInt64?
    /// Weights that several processes map count once.
    public var usedBytes: UInt64
    public var cores: Int?
    /// Threads of contexts with several.
    public var exclusiveThreads: Int
    /// Contexts of one thread.
    public var singles: Int
    public var replicas: Int
  }

  /// Experts in the order of the file, then replicas.
  public var rows: [Row]
  /// In the order of the file.
  public var hosts: [HostUse]

  public var placement: Placement { Placement(rows.map(\.replica)) }

  /// Sentences about hosts on which contexts of one thread outnumber the cores left to them.
  public var warnings: [String] {
    hosts.compactMap { host in
      guard let cores = host.cores, host.singles > cores - host.exclusiveThreads else { return nil }
      let left = cores - host.exclusiveThreads
      return
        "the host \"\(host.name)\" has \(host.singles) contexts of one thread for \(left) core\(left == 1 ? "" : "s"): "
        + "they work, but each has only a part of a core while all are busy"
    }
  }
}

/// Why there is no placement.
public struct PlacementFailure: Error, Sendable, Equatable {
  public enum Lack: Sendable, Equatable {
    /// Bytes that the replica takes there, and those left.
    case memory(needed: UInt64, free: UInt64)
    /// Cores needed with what is there already, the replica's threads, and the host's cores.
    case cores(needed: Int, threads: Int, cores: Int)
  }

  public struct Shortfall: Sendable, Equatable {
    public var host: String
    public var lack: Lack

    public init(host: String, lack: Lack) {
      self.host = host
      self.lack = lack
    }
  }

  /// Nil: what runs on a host besides replicas, the router, fits it not.
  public var expert: String?
  /// Which of its replicas found no host.
  public var index: Int
  /// One for each host that it may be on.
  public var shortfalls: [Shortfall]
  /// Whether every other placement was ruled out.
  public var isProven: Bool

  var unproven: PlacementFailure {
    var copy = self
    copy.isProven = false
    return copy
  }

  /// Whether more memory would help somewhere.
  public var lacksMemory: Bool {
    shortfalls.contains { if case .memory = $0.lack { true } else { false } }
  }

  /// Hosts that the sentence names at most.
  private static let named = 4

  public var sentence: String {
    let what = expert.map { "replica \(index) of the expert \"\($0)\"" } ?? "the router"
    var parts = shortfalls.prefix(Self.named).map { shortfall in
      switch shortfall.lack {
      case .memory(let needed, let free):
        "on \"\(shortfall.host)\" it needs \(Quantity.text(bytes: needed)) (\(needed) bytes) of memory and "
          + "\(Quantity.text(bytes: free)) (\(free) bytes) are left"
      case .cores(let needed, let threads, let cores):
        "on \"\(shortfall.host)\" its \(threads) thread\(threads == 1 ? "" : "s") would make it \(needed) threads that "
          + "need a core of their own, and there are \(cores) cores"
      }
    }
    if shortfalls.count > Self.named { parts.append("and \(shortfalls.count - Self.named) more hosts lack room") }
    let hint = isProven ? "" : " (no other placement was found in \(Planner.searchLimit) tries)"
    return "\(what) fits no host: \(parts.joined(separator: "; "))\(hint)"
  }
}

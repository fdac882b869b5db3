/// Decides which waiting sequences may start, so that those running never hold more cache slots than there are: two
/// sequences that evict each other at every step would both starve.
public struct AdmissionGate: Sendable, Equatable {
  public enum Decision: Sendable, Equatable {
    case start
    case wait
    /// The queue is full.
    case refuse
  }

  /// Sequences that may run at once.
  public private(set) var limit: Int
  /// Sequences that may wait.
  public let queueLimit: Int
  private var running: Set<UInt64> = []
  private var waiting: [UInt64] = []

  public init(limit: Int, queueLimit: Int) {
    self.limit = max(1, limit)
    self.queueLimit = max(0, queueLimit)
  }

  public var runningCount: Int { running.count }
  public var waitingCount: Int { waiting.count }

  public mutating func arrive(_ sequence: UInt64) -> Decision {
    if running.count < limit, waiting.isEmpty {
      running.insert(sequence)
      return .start
    }
    guard waiting.count < queueLimit else { return .refuse }
    waiting.append(sequence)
    return .wait
  }

  /// The sequence has ended or given up waiting; returns those that may start now, first come first served.
  public mutating func leave(_ sequence: UInt64) -> [UInt64] {
    if running.remove(sequence) == nil { waiting.removeAll { $0 == sequence } }
    return admit()
  }

  /// Replicas came or went.
  public mutating func setLimit(_ limit: Int) -> [UInt64] {
    self.limit = max(1, limit)
    return admit()
  }

  private mutating func admit() -> [UInt64] {
    let free = max(0, limit - running.count)
    let started = Array(waiting.prefix(free))
    waiting.removeFirst(started.count)
    running.formUnion(started)
    return started
  }
}

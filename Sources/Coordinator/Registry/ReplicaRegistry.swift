public import Core
public import Messaging

/// Names one registration of one worker process; never reused.
public struct ReplicaID: Hashable, Comparable, Sendable, CustomStringConvertible {
  public let rawValue: UInt64

  public init(rawValue: UInt64) { self.rawValue = rawValue }

  public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }

  public var description: String { "replica-\(rawValue)" }
}

/// What a worker says of itself when it registers.
public struct ReplicaOffer: Sendable, Equatable {
  public var expert: String
  public var incarnation: UInt64
  public var protocolRange: ClosedRange<UInt32>
  public var modelFingerprint: SHA256Digest
  public var vocabularyFingerprint: SHA256Digest
  public var vocabularySize: Int
  public var numericsLabel: String
  public var numericsHash: SHA256Digest
  public var batchInvariant: Bool
  public var slots: Int
  public var context: Int
  public var maximumPositions: Int
  public var host: String
  public var pid: Int32
  /// The key it came with; nil without security.
  public var key: AllowedKey?

  public init(
    expert: String, incarnation: UInt64, protocolRange: ClosedRange<UInt32>, modelFingerprint: SHA256Digest,
    vocabularyFingerprint: SHA256Digest, vocabularySize: Int, numericsLabel: String, numericsHash: SHA256Digest,
    batchInvariant: Bool, slots: Int, context: Int, maximumPositions: Int, host: String, pid: Int32
  ) {
    self.expert = expert
    self.incarnation = incarnation
    self.protocolRange = protocolRange
    self.modelFingerprint = modelFingerprint
    self.vocabularyFingerprint = vocabularyFingerprint
    self.vocabularySize = vocabularySize
    self.numericsLabel = numericsLabel
    self.numericsHash = numericsHash
    self.batchInvariant = batchInvariant
    self.slots = slots
    self.context = context
    self.maximumPositions = maximumPositions
    self.host = host
    self.pid = pid
  }

  /// Whether the same process offers the same, but for its slots.
  func isSame(as other: ReplicaOffer) -> Bool {
    var other = other
    other.slots = slots
    return self == other
  }
}

/// One registered worker.
public struct Replica: Sendable {
  public enum State: Sendable, Equatable {
    /// Its vocabulary is being compared with the router's.
    case verifying
    case serving
    /// Finishes what it has; takes nothing new.
    case draining
    /// Caught sending wrong numbers; never used again.
    case quarantined
  }

  public let id: ReplicaID
  public internal(set) var offer: ReplicaOffer
  public internal(set) var state: State
  public internal(set) var assigned: Set<UInt64> = []
  public internal(set) var pending = 0
  public internal(set) var lastFrame: UInt64
  public internal(set) var progress: UInt64 = 0
  public internal(set) var progressChanged: UInt64
  public internal(set) var batchBudget: UInt64 = 0
  /// As of the last heartbeat.
  public internal(set) var report = Report()
  /// Whether a heartbeat has come, which a worker sends once it knows that it was let in.
  var hasBeaten = false
  /// How many of the reported requests must be other coordinators'.
  var queuedByOthers = 0

  /// Requests that its model has not answered: the reported ones, less those of ours that it has answered since. An idle
  /// replica shows none at once, not when its next heartbeat comes.
  public var queued: Int { min(report.queued, queuedByOthers + pending) }
  var stepTime = StepTime()

  /// What a worker says of its decoder in a heartbeat.
  public struct Report: Sendable, Equatable {
    public var queued = 0
    public var residentSequences = 0
    public var kvTokens: UInt64 = 0
    public var evaluatedTokens: UInt64 = 0

    public init(queued: Int = 0, residentSequences: Int = 0, kvTokens: UInt64 = 0, evaluatedTokens: UInt64 = 0) {
      self.queued = queued
      self.residentSequences = residentSequences
      self.kvTokens = kvTokens
      self.evaluatedTokens = evaluatedTokens
    }
  }

  /// Whether another sequence fits into its cache.
  var hasRoom: Bool { assigned.count < offer.slots }
}

/// The coordinator's book of workers: who may join, who serves what, who has gone silent. Times are nanoseconds of a
/// monotonic clock that the caller passes in.
public struct ReplicaRegistry<Peer: Hashable & Sendable>: Sendable {
  public struct Limits: Sendable, Equatable {
    /// Silence after which a replica counts as lost.
    public var silence: UInt64 = 3_000_000_000
    /// Pending steps without progress, beyond the batch's own budget, after which it counts as hung.
    public var hang: UInt64 = 10_000_000_000
    /// Registered replicas at most.
    public var replicas = 1024

    public init() {}
  }

  public enum Decision: Sendable, Equatable {
    case accepted(ReplicaID)
    /// Known already, and nothing but its slots has changed: what is under way goes on.
    case renewed(ReplicaID)
    /// The vocabularies differ in size or fingerprint: compare them before serving, or go on if that is under way.
    case compareVocabulary(ReplicaID)
    case refused(code: String, message: String)
  }

  /// What the coordinator demands of every worker.
  public struct Requirements: Sendable {
    public var experts: Set<String>
    public var vocabularyFingerprint: SHA256Digest
    public var vocabularySize: Int
    public var protocolRange: ClosedRange<UInt32>
    public var reproducible: Bool

    public init(
      experts: Set<String>, vocabularyFingerprint: SHA256Digest, vocabularySize: Int,
      protocolRange: ClosedRange<UInt32>, reproducible: Bool
    ) {
      self.experts = experts
      self.vocabularyFingerprint = vocabularyFingerprint
      self.vocabularySize = vocabularySize
      self.protocolRange = protocolRange
      self.reproducible = reproducible
    }
  }

  public let requirements: Requirements
  public let limits: Limits
  public internal(set) var replicas: [ReplicaID: Replica] = [:]
  private var peers: [Peer: ReplicaID] = [:]
  private var addresses: [ReplicaID: Peer] = [:]
  private var nextID: UInt64 = 1
  /// Processes that were caught with wrong numbers: a new connection does not clear them.
  private var banned: Set<UInt64> = []
  var prefixes = PrefixDirectory()
  var health = HealthBook()

  public init(requirements: Requirements, limits: Limits = Limits()) {
    self.requirements = requirements
    self.limits = limits
  }

  // MARK: Joining

  public mutating func register(_ offer: ReplicaOffer, from peer: Peer, now: UInt64) -> (Decision, lost: ReplicaID?) {
    if let id = peers[peer], let known = replicas[id], known.offer.isSame(as: offer) {
      replicas[id]?.offer.slots = offer.slots
      replicas[id]?.lastFrame = now
      // A worker repeats itself while a comparison keeps it waiting.
      return (known.state == .verifying ? .compareVocabulary(id) : .renewed(id), nil)
    }
    // The same connection or the same process anew: what was there before is gone. A process has one key, and nobody
    // takes the place of another's.
    let former =
      peers[peer]
      ?? replicas.values.first { $0.offer.incarnation == offer.incarnation && $0.offer.key?.key == offer.key?.key }?
      .id
    if let former { remove(former) }
    if let refusal = refusal(of: offer) { return (refusal, former) }
    let id = ReplicaID(rawValue: nextID)
    nextID += 1
    let same =
      offer.vocabularyFingerprint == requirements.vocabularyFingerprint
      && offer.vocabularySize == requirements.vocabularySize
    replicas[id] = Replica(
      id: id, offer: offer, state: same ? .serving : .verifying, lastFrame: now, progressChanged: now)
    peers[peer] = id
    addresses[id] = peer
    return (same ? .accepted(id) : .compareVocabulary(id), former)
  }

  private func refusal(of offer: ReplicaOffer) -> Decision? {
    let served = requirements.protocolRange
    guard offer.protocolRange.overlaps(served) else {
      return .refused(
        code: "protocol",
        message: "this coordinator serves protocol versions \(served.lowerBound) to \(served.upperBound), the worker "
          + "speaks \(offer.protocolRange.lowerBound) to \(offer.protocolRange.upperBound): install the same release "
          + "on both")
    }
    guard requirements.experts.contains(offer.expert) else {
      let known = requirements.experts.sorted().joined(separator: ", ")
      return .refused(
        code: "expert", message: "there is no expert \"\(offer.expert)\" in this cluster; its experts are \(known)")
    }
    guard replicas.count < limits.replicas else {
      return .refused(code: "capacity", message: "this coordinator already has \(limits.replicas) workers")
    }
    guard !banned.contains(offer.incarnation) else {
      return .refused(
        code: "quarantined",
        message: "this worker sent wrong numbers and is not used again; check its machine, then start it anew")
    }
    let others = replicas.values.filter { $0.offer.expert == offer.expert && $0.state != .quarantined }
    guard let other = others.min(by: { $0.id < $1.id }) else { return nil }
    if other.offer.modelFingerprint != offer.modelFingerprint {
      return .refused(
        code: "model",
        message: "the worker's model, adapter or settings are not those of expert \"\(offer.expert)\" as served by "
          + "\(other.offer.host) (pid \(other.offer.pid)): fingerprint \(offer.modelFingerprint.hex.prefix(12)) against "
          + "\(other.offer.modelFingerprint.hex.prefix(12)); replicas of one expert must use identical files")
    }
    if requirements.reproducible, other.offer.numericsHash != offer.numericsHash {
      return .refused(
        code: "numerics",
        message: "the worker computes other bits (\(offer.numericsLabel)) than expert \"\(offer.expert)\" on "
          + "\(other.offer.host) (\(other.offer.numericsLabel)); set decoding.reproducible: false to mix them")
    }
    return nil
  }

  /// The vocabulary was found to be the router's, or the router's with tokens appended.
  public mutating func verified(_ id: ReplicaID) {
    if replicas[id]?.state == .verifying { replicas[id]?.state = .serving }
  }

  // MARK: Lookup

  public func replica(of peer: Peer) -> ReplicaID? { peers[peer] }

  public func peer(of id: ReplicaID) -> Peer? { addresses[id] }

  public func replica(pid: Int32, host: String) -> ReplicaID? {
    replicas.values.first { $0.offer.pid == pid && $0.offer.host == host }?.id
  }

  /// Serving replicas of an expert that have slots for this coordinator.
  public func serving(_ expert: String) -> [Replica] {
    replicas.values.filter { $0.offer.expert == expert && $0.state == .serving && $0.offer.slots > 0 }
  }

  /// Experts without a serving replica, in name order.
  public var missingExperts: [String] { requirements.experts.filter { serving($0).isEmpty }.sorted() }

  /// Sequences that an expert's replicas hold at once.
  public func capacity(_ expert: String) -> Int { serving(expert).reduce(0) { $0 + $1.offer.slots } }

  /// Tokens that a sequence may have with each of these experts: the least of its replicas that take steps. Experts
  /// without one are left out.
  func contexts(of experts: Set<String>) -> [String: Int] {
    replicas.values.reduce(into: [:]) { contexts, replica in
      let offer = replica.offer
      guard experts.contains(offer.expert), replica.state == .serving || replica.state == .draining else { return }
      contexts[offer.expert] = min(offer.context, contexts[offer.expert] ?? Int.max)
    }
  }

  // MARK: Work

  public mutating func assign(_ sequence: UInt64, to id: ReplicaID) { replicas[id]?.assigned.insert(sequence) }

  public mutating func unassign(_ sequence: UInt64, from id: ReplicaID) { replicas[id]?.assigned.remove(sequence) }

  public mutating func callStarted(_ id: ReplicaID, now: UInt64) {
    guard var replica = replicas[id] else { return }
    if replica.pending == 0 { replica.progressChanged = now }
    replica.pending += 1
    replicas[id] = replica
  }

  public mutating func callEnded(_ id: ReplicaID) {
    if let pending = replicas[id]?.pending { replicas[id]?.pending = max(0, pending - 1) }
  }

  // MARK: Life

  public mutating func sawFrame(from id: ReplicaID, now: UInt64) { replicas[id]?.lastFrame = now }

  public mutating func heartbeat(
    from id: ReplicaID, progress: UInt64, batchBudget: UInt64, draining: Bool, report: Replica.Report = .init(),
    now: UInt64
  ) {
    guard var replica = replicas[id] else { return }
    replica.lastFrame = now
    replica.hasBeaten = true
    if replica.progress != progress { (replica.progress, replica.progressChanged) = (progress, now) }
    replica.batchBudget = batchBudget
    replica.report = report
    // Ours that it counts are still pending here: a reply does not overtake the heartbeat before it.
    replica.queuedByOthers = max(0, report.queued - replica.pending)
    if draining, replica.state == .serving { replica.state = .draining }
    replicas[id] = replica
  }

  /// No new sequences from now on; what it has may move away or end.
  public mutating func drain(_ id: ReplicaID) {
    if replicas[id]?.state == .serving { replicas[id]?.state = .draining }
  }

  public mutating func quarantine(_ id: ReplicaID) {
    guard let replica = replicas[id] else { return }
    replicas[id]?.state = .quarantined
    if banned.count < limits.replicas { banned.insert(replica.offer.incarnation) }
  }

  /// Replicas that have gone silent or hang, with the reason. They are still listed; `remove` them.
  public func overdue(now: UInt64) -> [(ReplicaID, String)] {
    replicas.values.sorted { $0.id < $1.id }.compactMap { replica in
      let silent = now &- replica.lastFrame
      if now > replica.lastFrame, silent > limits.silence {
        return (replica.id, "no word from it for \(silent / 1_000_000) ms")
      }
      let idle = now &- replica.progressChanged
      let allowed = limits.hang + replica.batchBudget * 4
      if replica.pending > 0, now > replica.progressChanged, idle > allowed {
        return (replica.id, "it answers heartbeats but has computed nothing for \(idle / 1_000_000) ms")
      }
      return nil
    }
  }

  /// This process itself was suspended, or starved: what the replicas sent meanwhile is still to be read, and their
  /// silence counts from now.
  public mutating func resumed(now: UInt64) {
    for id in replicas.keys {
      replicas[id]?.lastFrame = now
      replicas[id]?.progressChanged = now
    }
  }

  public mutating func remove(_ id: ReplicaID) {
    replicas[id] = nil
    prefixes.remove(id)
    if let peer = addresses.removeValue(forKey: id) { peers[peer] = nil }
  }
}

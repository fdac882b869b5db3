internal import Core
internal import Fusion
internal import Inference
internal import Messaging

extension CoordinatorRuntime {
  /// What this coordinator is doing now. Never waits for a computation; takes time in proportion to the replicas.
  public func status() -> CoordinatorStatus {
    let now = MonotonicClock.now
    let (replicas, missing, refusals, faults, turnedAway) = pool.state.withLock { state in
      (
        Array(state.registry.replicas.values), state.registry.missingExperts, state.refusals, state.counts,
        state.turnedAway
      )
    }
    let counts = meter.counts(now: now)
    let queue = admission.counts
    let byExpert = Dictionary(grouping: replicas, by: \.offer.expert)
    let routed = host.head.experts
    let experts = (routed + allExperts.subtracting(routed).sorted()).map { name in
      CoordinatorStatus.Expert(
        name: name, routed: routed.contains(name), fingerprint: byExpert[name]?.first?.offer.modelFingerprint.hex,
        replicas: (byExpert[name] ?? []).sorted { $0.id < $1.id }.map { Self.status(of: $0, now: now) },
        tokens: counts.tokensPerExpert[name] ?? 0)
    }
    return CoordinatorStatus(
      version: Software.version, uptimeS: Double(now - started) / 1e9, ready: missing.isEmpty,
      reason: Self.reason(missing: missing, refusals: refusals), router: routerStatus, experts: experts,
      requests: CoordinatorStatus.Requests(
        running: queue.running, waiting: queue.waiting, queueLimit: configuration.queueLimit,
        finished: counts.finished, failed: counts.failed, cancelled: counts.cancelled, refused: counts.refused),
      totals: counts.totals,
      faults: CoordinatorStatus.Faults(
        lostReplicas: faults.lost, hedgedSteps: faults.hedges, hedgesWon: faults.hedgesWon),
      door: door(turnedAway),
      tokensPerSecond: counts.tokensPerSecond)
  }

  private func door(_ turnedAway: DoorCounts) -> CoordinatorStatus.Door {
    let wire = pool.server.withLock { $0 }?.statistics ?? .init()
    return CoordinatorStatus.Door(
      refusedWorkers: turnedAway.refusedWorkers, limitedConnections: wire.refusedConnections,
      refusedKeys: wire.refusedKeys,
      failedHandshakes: wire.handshakeFailures - min(wire.refusedKeys, wire.handshakeFailures),
      malformedMessages: turnedAway.malformedMessages + wire.droppedMalformed,
      unauthorisedMessages: wire.droppedUnauthorised, limitedMessages: turnedAway.limitedMessages,
      outboxMessages: wire.droppedOutbox, unreachableMessages: wire.droppedUnreachable)
  }

  private var routerStatus: CoordinatorStatus.Router {
    let statistics = host.decoder.statistics
    return CoordinatorStatus.Router(
      model: configuration.routerModel, fingerprint: host.fingerprint.hex, context: configuration.context,
      slots: configuration.slots,
      queued: statistics.queued, residentSequences: statistics.residentSequences, kvTokens: statistics.kvTokens,
      evaluatedTokens: statistics.evaluatedTokens)
  }

  private static func status(of replica: Replica, now: UInt64) -> CoordinatorStatus.Replica {
    CoordinatorStatus.Replica(
      id: replica.id.description, host: replica.offer.host, pid: Int(replica.offer.pid), state: replica.state.name,
      slots: replica.offer.slots, context: replica.offer.context, sequences: replica.assigned.count,
      underWay: replica.pending, queued: replica.queued, residentSequences: replica.report.residentSequences,
      kvTokens: Int(clamping: replica.report.kvTokens), evaluatedTokens: replica.report.evaluatedTokens,
      silenceMs: now > replica.lastFrame ? Int((now - replica.lastFrame) / 1_000_000) : 0,
      batchInvariant: replica.offer.batchInvariant)
  }

  private static func reason(missing: [String], refusals: [String: String]) -> String {
    missing.map { expert in
      "expert \"\(expert)\" has no replica" + (refusals[expert].map { ", a worker was refused: \($0)" } ?? "")
    }.joined(separator: "; ")
  }
}

extension Replica.State {
  /// For people and tools.
  var name: String {
    switch self {
    case .verifying: "verifying"
    case .serving: "serving"
    case .draining: "draining"
    case .quarantined: "quarantined"
    }
  }
}

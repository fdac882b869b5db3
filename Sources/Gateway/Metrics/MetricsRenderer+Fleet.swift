internal import Coordinator

/// Hosts, the workers' door and batches.
extension MetricsRenderer {
  static let replicaStates = ["verifying", "serving", "draining", "quarantined"]

  func hosts(_ text: inout PrometheusText) {
    text.family("fusionroute_host_replicas", .gauge, "Replicas on each host that has some, by state.")
    let hosts = Dictionary(grouping: status.experts.flatMap(\.replicas), by: \.host)
    for (host, replicas) in hosts.sorted(by: { $0.key < $1.key }) {
      for state in Self.replicaStates {
        text.sample(replicas.count { $0.state == state }, [("host", host), ("state", state)])
      }
    }
  }

  func door(_ door: CoordinatorStatus.Door, _ text: inout PrometheusText) {
    text.single(
      "fusionroute_workers_refused_total", .counter,
      "Registrations of workers that were refused; the log has the reasons.", door.refusedWorkers)
    text.family(
      "fusionroute_worker_connections_refused_total", .counter,
      "Connections of workers that were closed: over a limit, or the key or handshake was wrong.")
    for (reason, count) in [
      ("limit", door.limitedConnections), ("key", door.refusedKeys), ("handshake", door.failedHandshakes),
    ] { text.sample(count, [("reason", reason)]) }
    text.family(
      "fusionroute_worker_messages_dropped_total", .counter,
      "Messages from and to workers that were dropped, by reason.")
    for (reason, count) in [
      ("malformed", door.malformedMessages), ("unauthorised", door.unauthorisedMessages),
      ("rate", door.limitedMessages), ("outbox", door.outboxMessages), ("gone", door.unreachableMessages),
    ] { text.sample(count, [("reason", reason)]) }
  }

  func batches(_ batches: Batches, _ text: inout PrometheusText) {
    let counts = batches.counts
    text.single("fusionroute_batches_accepted_total", .counter, "Batches that were taken in.", counts.accepted)
    text.single(
      "fusionroute_batches_open", .gauge, "Batches that have not ended, as of the last look at them.", counts.open)
    text.single(
      "fusionroute_batch_items_waiting", .gauge,
      "Requests of open batches without an answer, those under way included.", counts.waiting)
    text.single(
      "fusionroute_batch_items_running", .gauge, "Requests of batches that are under way.", counts.running)
    text.family(
      "fusionroute_batch_items_total", .counter, "Requests of batches that were answered, by outcome.")
    for (outcome, count) in [("finished", counts.finished), ("failed", counts.failed)] {
      text.sample(count, [("outcome", outcome)])
    }
    if let bytes = batches.journalBytes {
      text.single(
        "fusionroute_journal_bytes", .gauge, "Bytes in use in the journal's file; what was deleted does not count.",
        bytes)
    }
    text.single(
      "fusionroute_journal_limit_bytes", .gauge, "Bytes beyond which the journal takes nothing new in.",
      batches.journalLimit)
  }
}

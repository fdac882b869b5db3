internal import Core
internal import Launch

extension LocalWorkers {
  /// Replicas of an expert that run, or are being started again, for one of the cluster file's hosts.
  ///
  /// - Parameter host: nil where the file lists none.
  func count(of expert: String, on host: String?) -> Int {
    ReplicaAdjustment(
      of: expert, to: 0, kept: kept(on: host), givenUp: supervisor.givenUp, taken: []
    ).stopping.count
  }

  /// Brings an expert to its number of replicas on this machine. One that leaves drains by itself on SIGTERM: its sequences
  /// go on with the others.
  ///
  /// Throws `unavailable` if memory does not suffice; then nothing has changed.
  func setReplicas(of expert: ClusterFile.Expert, on host: String?, to count: Int) throws -> ReplicaChange {
    try scaling.withLock { _ in
      guard let endpoint = endpoint.withLock({ $0 }) else {
        throw FusionRouteError.unavailable("the workers are only being started: try again later")
      }
      let adjustment = ReplicaAdjustment(
        of: expert.name, to: count, kept: kept(on: host), givenUp: supervisor.givenUp, taken: supervisor.taken)
      try MemoryPlan.check(
        adjustment.starting.map { _ in ("a replica of \"\(expert.name)\"", expert.engine) }, place: "this machine")
      for name in adjustment.forgotten + adjustment.stopping { supervisor.stop(name) }
      for name in adjustment.starting { try start(name, of: expert, host: host, dialling: endpoint) }
      return ReplicaChange(started: adjustment.starting, stopped: adjustment.stopping)
    }
  }

  private func kept(on host: String?) -> Set<String> {
    let homes = homes.withLock { $0 }
    return supervisor.kept.filter { homes[$0] == .some(host) }
  }
}

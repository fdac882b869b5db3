internal import Core
internal import Launch

extension LocalWorkers: ReplicaScaler {
  /// New replicas take the lowest free numbers; those with the highest numbers leave. One that leaves drains by itself on
  /// SIGTERM: its sequences go on with the others.
  func scale(expert name: String, to count: Int) async throws -> ReplicaChange { try setReplicas(of: name, to: count) }

  private func setReplicas(of name: String, to count: Int) throws -> ReplicaChange {
    guard cluster.expert(named: name) != nil else {
      throw FusionRouteError.badInput("there is no expert \"\(name)\" in \(cluster.source)")
    }
    return try scaling.withLock { _ in
      guard let endpoint = endpoint.withLock({ $0 }) else {
        throw FusionRouteError.unavailable("the workers are only being started: try again later")
      }
      let running = supervisor.kept.compactMap { Self.index($0, of: name) }.sorted()
      var change = ReplicaChange()
      for index in running.dropFirst(count).reversed() {
        change.stopped.append("\(name).\(index)")
        supervisor.stop("\(name).\(index)")
      }
      let missing = max(0, count - running.count)
      if missing > 0 {
        let engine = cluster.expert(named: name)?.engine
        try MemoryPlan.check(
          engine.map { engine in (0..<missing).map { _ in ("a replica of \"\(name)\"", engine) } } ?? [],
          place: "this machine")
      }
      let taken = Set(supervisor.taken.compactMap { Self.index($0, of: name) })
      let free = (0...).lazy.filter { !taken.contains($0) }.prefix(missing)
      for index in free {
        try start(name, index, host: nil, dialling: endpoint)
        change.started.append("\(name).\(index)")
      }
      return change
    }
  }

  /// The number in a replica's name; nil if it is another expert's.
  private static func index(_ replica: String, of expert: String) -> Int? {
    guard replica.hasPrefix(expert + ".") else { return nil }
    return Int(replica.dropFirst(expert.count + 1))
  }
}

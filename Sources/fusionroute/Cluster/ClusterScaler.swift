internal import Core
internal import Launch

/// `scale` on all hosts where `up` starts workers: this machine's as its own processes, others' by their launcher.
actor ClusterScaler: ReplicaScaler {
  /// Changes that may wait for their turn; they are made one after the other.
  static let maximumWaiting = 16

  private let cluster: ClusterFile
  private let workers: LocalWorkers
  private let hosts: LaunchedHosts?
  private var last: Task<Void, Never>?
  private var waiting = 0

  /// Nil where the workers are started by others.
  ///
  /// - Parameter hosts: nil: no other hosts.
  init?(_ cluster: ClusterFile, workers: LocalWorkers?, hosts: LaunchedHosts?) {
    guard let workers else { return nil }
    self.cluster = cluster
    self.workers = workers
    self.hosts = hosts
  }

  func scale(expert name: String, to count: Int) async throws -> ReplicaChange {
    guard let expert = cluster.expert(named: name) else {
      throw FusionRouteError.badInput("there is no expert \"\(name)\" in \(cluster.source)")
    }
    guard waiting < Self.maximumWaiting else {
      throw FusionRouteError.unavailable("\(waiting) changes of replicas wait already: try again later")
    }
    waiting += 1
    defer { waiting -= 1 }
    // A client that goes away leaves nothing half done.
    let previous = last
    let task = Task { () throws -> ReplicaChange in
      await previous?.value
      return try await self.change(expert, to: count)
    }
    last = Task { _ = await task.result }
    return try await task.value
  }

  /// One of the hosts that replicas can be started on.
  private struct Place {
    /// Nil: this machine, where the cluster file lists no hosts.
    var host: ClusterFile.Host?
    var isHere: Bool { host?.isHere ?? true }
  }

  private var places: [Place] {
    guard !cluster.hosts.isEmpty else { return [Place(host: nil)] }
    return cluster.hosts.filter { $0.isHere || (hosts != nil && $0.launcher.startsElsewhere) }.map { Place(host: $0) }
  }

  private func change(_ expert: ClusterFile.Expert, to count: Int) async throws -> ReplicaChange {
    if let hosts, await hosts.fleet.isStarting {
      throw FusionRouteError.unavailable("hosts are only being started: try again later")
    }
    let problem = try ClusterPlan.problem(cluster)
    var change = ReplicaChange()
    // Hosts that failed; what they were to get goes to others.
    var failed: [String: FusionRouteError] = [:]
    while true {
      let places = places.filter { failed[$0.host?.name ?? ""] == nil }
      let running = await running(places)
      let wanted: [Int]
      do {
        wanted = try target(expert, count, problem, places, running)
      } catch {
        throw failed.values.first ?? error
      }
      let index = cluster.experts.firstIndex { $0.name == expert.name } ?? 0
      let failures = try await apply(
        expert, wanted, was: running[index], at: places, size: problem.experts[index].demand, noting: &change)
      guard let failure = failures.first else { return change }
      // More replicas may find another host; one that cannot be told to stop some is the operator's to look at.
      if wanted.reduce(0, +) <= running[index].reduce(0, +) { throw failure.value }
      failed.merge(failures) { first, _ in first }
    }
  }

  /// Replicas of each expert at each place.
  private func running(_ places: [Place]) async -> [[Int]] {
    var result: [[Int]] = []
    for expert in cluster.experts {
      var row: [Int] = []
      for place in places {
        if place.isHere {
          row.append(workers.count(of: expert.name, on: place.host?.name))
        } else {
          row.append(await hosts?.fleet.count(of: expert.name, on: place.host?.name ?? "") ?? 0)
        }
      }
      result.append(row)
    }
    return result
  }

  private func target(
    _ expert: ClusterFile.Expert, _ count: Int, _ problem: PlacementProblem, _ places: [Place], _ running: [[Int]]
  ) throws -> [Int] {
    let names = places.map { $0.host?.name ?? ClusterPlan.thisMachine }
    var reduced = problem
    reduced.hosts = names.compactMap { name in problem.hosts.first { $0.name == name } }
    guard expert.hosts.isEmpty ? !names.isEmpty : expert.hosts.contains(where: names.contains) else {
      throw FusionRouteError.badInput(
        "\(cluster.source): this service starts nothing on the hosts that \"\(expert.name)\" may be on: "
          + "start or stop its replicas there (fusionroute workers)")
    }
    let index = cluster.experts.firstIndex { $0.name == expert.name } ?? 0
    do { return try Planner.rescale(reduced, running: running, expert: index, to: count) } catch {
      throw ClusterPlan.refusal(error, cluster)
    }
  }

  /// - Returns: the failures of hosts.
  private func apply(
    _ expert: ClusterFile.Expert, _ wanted: [Int], was: [Int], at places: [Place],
    size: PlacementProblem.Demand, noting change: inout ReplicaChange
  ) async throws -> [String: FusionRouteError] {
    var failures: [String: FusionRouteError] = [:]
    var elsewhere: [(host: ClusterFile.Host, from: Int, to: Int)] = []
    for (index, place) in places.enumerated() where wanted[index] != was[index] {
      if place.isHere {
        do {
          let here = try workers.setReplicas(of: expert, on: place.host?.name, to: wanted[index])
          change.started += here.started
          change.stopped += here.stopped
        } catch let error as FusionRouteError {
          failures[place.host?.name ?? ""] = error
        }
      } else if let host = place.host {
        elsewhere.append((host, was[index], wanted[index]))
      }
    }
    guard let hosts, !elsewhere.isEmpty else { return failures }
    let refused = try await hosts.fleet.apply(
      elsewhere.map { host, _, count in
        hosts.change(
          host, .init(expert: expert.name, count: count, bytes: size.bytes, threads: size.threads))
      })
    for (host, from, to) in elsewhere where refused[host.name] == nil {
      change.hosts.append(.init(name: host.name, launcher: host.launcher.rawValue, from: from, to: to))
    }
    return failures.merging(refused) { first, _ in first }
  }
}

internal import Core
internal import Foundation
internal import Inference
internal import Launch

/// Placement of a cluster's replicas, with what the headers of its models say about their size.
enum ClusterPlan {
  /// Where each replica goes, with sizes. Models that are not here, because only other hosts need them, count nothing
  /// where that makes no difference to the placement.
  ///
  /// Throws `badInput` for models that cannot be read, and what is missing where if there is no placement.
  static func plan(_ cluster: ClusterFile) throws -> PlacementPlan { try solve(try problem(cluster), cluster) }

  /// What ``plan(_:)`` decides about. Throws `badInput` for models that cannot be read.
  static func problem(_ cluster: ClusterFile) throws -> PlacementProblem {
    if missing(cluster).isEmpty { return try problem(cluster, sizes: Sizes()) }
    try checkSizesAreNotNeeded(cluster)
    return try problem(cluster, sizes: nil)
  }

  /// Experts whose model is not on this machine.
  static func missing(_ cluster: ClusterFile) -> [ClusterFile.Expert] {
    cluster.experts.filter { !FileManager.default.fileExists(atPath: $0.engine.model) }
  }

  /// Where each replica goes. Reads models only where their size can make a difference, since a host of workers may
  /// have none but its own. Without `hosts` everything is on this machine.
  static func placement(_ cluster: ClusterFile) throws -> Placement {
    guard !cluster.hosts.isEmpty else { return Placement(cluster) }
    guard cluster.hosts.contains(where: { $0.memory != nil }) else {
      return try solve(try problem(cluster, sizes: nil), cluster).placement
    }
    if isForced(cluster) { return Placement(cluster) }
    return try plan(cluster).placement
  }

  /// One host for each expert: there is nothing to decide.
  private static func isForced(_ cluster: ClusterFile) -> Bool {
    cluster.experts.allSatisfy { $0.hosts.count == 1 || cluster.hosts.count == 1 }
  }

  private static func checkSizesAreNotNeeded(_ cluster: ClusterFile) throws {
    guard let expert = missing(cluster).first, cluster.hosts.contains(where: { $0.memory != nil }), !isForced(cluster)
    else { return }
    throw FusionRouteError.badInput(
      "\(cluster.source) limits the memory of hosts, so that where replicas go depends on the models' sizes, and the "
        + "model of \"\(expert.name)\" is not here (\(expert.engine.model)): say what runs here with --replicas "
        + "EXPERT=COUNT, as `fusionroute plan` shows it on the coordinator's machine, or give each expert its \"host\"")
  }

  /// What the router takes.
  static func router(_ cluster: ClusterFile) throws -> PlacementProblem.Demand {
    try Sizes().demand(cluster.router.engine, name: "the router")
  }

  private static func solve(_ problem: PlacementProblem, _ cluster: ClusterFile) throws -> PlacementPlan {
    do { return try Planner.plan(problem) } catch { throw refusal(error, cluster) }
  }

  /// What users are told of a failure.
  static func refusal(_ failure: PlacementFailure, _ cluster: ClusterFile) -> FusionRouteError {
    FusionRouteError(
      failure.lacksMemory ? .unavailable : .badInput, "\(cluster.source): \(failure.sentence)", cause: failure)
  }

  /// - Parameter sizes: nil: all are taken for nothing.
  private static func problem(_ cluster: ClusterFile, sizes: Sizes?) throws -> PlacementProblem {
    func demand(_ engine: ClusterFile.Engine, _ name: String) throws -> PlacementProblem.Demand {
      try sizes?.demand(engine, name: name) ?? unknown(engine)
    }
    func unknown(_ engine: ClusterFile.Engine) -> PlacementProblem.Demand {
      .init(threads: engine.threads, weights: .init(file: engine.model, bytes: 0), ownBytes: 0)
    }
    var hosts = cluster.hosts.map {
      PlacementProblem.Host(name: $0.name, memory: $0.memory.map(UInt64.init(clamping:)), cores: $0.threads)
    }
    if hosts.isEmpty { hosts = [PlacementProblem.Host(name: thisMachine)] }
    // The coordinator's process is on this machine, whatever else is.
    let here = cluster.hosts.isEmpty ? 0 : cluster.hosts.firstIndex(where: \.isHere)
    if let here {
      // A router that is missing is an error of who starts it, not of the plan.
      let isThere = FileManager.default.fileExists(atPath: cluster.router.engine.model)
      hosts[here].residents = [
        try isThere ? demand(cluster.router.engine, "the router") : unknown(cluster.router.engine)
      ]
    }
    let experts = try cluster.experts.map {
      PlacementProblem.Expert(
        name: $0.name, replicas: $0.replicas, demand: try demand($0.engine, "expert \"\($0.name)\""), hosts: $0.hosts)
    }
    return PlacementProblem(hosts: hosts, experts: experts)
  }

  /// What a plan calls this machine where the cluster file lists no hosts.
  static let thisMachine = "this machine"

  private struct Sizes {
    func demand(_ engine: ClusterFile.Engine, name: String) throws -> PlacementProblem.Demand {
      do {
        let forecast = try MemoryForecast.forecastElsewhere(
          path: engine.model, configuration: engine.decoder(slots: engine.slots))
        let adapters =
          try engine.adapters.isEmpty
          ? 0
          : MemoryForecast.forecastElsewhere(
            path: engine.model, adapters: engine.adapters, configuration: engine.decoder(slots: engine.slots)
          ).weightsBytes - forecast.weightsBytes
        return PlacementProblem.Demand(
          threads: engine.threads, weights: .init(file: engine.model, bytes: forecast.weightsBytes),
          ownBytes: forecast.kvBytes + forecast.computeBytes + adapters)
      } catch let error as FusionRouteError {
        throw FusionRouteError(error.code, "\(name): \(error.message)", cause: error.cause)
      }
    }
  }
}

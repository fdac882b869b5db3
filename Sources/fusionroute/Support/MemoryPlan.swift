internal import Core
internal import Inference
internal import Launch

/// What several processes on one machine take together. Each alone checks itself before it loads, but none knows of the
/// others that load at the same time.
enum MemoryPlan {
  /// One process: what a sentence calls it, and what it loads.
  typealias Member = (name: String, engine: ClusterFile.Engine)

  static func members(_ replicas: [Placement.Replica], of cluster: ClusterFile) -> [Member] {
    replicas.compactMap { replica in
      cluster.expert(named: replica.expert).map { ("expert \"\(replica.expert)\"", $0.engine) }
    }
  }

  /// Throws `unavailable` with the numbers if the processes will not fit beside each other, and what is wrong with a
  /// file that cannot be read.
  ///
  /// - Parameters:
  ///   - limit: bytes that they may use together, where the cluster file sets one.
  ///   - place: for the sentence, such as `this machine`.
  static func check(_ members: [Member], limit: Int? = nil, place: String) throws {
    var needed: UInt64 = 0
    var available: UInt64?
    var mapped: Set<String> = []
    for (name, engine) in members {
      let forecast: MemoryForecast
      do {
        forecast = try MemoryForecast.forecast(
          path: engine.model, adapters: engine.adapters, configuration: engine.decoder(slots: engine.slots))
      } catch let error as FusionRouteError {
        throw FusionRouteError(error.code, "\(name): \(error.message)", cause: error.cause)
      }
      needed = .saturatingSum(needed, forecast.kvBytes, forecast.computeBytes)
      // Processes that map the same file share its pages.
      if mapped.insert(engine.model).inserted { needed = .saturatingSum(needed, forecast.weightsBytes) }
      available = forecast.available ?? available
    }
    if let limit, needed > UInt64(limit) {
      throw FusionRouteError.unavailable(
        "\(members.count) processes need about \(size(needed)), more than the \(size(UInt64(limit))) that the cluster "
          + "file gives \(place): use fewer replicas or slots, a shorter context or a smaller weight type")
    }
    if let available, needed > available {
      throw FusionRouteError.unavailable(
        "\(members.count) processes need about \(size(needed)) and \(place) has \(size(available)) free: use fewer "
          + "replicas or slots, a shorter context or a smaller weight type")
    }
  }

  private static func size(_ bytes: UInt64) -> String {
    bytes >= 1 << 30
      ? "\(Summary.decimal(Double(bytes) / Double(1 << 30), 1)) GiB"
      : "\(Summary.decimal(Double(bytes) / Double(1 << 20), 0)) MiB"
  }
}

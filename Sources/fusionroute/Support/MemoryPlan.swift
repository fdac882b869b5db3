internal import Core
internal import Inference
internal import Launch

/// What several processes on one machine take together. Each alone checks itself before it loads, but none knows of the
/// others that load at the same time.
enum MemoryPlan {
  /// Throws `unavailable` with the numbers if `engines` will not fit beside each other.
  ///
  /// - Parameters:
  ///   - limit: bytes that they may use together, where the cluster file sets one.
  ///   - place: for the sentence, such as `this machine`.
  static func check(_ engines: [ClusterFile.Engine], limit: Int? = nil, place: String) throws {
    var needed: UInt64 = 0
    var available: UInt64?
    var mapped: Set<String> = []
    for engine in engines {
      let forecast = try MemoryForecast.forecast(
        path: engine.model, adapters: engine.lora.map { [AdapterFile(path: $0, scale: engine.loraScale)] } ?? [],
        configuration: DecoderConfiguration(
          slots: engine.slots, contextPerSequence: engine.context, threads: engine.threads,
          kvType: KVType(rawValue: engine.kv.rawValue)))
      needed += forecast.kvBytes + forecast.computeBytes
      // Processes that map the same file share its pages.
      if mapped.insert(engine.model).inserted { needed += forecast.weightsBytes }
      available = forecast.available ?? available
    }
    if let limit, needed > UInt64(limit) {
      throw FusionRouteError.unavailable(
        "\(engines.count) processes need about \(size(needed)), more than the \(size(UInt64(limit))) that the cluster "
          + "file gives \(place): use fewer replicas or slots, a shorter context or a smaller weight type")
    }
    if let available, needed > available {
      throw FusionRouteError.unavailable(
        "\(engines.count) processes need about \(size(needed)) and \(place) has \(size(available)) free: use fewer "
          + "replicas or slots, a shorter context or a smaller weight type")
    }
  }

  private static func size(_ bytes: UInt64) -> String {
    bytes >= 1 << 30
      ? "\(Summary.decimal(Double(bytes) / Double(1 << 30), 1)) GiB"
      : "\(Summary.decimal(Double(bytes) / Double(1 << 20), 0)) MiB"
  }
}

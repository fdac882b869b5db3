internal import Core
internal import Evaluation
internal import Foundation
internal import Launch
internal import ModelFiles

/// The cluster that a method's answers come from.
enum EvaluationCluster {
  /// What must be the same for two methods to use one cluster, one after the other.
  struct Key: Hashable {
    var decoding: Method.Decoding

    init(_ decoding: Method.Decoding) {
      self.decoding = decoding
      self.decoding.mode = ""
    }
  }

  /// Sequences that a model of its own answers at once, where no cluster file says it.
  private static let plainSlots = 4

  /// The cluster file with the method's own router. Of a model by itself one whose experts nobody asks.
  static func file(_ decoding: Method.Decoding, settings: EvaluationSettings) throws -> ClusterFile {
    let base = try (decoding.cluster ?? settings.cluster).map { try ClusterFile.load(path: $0) }
    guard decoding.cluster != nil else {
      guard let model = decoding.model else { throw FusionRouteError.internal("a method without cluster and model") }
      var engine = base?.router.engine ?? ClusterFile.Engine(model: model, slots: plainSlots)
      engine.model = model
      engine.lora = decoding.lora
      engine.loraScale = 1
      // Alone on the machine: no expert has a share of the cores.
      engine.threads = ProcessorCount.usable
      return ClusterFile(
        source: model, router: .init(engine: engine, head: ""), experts: [.init(name: plainExpert, engine: engine)])
    }
    guard var cluster = base else { throw FusionRouteError.internal("a method without cluster") }
    // An answer in which others stood in for a lost expert is not the method's.
    cluster.onExpertLoss = .fail
    if let model = decoding.model {
      cluster.router.engine.model = model
      cluster.router.engine.lora = nil
    }
    if let lora = decoding.lora {
      cluster.router.engine.lora = lora
      cluster.router.engine.loraScale = 1
    }
    if let head = decoding.head { cluster.router.head = head }
    return cluster
  }

  static func isPlain(_ decoding: Method.Decoding) -> Bool { decoding.cluster == nil }

  private static let plainExpert = "none"

  /// Runs `body` with the cluster started.
  static func with(
    _ decoding: Method.Decoding, settings: EvaluationSettings, attach: Bool, log: LogSettings, progress: Progress,
    _ body: (ClusterSession) async throws -> Void
  ) async throws {
    var cluster = try file(decoding, settings: settings)
    let directory = try RuntimeDirectory()
    defer { directory.remove() }
    guard isPlain(decoding) else {
      if let scale = decoding.scale {
        let head = try RoutingHead.read(cluster.router.head)
        cluster.router.head = "\(directory.path)/head.gguf"
        try RoutingHead(
          experts: head.experts, weight: head.weight, bias: head.bias, complementScale: scale,
          embeddingWidth: head.embeddingWidth
        ).write(cluster.router.head)
      }
      return try await ClusterSession.with(
        cluster, workers: attach ? .elsewhere : .all, log: log, progress: progress, body)
    }
    cluster.router.head = "\(directory.path)/head.gguf"
    try emptyHead(for: cluster.router.engine.model).write(cluster.router.head)
    // No worker is started, and nobody waits for one: the router alone answers.
    cluster.listen.workers = directory.endpoint("workers")
    try await ClusterSession.withStarted(cluster, workers: .elsewhere, log: log, progress: progress, body)
  }

  private static func emptyHead(for model: String) throws -> RoutingHead {
    let file = try GGUFFile.read(model)
    guard let architecture = file.architecture, let width = file["\(architecture).embedding_length"]?.integer else {
      throw FusionRouteError.badInput("\(model) does not say how wide it is: it is no model for text")
    }
    return try RoutingHead(
      experts: [plainExpert], weight: [Float](repeating: 0, count: max(0, min(width, RoutingHead.maximumWidth))),
      embeddingWidth: width)
  }
}

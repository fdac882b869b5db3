internal import Core
internal import Foundation
internal import Launch
internal import ModelFiles

/// A cluster file for a person: what runs where.
enum ClusterDescription {
  static func text(of cluster: ClusterFile, json: Bool) throws -> String {
    json ? object(cluster).rendered : try lines(cluster).joined(separator: "\n")
  }

  private static func lines(_ cluster: ClusterFile) throws -> [String] {
    var lines = ["\(cluster.source): a cluster of \(cluster.experts.count) experts"]
    let router = cluster.router.engine
    lines.append("  router    \(file(router.model)), head \(file(cluster.router.head)), \(size(router))")
    for expert in cluster.experts {
      let lora = expert.engine.lora.map { " + \(file($0))" } ?? ""
      let replicas = expert.replicas == 1 ? "" : "\(expert.replicas) × "
      lines.append("  expert    \(expert.name): \(replicas)\(file(expert.engine.model))\(lora), \(size(expert.engine))")
    }
    let placement = (try? ClusterPlan.placement(cluster)) ?? Placement(cluster)
    for host in cluster.hosts {
      let names = placement.replicas(on: host.name).map { "\($0.expert).\($0.index)" }
      lines.append(
        "  host      \(host.name) (\(host.address.isEmpty ? host.launcher.rawValue : host.address)): \(names.isEmpty ? "nothing" : names.joined(separator: ", "))"
      )
    }
    lines.append("  workers   \(cluster.listen.workers?.description ?? "a private ipc socket")")
    lines.append("  keys      \(cluster.keys ?? "none: loopback and ipc only")")
    lines += try differences(cluster).map { "  note      \($0)" }
    lines += cluster.warnings(cores: ProcessorCount.usable, placement: placement)
      .map { "  warning   \($0)" }
    return lines
  }

  /// Sentences about experts that do not fit the router in what only their files show.
  static func differences(_ cluster: ClusterFile) throws -> [String] {
    func isThere(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }
    guard isThere(cluster.router.engine.model) else { return [] }
    let router = try GGUFFile.read(cluster.router.engine.model)
    var notes: [String] = []
    for expert in cluster.experts where isThere(expert.engine.model) {
      let model = try GGUFFile.read(expert.engine.model)
      if model["tokenizer.chat_template"] != router["tokenizer.chat_template"] {
        notes.append(
          "the chat template of \"\(expert.name)\" differs from the router's, which is the one that is used")
      }
      if model["tokenizer.ggml.tokens"] != router["tokenizer.ggml.tokens"] {
        notes.append(
          "the vocabulary of \"\(expert.name)\" differs from the router's; it works only if it just adds tokens")
      }
    }
    return notes
  }

  private static func file(_ path: String) -> String {
    let name = URL(fileURLWithPath: path).lastPathComponent
    return FileManager.default.fileExists(atPath: path) ? name : "\(name) (missing: \(path))"
  }

  private static func size(_ engine: ClusterFile.Engine) -> String {
    let gpu = engine.gpuLayers > 0 ? ", \(engine.gpuLayers) layers on the GPU" : ""
    return "\(engine.threads) thread\(engine.threads == 1 ? "" : "s"), \(engine.slots) × \(engine.context) tokens\(gpu)"
  }

  private static func object(_ cluster: ClusterFile) -> JSONText {
    func engine(_ engine: ClusterFile.Engine) -> [(String, JSONText)] {
      [
        ("model", .text(engine.model)), ("lora", engine.lora.map { .text($0) } ?? .null),
        ("threads", .integer(engine.threads)), ("gpu_layers", .integer(engine.gpuLayers)),
        ("context", .integer(engine.context)), ("slots", .integer(engine.slots)), ("kv", .text(engine.kv.rawValue)),
      ]
    }
    return .object([
      ("file", .text(cluster.source)),
      ("router", .object(engine(cluster.router.engine) + [("head", .text(cluster.router.head))])),
      (
        "experts",
        .array(
          cluster.experts.map {
            .object([("name", .text($0.name))] + engine($0.engine) + [("replicas", .integer($0.replicas))])
          })
      ),
      (
        "placement",
        .array(
          ((try? ClusterPlan.placement(cluster)) ?? Placement(cluster)).replicas.map {
            .object([
              ("expert", .text($0.expert)), ("index", .integer($0.index)),
              ("host", $0.host.map { .text($0) } ?? .null),
            ])
          })
      ),
      ("workers", cluster.listen.workers.map { .text($0.description) } ?? .null),
      ("keys", cluster.keys.map { .text($0) } ?? .null),
    ])
  }
}

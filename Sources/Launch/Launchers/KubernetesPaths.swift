internal import Core

/// Where the files of a cluster lie in a container: the directory of the cluster file becomes ``root``, and what lies in
/// directories beside it is mounted there, so that relative paths mean the same.
struct KubernetesPaths: Sendable, Equatable {
  static let root = "/cluster"

  /// The directory of the models, relative to the cluster file's: where the volume is mounted.
  var models: String
  /// The keys directory, likewise.
  var keys: String?
  /// Directories of the gateway's files, likewise; each is a Secret.
  var gateway: [String]

  /// Throws `badInput` naming the key whose file cannot be brought into a container.
  init(_ cluster: ClusterFile, directory: String) throws {
    func folder(of path: String, key: String) throws -> String {
      let below = path.hasPrefix(directory + "/") ? path.dropFirst(directory.utf8.count + 1) : ""
      let parts = below.split(separator: "/")
      guard parts.count > 1, let first = parts.first, ClusterFile.isValidName(String(first)) else {
        throw cluster.error(
          key,
          "Kubernetes needs \(path) in a directory beside the cluster file, such as \(directory)/models/: that directory "
            + "is what is mounted")
      }
      return String(first)
    }
    var found: [(String, String)] = [
      ("router.model", try folder(of: cluster.router.engine.model, key: "router.model")),
      ("router.head", try folder(of: cluster.router.head, key: "router.head")),
    ]
    if let lora = cluster.router.engine.lora {
      found.append(("router.lora", try folder(of: lora, key: "router.lora")))
    }
    for expert in cluster.experts {
      let key = "experts.\(expert.name)"
      found.append(("\(key).model", try folder(of: expert.engine.model, key: "\(key).model")))
      if let lora = expert.engine.lora { found.append(("\(key).lora", try folder(of: lora, key: "\(key).lora"))) }
    }
    let models = found[0].1
    if let other = found.first(where: { $0.1 != models }) {
      throw cluster.error(
        other.0,
        "Kubernetes mounts one volume with all models, and \"\(other.1)\" is another directory than \"\(models)\"")
    }
    self.models = models
    keys = try cluster.keys.map { path in
      // A directory, so its own name is what counts.
      try folder(of: path + "/coordinator.pub", key: "security.keys")
    }
    var gateway: [String] = []
    for (key, path) in [
      ("gateway.api_keys", cluster.gateway.apiKeys), ("gateway.tls_certificate", cluster.gateway.certificate),
      ("gateway.tls_key", cluster.gateway.privateKey),
    ] {
      guard let path else { continue }
      let name = try folder(of: path, key: key)
      if !gateway.contains(name) { gateway.append(name) }
    }
    self.gateway = gateway
    if let keys, [models] + gateway != ([models] + gateway).filter({ $0 != keys }) {
      throw cluster.error("security.keys", "Kubernetes needs the keys in a directory of their own, not in \"\(keys)\"")
    }
    if gateway.contains(models) {
      throw cluster.error(
        "gateway.api_keys", "Kubernetes needs the gateway's files in another directory than the models")
    }
    // The coordinator writes these; one that runs elsewhere may.
    guard KubernetesManifests.runsCoordinator(cluster) else { return }
    for (key, path) in [
      ("gateway.request_log", cluster.gateway.requestLog), ("gateway.trace", cluster.gateway.trace),
      ("gateway.journal", cluster.gateway.journal),
    ] where path != nil {
      throw cluster.error(
        key,
        "\"\(key)\" cannot be written in a container, whose files are read-only: leave it out, or run the coordinator "
          + "outside Kubernetes and name its address in \"listen.advertise\"")
    }
  }
}

internal import Core
internal import Evaluation
internal import Fusion
internal import Inference
internal import Launch
internal import ModelFiles

/// What answers depend on beside the prompt: models, mode and settings. Equal identities give equal answers.
struct EvaluationIdentity {
  let settings: EvaluationSettings
  /// Nil: clusters are started from their files.
  let service: ServedModels?
  /// Of the reward model; nil without one.
  let reward: String?

  private static let version = "fusionroute/evaluation/1"

  /// Key of an answer in the store.
  static func key(_ identity: String, _ task: EvaluationTask) -> String {
    var hasher = SHA256Hasher()
    hasher.update(field: identity)
    hasher.update(field: task.line)
    return String(hasher.finalize().hex.prefix(40))
  }

  func identity(of method: Method, among methods: [Method]) throws -> String {
    switch method.kind {
    case .decode(let decoding): return try decoded(decoding)
    case .firstExpert(let decoding): return try combined("first-expert", [decoded(with(decoding, "no-complement"))])
    case .collab(let decoding, let rollout):
      return try combined("collab \(rollout)", [decoded(with(decoding, "fusion")), reward ?? ""])
    case .select(let names):
      return try combined("select", candidates(names, methods) + [reward ?? ""])
    case .oracle(let names): return try combined("oracle", candidates(names, methods))
    case .mean(let names): return try combined("mean", candidates(names, methods))
    case .given(let path):
      return try combined("given", [ModelFingerprint.digest(ofFile: path, what: "file of answers").hex, method.name])
    }
  }

  private func candidates(_ names: [String], _ methods: [Method]) throws -> [String] {
    try names.map { name in
      try methods.first { $0.name == name }.map { try identity(of: $0, among: methods) } ?? ""
    }
  }

  private func with(_ decoding: Method.Decoding, _ mode: String) -> Method.Decoding {
    var other = decoding
    other.mode = mode
    return other
  }

  private func combined(_ kind: String, _ parts: [String]) -> String {
    var hasher = SHA256Hasher()
    hasher.update(field: kind)
    for part in parts { hasher.update(field: part) }
    return hasher.finalize().hex
  }

  /// Of the models that take part in the mode, and the settings. Digests of files are cached.
  func decoded(_ decoding: Method.Decoding) throws -> String {
    var parts = [Self.version, decoding.mode, "\(settings.maximumTokens)"] + settings.stop
    if let service {
      return combined("service", parts + service.identity(decoding.mode))
    }
    let cluster = try EvaluationCluster.file(decoding, settings: settings)
    let router = cluster.router.engine
    switch DecodingMode(parsing: decoding.mode) {
    case .expert(let name)?:
      guard let expert = cluster.expert(named: name) else {
        throw FusionRouteError.badInput("\(cluster.source) has no expert \"\(name)\"")
      }
      parts.append(try Self.fingerprint(of: expert.engine))
      // The router's model brings the chat template and the tokenizer, which its weights do not touch.
      parts.append(try GGUFFile.read(router.model)["tokenizer.chat_template"]?.string ?? "")
    case .router?: parts.append(try Self.fingerprint(of: router))
    case .fusion?, .noComplement?:
      parts.append(try Self.fingerprint(of: router))
      parts.append(try ModelFingerprint.compute(model: cluster.router.head, adapters: [], settings: [:]).hex)
      if decoding.mode == "fusion", let scale = decoding.scale { parts.append("scale \(scale)") }
      for expert in cluster.experts { parts += [expert.name, try Self.fingerprint(of: expert.engine)] }
    case nil: throw FusionRouteError.badInput("there is no mode \"\(decoding.mode)\"")
    }
    return combined("decode", parts)
  }

  /// Of a model and what changes its answers; the context ends those that reach it.
  static func fingerprint(of engine: ClusterFile.Engine) throws -> String {
    try ModelFingerprint.compute(
      model: engine.model, adapters: engine.adapters,
      settings: ["kv": engine.kv.rawValue, "context": "\(engine.context)"]
    ).hex
  }
}

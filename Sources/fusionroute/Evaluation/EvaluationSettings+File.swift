internal import Core
internal import Evaluation
internal import Foundation
internal import Fusion
internal import Launch
internal import Yams

extension EvaluationSettings {
  /// Bytes that an evaluation file may have.
  private static let maximumBytes = 1 << 20
  private static let maximumMethods = 200
  private static let keys = [
    "tasks", "cluster", "grader", "reward", "max_tokens", "stop", "limit", "average", "reference", "changes_from",
    "seed",
    "resamples", "methods",
  ]

  /// Reads an evaluation file (YAML). Relative paths in it are relative to the file, and its grader runs in its folder.
  /// Throws `.badInput` that names the file, the line and the fault.
  static func load(_ path: String) throws -> EvaluationSettings {
    let text = try TextFile.read(path, what: "the evaluation file", maximumBytes: maximumBytes)
    let root: Node?
    do { root = try Yams.compose(yaml: text) } catch {
      throw FusionRouteError.badInput("the evaluation file \(path) is no YAML", cause: error)
    }
    let reader = EvaluationReader(
      path: path, folder: URL(fileURLWithPath: path).standardizedFileURL.deletingLastPathComponent())
    return try reader.settings(root, keys: keys, maximumMethods: maximumMethods)
  }
}

/// Reads the nodes of an evaluation file.
private struct EvaluationReader {
  let path: String
  let folder: URL

  private func fault(_ node: Node?, _ what: String) -> FusionRouteError {
    .badInput("\(path)\(node?.mark.map { ":\($0.line)" } ?? ""): \(what)")
  }

  private func file(_ text: String) -> String {
    URL(fileURLWithPath: text, relativeTo: folder).standardizedFileURL.path
  }

  func settings(_ root: Node?, keys: [String], maximumMethods: Int) throws -> EvaluationSettings {
    let values = try section(root, keys: keys, what: "an evaluation file")
    var settings = EvaluationSettings(source: path)
    settings.graderDirectory = folder.path
    settings.tasks = try texts(values["tasks"], "tasks").map(file)
    settings.cluster = try text(values["cluster"], "cluster").map(file)
    settings.grader = try text(values["grader"], "grader")
    if let node = values["reward"] {
      let reward = try section(node, keys: ["model", "from"], what: "\"reward\"")
      guard let model = try text(reward["model"], "model"), let from = try text(reward["from"], "from") else {
        throw fault(node, "\"reward\" needs \"model\" and \"from\", the directory of `train reward`")
      }
      settings.reward = .init(model: file(model), folder: file(from))
    }
    settings.statedMaximumTokens = try integer(values["max_tokens"], "max_tokens", EvaluationSettings.tokenCounts)
    settings.stop = try texts(values["stop"], "stop")
    settings.limit = try integer(values["limit"], "limit", 1...1 << 30)
    if values["average"] != nil { settings.average = try texts(values["average"], "average") }
    settings.reference = try text(values["reference"], "reference")
    settings.changesFrom = try texts(values["changes_from"], "changes_from")
    if let seed = try integer(values["seed"], "seed", 0...Int.max) { settings.seed = UInt64(seed) }
    if let count = try integer(values["resamples"], "resamples", Bootstrap.resampleCounts) {
      settings.resamples = count
    }
    guard let node = values["methods"] else { return settings }
    guard let mapping = node.mapping, (1...maximumMethods).contains(mapping.count) else {
      throw fault(node, "\"methods\" must map 1 to \(maximumMethods) names to what they are")
    }
    settings.methods = try mapping.map { key, value in
      guard let name = key.string, !name.isEmpty else { throw fault(key, "a method needs a name") }
      var method = try method(name, value, cluster: settings.cluster)
      method.note = try text(value.mapping?["note"], "note")
      return method
    }
    do { try Method.check(settings.methods ?? []) } catch let error as FusionRouteError {
      throw fault(node, error.message)
    }
    return settings
  }

  // MARK: Methods

  private static let methodKeys = [
    "mode", "cluster", "model", "lora", "head", "scale", "select", "oracle", "mean", "first_expert", "collab",
    "answers", "limit", "note",
  ]

  private func method(_ name: String, _ node: Node, cluster: String?) throws -> Method {
    let values = try section(node, keys: Self.methodKeys, what: "the method \"\(name)\"")
    let limit = try integer(values["limit"], "limit", 1...1 << 30)
    if values["select"] != nil {
      try alone("select", values, name, node)
      return Method(name: name, kind: .select(try texts(values["select"], "select")), limit: limit)
    }
    if values["oracle"] != nil {
      try alone("oracle", values, name, node)
      return Method(name: name, kind: .oracle(try texts(values["oracle"], "oracle")), limit: limit)
    }
    if values["mean"] != nil {
      try alone("mean", values, name, node)
      return Method(name: name, kind: .mean(try texts(values["mean"], "mean")), limit: limit)
    }
    if let path = try text(values["answers"], "answers") {
      try alone("answers", values, name, node)
      return Method(name: name, kind: .given(file(path)), limit: limit)
    }
    var decoding = Method.Decoding(cluster: try text(values["cluster"], "cluster").map(file) ?? cluster)
    decoding.model = try text(values["model"], "model").map(file)
    decoding.lora = try text(values["lora"], "lora").map(file)
    decoding.head = try text(values["head"], "head").map(file)
    if let scale = values["scale"] {
      guard let value = Float(scale.scalar?.string ?? ""), value.isFinite, value >= 0 else {
        throw fault(scale, "\"scale\" must be a number that is not negative")
      }
      decoding.scale = value
    }
    let kinds = ["mode", "first_expert", "collab"].filter { values[$0] != nil }
    guard kinds.count <= 1 else {
      throw fault(node, "the method \"\(name)\" has \(kinds.joined(separator: " and ")), of which it may have one")
    }
    if let node = values["collab"] {
      guard let rollout = try integer(node, "collab", 0...4096) else { throw fault(node, "\"collab\" needs a number") }
      return Method(name: name, kind: .collab(try within(decoding, name, node), rollout: rollout), limit: limit)
    }
    if let flag = values["first_expert"] {
      guard flag.scalar?.string == "true" else { throw fault(flag, "\"first_expert\" can only be true") }
      return Method(name: name, kind: .firstExpert(try within(decoding, name, flag)), limit: limit)
    }
    if let mode = values["mode"] {
      guard let text = mode.scalar?.string, DecodingMode(parsing: text) != nil else {
        throw fault(mode, "\"mode\" must be fusion, router, no-complement or expert:NAME")
      }
      decoding.mode = text
      return Method(name: name, kind: .decode(try within(decoding, name, mode)), limit: limit)
    }
    guard decoding.model != nil, decoding.head == nil, decoding.scale == nil else {
      throw fault(
        node, "the method \"\(name)\" needs one of mode, model, select, oracle, mean, first_expert, collab and answers")
    }
    // A model by itself.
    decoding.cluster = nil
    decoding.mode = "router"
    return Method(name: name, kind: .decode(decoding), limit: limit)
  }

  private func within(_ decoding: Method.Decoding, _ name: String, _ node: Node) throws -> Method.Decoding {
    guard decoding.cluster != nil else {
      throw fault(node, "the method \"\(name)\" needs \"cluster\", its own or the file's")
    }
    return decoding
  }

  private func alone(_ key: String, _ values: [String: Node], _ name: String, _ node: Node) throws {
    if let other = values.keys.sorted().first(where: { ![key, "limit", "note"].contains($0) }) {
      throw fault(node, "the method \"\(name)\" has \(key), beside which \(other) means nothing")
    }
  }

  // MARK: Values

  private func section(_ node: Node?, keys: [String], what: String) throws -> [String: Node] {
    guard let mapping = node?.mapping else { throw fault(node, "\(what) must be a mapping") }
    var values: [String: Node] = [:]
    for (key, value) in mapping {
      let name = key.string ?? ""
      guard keys.contains(name) else {
        let near = NearestName.find(name, among: keys).map { "did you mean \"\($0)\"?" }
        throw fault(
          key, "unknown key \"\(name)\" in \(what): \(near ?? "the keys are \(keys.joined(separator: ", "))")")
      }
      values[name] = value
    }
    return values
  }

  private func text(_ node: Node?, _ key: String) throws -> String? {
    guard let node else { return nil }
    guard let text = node.scalar?.string, !text.isEmpty else { throw fault(node, "\"\(key)\" must be a text") }
    return text
  }

  /// A text, or a list of them.
  private func texts(_ node: Node?, _ key: String) throws -> [String] {
    guard let node else { return [] }
    let nodes = node.sequence.map(Array.init) ?? [node]
    return try nodes.map { element in
      guard let text = element.scalar?.string, !text.isEmpty else {
        throw fault(element, "\"\(key)\" must be a text or a list of texts")
      }
      return text
    }
  }

  private func integer(_ node: Node?, _ key: String, _ range: ClosedRange<Int>) throws -> Int? {
    guard let node else { return nil }
    guard let value = Int(node.scalar?.string ?? ""), range.contains(value) else {
      throw fault(node, "\"\(key)\" must be a whole number from \(range.lowerBound) to \(range.upperBound)")
    }
    return value
  }
}

internal import Core
internal import Foundation
internal import Inference
internal import Launch
internal import Yams

/// A chain of training runs from a YAML file.
///
///     steps:
///       - { train: sft, cluster: cluster.yaml, data: [answers.jsonl], out: stage1, epochs: 1 }
///       - { train: cdpo, cluster: cluster.yaml, from: stage1, data: pairs.jsonl, mix: answers.jsonl, out: stage2 }
///
/// Of a step, `train` names the command and the other keys its options (`model` its argument). Paths are relative to the
/// file.
struct TrainingPlan {
  struct Step: Equatable {
    var command: String
    /// As they are given to the command, after its name.
    var arguments: [String]
    /// Directory of the results.
    var out: String
    /// Files and directories that it reads.
    var inputs: [String]
    var line: Int
  }

  static let commands = ["lm", "sft", "cdpo", "dpo", "reward"]
  /// Options whose values are files or directories.
  private static let pathKeys: Set<String> = [
    "model", "cluster", "data", "held-out", "mix", "mix-held-out", "from", "adapter", "head", "out",
  ]
  static let maximumSteps = 1_000

  let steps: [Step]

  /// Throws `.badInput` that names the file, the line and the fault.
  static func load(_ path: String) throws -> TrainingPlan {
    guard let data = FileManager.default.contents(atPath: path), let text = String(validating: data, as: UTF8.self)
    else { throw FusionRouteError.badInput("the plan \(path) cannot be read as UTF-8 text") }
    let folder = URL(fileURLWithPath: path).deletingLastPathComponent()
    func fault(_ node: Node?, _ what: String) -> FusionRouteError {
      .badInput("\(path)\(node?.mark.map { ":\($0.line)" } ?? ""): \(what)")
    }
    let root: Node?
    do { root = try Yams.compose(yaml: text) } catch {
      throw FusionRouteError.badInput("the plan \(path) is no YAML", cause: error)
    }
    guard let mapping = root?.mapping, mapping.count == 1, let list = mapping["steps"]?.sequence,
      (1...maximumSteps).contains(list.count)
    else { throw fault(root, "a plan has one key, `steps`, with a list of 1 to \(maximumSteps) steps") }
    return TrainingPlan(steps: try list.map { try step($0, folder: folder, fault: fault) })
  }

  private static func step(
    _ node: Node, folder: URL, fault: (Node?, String) -> FusionRouteError
  ) throws -> Step {
    guard let mapping = node.mapping, let command = mapping["train"]?.string, commands.contains(command) else {
      throw fault(node, "a step needs `train` with one of \(commands.joined(separator: ", "))")
    }
    var step = Step(command: command, arguments: [], out: "", inputs: [], line: node.mark?.line ?? 0)
    var positional: [String] = []
    for (keyNode, value) in mapping {
      guard let spelled = keyNode.string, !spelled.isEmpty, !spelled.hasPrefix("-") else {
        throw fault(keyNode, "keys are names of options")
      }
      let key = spelled.replacingOccurrences(of: "_", with: "-")
      if key == "train" { continue }
      let scalars = value.sequence.map(Array.init) ?? [value]
      let values = try scalars.map { scalar -> String in
        guard let text = scalar.scalar?.string else { throw fault(scalar, "`\(spelled)` must be a value or a list") }
        return pathKeys.contains(key) ? URL(fileURLWithPath: text, relativeTo: folder).standardizedFileURL.path : text
      }
      if key == "out" { step.out = values.first ?? "" } else if pathKeys.contains(key) { step.inputs += values }
      if key == "model", ["lm", "dpo", "reward"].contains(command) {
        positional += values
      } else if values == ["true"] || values == ["false"] {
        if values == ["true"] { step.arguments.append("--\(key)") }
      } else {
        // One word each, so that a value may begin with a dash.
        step.arguments += values.map { "--\(key)=\($0)" }
      }
    }
    guard !step.out.isEmpty else { throw fault(node, "a step needs `out`, the directory of its results") }
    step.arguments = positional + step.arguments
    return step
  }
}

extension TrainingPlan.Step {
  /// Written into the directory of a finished step.
  private static let stampName = ".plan-step"
  private static let results = ["adapter.gguf", "model.gguf", "head.gguf"]

  /// Of the command and of the contents of everything that it reads: files, results of earlier steps, a cluster's models.
  func fingerprint() throws -> String {
    var hasher = SHA256Hasher()
    hasher.update(field: "fusionroute/plan-step/1")
    hasher.update(field: command)
    for argument in arguments { hasher.update(field: argument) }
    for input in inputs { try Self.add(input, to: &hasher) }
    return hasher.finalize().hex
  }

  private static func add(_ path: String, to hasher: inout SHA256Hasher) throws {
    var isDirectory: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory) else {
      // The command itself says what is missing.
      hasher.update(field: "missing \(path)")
      return
    }
    if isDirectory.boolValue {
      for name in results where FileManager.default.fileExists(atPath: "\(path)/\(name)") {
        hasher.update(field: name)
        try add("\(path)/\(name)", to: &hasher)
      }
      return
    }
    hasher.update(try ModelFingerprint.compute(model: path, adapters: [], settings: [:]).bytes)
    guard path.hasSuffix(".yaml") || path.hasSuffix(".yml"), let cluster = try? ClusterFile.load(path: path) else {
      return
    }
    for engine in [cluster.router.engine] + cluster.experts.map(\.engine) {
      for file in [engine.model, engine.lora].compactMap({ $0 }) { try add(file, to: &hasher) }
    }
  }

  /// Whether the step has been done with just these inputs.
  func isDone(_ fingerprint: String) -> Bool {
    (try? String(contentsOfFile: "\(out)/\(Self.stampName)", encoding: .utf8)) == fingerprint
      && Self.results.contains { FileManager.default.fileExists(atPath: "\(out)/\($0)") }
  }

  func markDone(_ fingerprint: String) throws {
    var file = try AtomicFile(path: "\(out)/\(Self.stampName)")
    try file.write(Array(fingerprint.utf8))
    try file.commit()
  }
}

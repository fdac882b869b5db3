internal import Core
internal import Foundation
internal import Inference
internal import Launch
internal import Yams

/// A chain of training runs, and of what makes their data, from a YAML file.
///
///     steps:
///       - { run: ./prepare raw answers.jsonl, reads: [raw, prepare], out: answers.jsonl }
///       - { train: sft, cluster: cluster.yaml, data: [answers.jsonl], out: stage1, epochs: 1 }
///       - { sample: prompts.jsonl, cluster: stage1.yaml, as: pairs, grader: ./grade, temperature: 1.7, out: pairs.jsonl }
///       - { train: cdpo, cluster: cluster.yaml, from: stage1, data: pairs.jsonl, mix: answers.jsonl, out: stage2 }
///
/// Of a step, `train` names the command and the other keys its options (`model` its argument); `sample` names the
/// prompts and the other keys options of `sample`; `run` is a shell command. `reads` names what else `run` and `sample`
/// depend on, such as a grader's files or their directory. Paths are relative to the file, in whose directory commands
/// work, graders too.
struct TrainingPlan {
  struct Step: Equatable {
    enum Action: Equatable {
      /// `fusionroute train` with this command.
      case train(String)
      case sample
      /// A shell command.
      case run(String)
    }

    var action: Action
    /// As they are given to the command, after its name.
    var arguments: [String] = []
    /// Directory of the results, or the file.
    var out = ""
    /// Files and directories that it reads.
    var inputs: [String] = []
    /// What it and later steps make, and the plan's report: no part of a directory that it reads.
    var made: [String] = []
    var line: Int

    /// Whether it is a command of the user's.
    var isCommand: Bool { if case .run = action { true } else { false } }

    /// As messages call it.
    var title: String {
      switch action {
      case .train(let command): "train \(command)"
      case .sample: "sample"
      case .run: "run"
      }
    }
  }

  static let commands = ["lm", "sft", "cdpo", "dpo", "reward"]
  /// Options whose values are files or directories.
  private static let pathKeys: Set<String> = [
    "model", "cluster", "data", "held-out", "mix", "mix-held-out", "from", "adapter", "head", "out", "reward", "reads",
  ]
  static let maximumSteps = 1_000

  /// Where the steps work.
  let folder: String
  let steps: [Step]

  /// Throws `.badInput` that names the file, the line and the fault.
  static func load(_ path: String) throws -> TrainingPlan {
    let text = try TextFile.read(path, what: "the plan")
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
    var steps: [Step] = []
    for node in list {
      let step = try Self.step(node, folder: folder, fault: fault)
      // Each would undo the other, whenever the plan is run.
      if let other = steps.first(where: { $0.out == step.out }) {
        throw fault(node, "the step on line \(other.line) has the same `out`, \(step.out)")
      }
      steps.append(step)
    }
    let report = URL(fileURLWithPath: PlanReport(plan: path).path).standardizedFileURL.path
    for index in steps.indices { steps[index].made = steps[index...].map(\.out) + [report] }
    return TrainingPlan(folder: folder.standardizedFileURL.path, steps: steps)
  }

  private static func step(
    _ node: Node, folder: URL, fault: (Node?, String) -> FusionRouteError
  ) throws -> Step {
    func path(_ text: String) -> String { URL(fileURLWithPath: text, relativeTo: folder).standardizedFileURL.path }
    guard let mapping = node.mapping else { throw fault(node, "a step is a mapping of keys to values") }
    let kinds = ["train", "sample", "run"].filter { mapping[$0] != nil }
    guard kinds.count == 1, let kind = kinds.first, let name = mapping[kind]?.string, !name.isEmpty,
      kind != "train" || commands.contains(name)
    else {
      throw fault(
        node,
        "a step needs one of `train` (\(commands.joined(separator: ", "))), `sample` (prompts) and `run` (a command)")
    }
    var step = Step(action: .run(name), line: node.mark?.line ?? 0)
    var positional: [String] = []
    switch kind {
    case "train": step.action = .train(name)
    case "sample":
      step.action = .sample
      positional = [path(name)]
      step.inputs = positional
    default: break
    }
    for (keyNode, value) in mapping {
      guard let spelled = keyNode.string, !spelled.isEmpty, !spelled.hasPrefix("-") else {
        throw fault(keyNode, "keys are names of options")
      }
      let key = spelled.replacingOccurrences(of: "_", with: "-")
      if key == kind { continue }
      guard kind != "run" || key == "reads" || key == "out", kind != "train" || key != "reads" else {
        throw fault(
          keyNode, kind == "run" ? "`run` takes `reads` and `out` only" : "`reads` belongs to `run` and `sample`")
      }
      let scalars = value.sequence.map(Array.init) ?? [value]
      let values = try scalars.map { scalar -> String in
        guard let text = scalar.scalar?.string else { throw fault(scalar, "`\(spelled)` must be a value or a list") }
        // The plan's own directory otherwise.
        guard !text.isEmpty || !pathKeys.contains(key) else { throw fault(scalar, "`\(spelled)` is empty") }
        return pathKeys.contains(key) ? path(text) : text
      }
      guard key != "out" || values.count == 1 else { throw fault(value, "`out` is one file or directory") }
      if key == "out" { step.out = values.first ?? "" } else if pathKeys.contains(key) { step.inputs += values }
      if kind == "run" || key == "reads" { continue }
      if key == "model", ["lm", "dpo", "reward"].contains(name), kind == "train" {
        positional += values
      } else if values == ["true"] || values == ["false"], kind == "train" || scalars.allSatisfy(isPlain) {
        if values == ["true"] { step.arguments.append("--\(key)") }
      } else {
        // One word each, so that a value may begin with a dash.
        step.arguments += values.map { "--\(key)=\($0)" }
      }
    }
    guard !step.out.isEmpty else { throw fault(node, "a step needs `out`, where its results are") }
    step.arguments = positional + step.arguments
    return step
  }

  /// `true` is a flag, "true" the name of a program.
  private static func isPlain(_ node: Node) -> Bool { node.scalar?.style == .plain || node.scalar?.style == .any }
}

extension TrainingPlan.Step {
  /// Written into the directory of a finished step, or beside its file.
  private static let stampName = ".plan-step"
  /// Written beside what a step makes when it begins.
  private static let begunName = ".plan-begun"
  private static let results = ["adapter.gguf", "model.gguf", "head.gguf"]

  private var stamp: String {
    var isDirectory: ObjCBool = false
    return FileManager.default.fileExists(atPath: out, isDirectory: &isDirectory) && !isDirectory.boolValue
      ? "\(out)\(Self.stampName)" : "\(out)/\(Self.stampName)"
  }

  /// Options of `sample` that change neither an answer nor its score: with others of these it goes on from its answers,
  /// see `SampleCommand.identity`.
  private static let selecting = [
    "answers", "api-key-file", "as", "attach", "ca-file", "color", "fanout", "format", "graders", "length-ratio",
    "log-format", "log-level", "per-prompt", "threshold", "warm",
  ]

  /// Of the command and of the contents of everything that it reads: files, directories, results of earlier steps, a
  /// cluster's models. Throws `CancellationError` where its task is cancelled.
  func fingerprint() throws -> String { try fingerprint(of: arguments) }

  /// Of what a sampling's answers and their scores depend on; nil for other steps.
  func answersFingerprint() throws -> String? {
    guard action == .sample else { return nil }
    return try fingerprint(
      of: arguments.filter { argument in
        !Self.selecting.contains { argument == "--\($0)" || argument.hasPrefix("--\($0)=") }
      })
  }

  /// - Parameter seesFolders: false: as in older versions, which saw nothing of a directory but results of training.
  private func fingerprint(of arguments: [String], seesFolders: Bool = true) throws -> String {
    var hasher = SHA256Hasher()
    hasher.update(field: "fusionroute/plan-step/1")
    switch action {
    case .train(let command): hasher.update(field: command)
    case .sample: hasher.update(field: "sample")
    case .run(let command):
      hasher.update(field: "run")
      hasher.update(field: command)
    }
    for argument in arguments { hasher.update(field: argument) }
    for input in inputs { try add(input, seesFolders: seesFolders, to: &hasher) }
    // A router that is being trained may have no head yet, one that answers has.
    if action == .sample {
      for input in inputs where Self.isYAML(input) {
        guard let cluster = try? ClusterFile.load(path: input) else { continue }
        try add(cluster.router.head, seesFolders: seesFolders, to: &hasher)
      }
    }
    return hasher.finalize().hex
  }

  private func add(_ path: String, seesFolders: Bool, to hasher: inout SHA256Hasher) throws {
    // A model may take minutes to read.
    try Task.checkCancellation()
    var isDirectory: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory) else {
      // The command itself says what is missing.
      hasher.update(field: "missing \(path)")
      return
    }
    if isDirectory.boolValue {
      let results = Self.results.filter { FileManager.default.fileExists(atPath: "\(path)/\($0)") }
      for name in results {
        hasher.update(field: name)
        try add("\(path)/\(name)", seesFolders: seesFolders, to: &hasher)
      }
      if results.isEmpty, seesFolders { try add(folder: path, to: &hasher) }
      return
    }
    hasher.update(try ModelFingerprint.compute(model: path, adapters: [], settings: [:]).bytes)
    guard Self.isYAML(path), let cluster = try? ClusterFile.load(path: path) else { return }
    for engine in [cluster.router.engine] + cluster.experts.map(\.engine) {
      for file in [engine.model, engine.lora].compactMap({ $0 }) {
        try add(file, seesFolders: seesFolders, to: &hasher)
      }
    }
  }

  /// Of a directory that is read, those within it counted too.
  private static let maximumEntries = 100_000
  /// Larger ones are worth an entry in the cache of digests.
  private static let smallFileBytes = 1 << 20

  /// The files of a directory and of those within it; of each its name there and its contents.
  private func add(folder root: String, to hasher: inout SHA256Hasher) throws {
    let made = Set(self.made.flatMap { [$0, "\($0).answers"] })
    var folders = [root]
    var count = 0
    while let folder = folders.popLast() {
      // A directory may be what its reader makes of it.
      if made.contains(folder) { continue }
      let names: [String]
      do { names = try FileManager.default.contentsOfDirectory(atPath: folder) } catch {
        throw FusionRouteError.badInput("the directory \(folder) cannot be read; check its permissions", cause: error)
      }
      for name in names.sorted() where !Self.isLeftOut(name) {
        try Task.checkCancellation()
        let path = "\(folder)/\(name)"
        if made.contains(path) { continue }
        count += 1
        guard count <= Self.maximumEntries else {
          throw FusionRouteError.badInput(
            "the directory \(root), which the step on line \(line) of the plan reads, holds more than "
              + "\(Self.maximumEntries) files: name those that the step depends on")
        }
        var status = stat()
        // A link to nothing is none of its files.
        guard stat(path, &status) == 0 else { continue }
        switch status.st_mode & S_IFMT {
        case S_IFDIR:
          // Not a link, which may lead back to where it is.
          let isLink = (try? FileManager.default.destinationOfSymbolicLink(atPath: path)) != nil
          if !isLink { folders.append(path) }
        case S_IFREG:
          hasher.update(field: String(path.dropFirst(root.count)))
          hasher.update(try Self.digest(path, isSmall: status.st_size <= Self.smallFileBytes).bytes)
        default: break
        }
      }
    }
  }

  private static func digest(_ path: String, isSmall: Bool) throws -> SHA256Digest {
    guard isSmall else { return try ModelFingerprint.digest(ofFile: path, what: "file") }
    guard let data = FileManager.default.contents(atPath: path) else {
      throw FusionRouteError.badInput("the file \(path) cannot be read; check its permissions")
    }
    return SHA256Digest(hashing: data)
  }

  /// What changes by itself: hidden files, what Python keeps beside a grader, what plans note.
  private static func isLeftOut(_ name: String) -> Bool {
    name.hasPrefix(".") || name == "__pycache__" || name.hasSuffix(stampName) || name.hasSuffix(begunName)
  }

  private static func isYAML(_ path: String) -> Bool { path.hasSuffix(".yaml") || path.hasSuffix(".yml") }

  /// Answers are kept as they come, under the name of the cluster; those of other models behind that name must go, and
  /// those that other graders judged, whose scores are kept with them. So must the checkpoints of a run with other data,
  /// models or settings, which could not be gone on with. Throws `.unavailable` if another process writes the result.
  ///
  /// - Parameter answers: `answersFingerprint()`.
  /// - Returns: whether the step begins from nothing, and does not go on where it stopped.
  func prepare(_ fingerprint: String, answers: String? = nil) throws -> Bool {
    let begun = "\(out)\(Self.begunName)"
    let folder = URL(fileURLWithPath: begun).deletingLastPathComponent()
    do { try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true) } catch {
      throw FusionRouteError.unavailable("the directory \(folder.path) cannot be made", cause: error)
    }
    let lock: ServiceLock?
    switch action {
    case .run: lock = nil
    case .sample: lock = try ResultLock.take(file: out)
    case .train: lock = try ResultLock.take(folder: out)
    }
    defer { withExtendedLifetime(lock) {} }
    let before = try? String(contentsOfFile: begun, encoding: .utf8)
    switch action {
    // What a command of its own keeps is its own affair.
    case .run: break
    case .sample, .train:
      // What was begun by hand, with the command alone, is gone on with; the command refuses what does not fit.
      let last = before ?? (try? String(contentsOfFile: stamp, encoding: .utf8))
      if let last, try !goesOn(from: last, fingerprint, answers) {
        try Self.remove(action == .sample ? "\(out).answers" : "\(out)/checkpoints")
      }
    }
    var file = try AtomicFile(path: begun)
    try file.write(Array([fingerprint, answers].compactMap { $0 }.joined(separator: "\n").utf8))
    try file.commit()
    // From here on the result may be half another one, also for a plan that is changed back.
    try Self.remove(stamp)
    switch action {
    case .run: return before != fingerprint
    case .sample: return !FileManager.default.fileExists(atPath: "\(out).answers")
    case .train: return (try? FileManager.default.contentsOfDirectory(atPath: "\(out)/checkpoints"))?.isEmpty ?? true
    }
  }

  /// Whether what was begun with the fingerprints of `last` is gone on with.
  private func goesOn(from last: String, _ fingerprint: String, _ answers: String?) throws -> Bool {
    let lines = last.split(separator: "\n").map(String.init)
    if lines.first == fingerprint { return true }
    guard action == .sample else { return false }
    // Older versions noted the first one alone.
    guard lines.count > 1 else { return try lines.first == self.fingerprint(of: arguments, seesFolders: false) }
    return lines[1] == answers
  }

  private static func remove(_ path: String) throws {
    guard FileManager.default.fileExists(atPath: path) else { return }
    do { try FileManager.default.removeItem(atPath: path) } catch {
      throw FusionRouteError.unavailable("\(path), which is out of date, cannot be removed", cause: error)
    }
  }

  /// Whether the step has been done with just these inputs.
  func isDone(_ fingerprint: String) -> Bool {
    guard (try? String(contentsOfFile: stamp, encoding: .utf8)) == fingerprint else { return false }
    guard case .train = action else { return FileManager.default.fileExists(atPath: out) }
    return Self.results.contains { FileManager.default.fileExists(atPath: "\(out)/\($0)") }
  }

  /// Throws `.badInput` if there is no result.
  func markDone(_ fingerprint: String) throws {
    guard FileManager.default.fileExists(atPath: out) else {
      throw FusionRouteError.badInput("the step on line \(line) of the plan ended well, but left no \(out)")
    }
    var file = try AtomicFile(path: stamp)
    try file.write(Array(fingerprint.utf8))
    try file.commit()
  }
}

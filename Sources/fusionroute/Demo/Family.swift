internal import Core
internal import Evaluation
internal import Foundation
internal import Inference
internal import Launch
internal import ModelFiles
internal import Training

/// Experts and a router on one base, as a directory with `family.json`:
///
///     { "title": "…", "base": { "file": "model.gguf", "sha256": "…" }, "router": "router.gguf", "head": "head.gguf",
///       "experts": { "math": "math.gguf", "code": "code.gguf" }, "prompts": "prompts.jsonl" }
///
/// `router` and the experts are LoRA adapters (GGUF) on the base, `prompts` are task lines as `eval` reads them. Paths are
/// relative to the directory.
struct Family: Sendable {
  /// Changes when what is made of a family changes, so that older files are not used.
  private static let version = "1"
  static let manifestName = "family.json"
  /// Where a checkout has it.
  static let usualFolder = "Deploy/family"
  private static let maximumManifestBytes = 1 << 20

  var folder: String
  var title: String
  /// Name of the base's file, and its SHA-256 in hexadecimal.
  var baseName: String
  var baseDigest: String
  var router: String
  var head: String
  /// In the order of the head.
  var experts: [(name: String, adapter: String)]
  var prompts: [EvaluationTask]
  /// Whether it was named, or is of the program's own checkout.
  var isChosen = true

  /// Reads and checks a family. Throws `.badInput` that names the file and the fault.
  static func load(_ folder: String) throws -> Family {
    let path = "\(folder)/\(manifestName)"
    let text = try TextFile.read(path, maximumBytes: maximumManifestBytes)
    func fault(_ what: String) -> FusionRouteError { .badInput("\(path): \(what)") }
    let object = try JSONLines.object(text, source: path)
    func string(_ key: String, in object: JSONObject) throws -> String {
      guard case .string(let text)? = object[key], !text.isEmpty else { throw fault("\"\(key)\" must be a text") }
      return text
    }
    func file(_ name: String, _ key: String) throws -> String {
      let path = "\(folder)/\(name)"
      // By bytes: a slash may be part of a Character.
      let parts = name.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
      guard name.utf8.first != UInt8(ascii: "/"), !parts.contains(where: { $0.elementsEqual("..".utf8) }),
        FileManager.default.fileExists(atPath: path)
      else { throw fault("\"\(key)\" names \(name), which is no file in the directory") }
      return path
    }
    guard case .object(let base)? = object["base"], case .object(let adapters)? = object["experts"] else {
      throw fault("\"base\" and \"experts\" must be objects")
    }
    let head = try file(try string("head", in: object), "head")
    let names = try RoutingHead.read(head).experts
    guard Set(names) == Set(adapters.members.map(\.key)), names.allSatisfy(ClusterFile.isValidName) else {
      throw fault("the experts must be those of the head: \(names.joined(separator: ", "))")
    }
    let prompts = try file(try string("prompts", in: object), "prompts")
    return Family(
      folder: folder, title: try string("title", in: object), baseName: try string("file", in: base),
      baseDigest: try string("sha256", in: base), router: try file(try string("router", in: object), "router"),
      head: head, experts: try names.map { ($0, try file(try string($0, in: adapters), $0)) },
      prompts: try EvaluationTask.read(try TextFile.read(prompts), source: prompts))
  }

  /// The command of the graders that a checkout has beside its family; nil if they are not there, or if nobody has named
  /// the checkout: whose directory one happens to be in is no reason to run its programs.
  var usualGrader: String? {
    let path = URL(fileURLWithPath: folder).standardizedFileURL.deletingLastPathComponent()
      .appendingPathComponent("evaluation/grade").path
    guard isChosen, FileManager.default.isExecutableFile(atPath: path) else { return nil }
    return "'\(path.replacingOccurrences(of: "'", with: #"'\''"#))'"
  }

  /// A checkout's family: above the program, or in the current directory.
  static func find() throws -> (folder: String, isAboveProgram: Bool)? {
    var places: [String] = []
    var place = URL(fileURLWithPath: try Executable.path()).resolvingSymlinksInPath()
    // Not far: out of .build/TRIPLE/CONFIGURATION.
    for _ in 0..<5 {
      place.deleteLastPathComponent()
      places.append(place.path)
    }
    return (places + ["."]).first {
      FileManager.default.fileExists(atPath: "\($0)/\(usualFolder)/\(manifestName)")
    }.map { ("\($0)/\(usualFolder)", $0 != ".") }
  }

  /// The family in `folder`, or a checkout's, if there is one and it is made of `model`; nil: of whatever it is made of.
  static func wanted(_ folder: String?, for model: String?) throws -> Family? {
    if let folder { return try load(folder) }
    guard let found = try find() else { return nil }
    var family = try load(found.folder)
    family.isChosen = found.isAboveProgram
    // Who names another model and no family wants to see that model.
    return try model.map(family.fits) ?? true ? family : nil
  }

  /// Whether a model is this family's base.
  private func fits(_ model: String) throws -> Bool {
    try ModelFingerprint.digest(ofFile: model, what: "model file").hex == baseDigest
  }

  /// The base with each adapter baked in, made once and kept in the cache.
  func models(base: String, progress: Progress) async throws -> DemoModels {
    let family = self
    let key = try await progress.step("checking the models") {
      let digest = try ModelFingerprint.digest(ofFile: base, what: "base model").hex
      guard digest == family.baseDigest else {
        throw FusionRouteError.badInput(
          "\(base) is not the base of the family in \(family.folder): its SHA-256 is \(digest), and \(family.baseName) "
            + "has \(family.baseDigest)")
      }
      let adapters = ([family.router] + family.experts.map(\.adapter)).map { AdapterFile(path: $0) }
      return try ModelFingerprint.compute(model: base, adapters: adapters, settings: ["family": Self.version])
    }
    let folder = try DemoModels.folder(named: "family-\(key.hex.prefix(16))")
    func path(_ name: String) -> String { folder.appendingPathComponent("\(name)-q8_0.gguf").path }
    // A name no expert can have.
    let router = path("_router")
    let parts = [(router, self.router, "the router")] + experts.map { (path($0.name), $0.adapter, $0.name) }
    let missing = parts.filter { !FileManager.default.fileExists(atPath: $0.0) }
    if !missing.isEmpty { try DemoModels.checkSpace(in: folder) }
    for (path, adapter, name) in missing {
      try Task.checkCancellation()
      try await progress.step("adding the adapter of \(name) to the base (once)") {
        try Self.bake(base: base, adapter: adapter, to: path)
      }
    }
    try Task.checkCancellation()
    return DemoModels(
      router: router, experts: experts.map { ($0.name, path($0.name)) }, head: head, notice: title)
  }

  private static func bake(base: String, adapter: String, to path: String) throws {
    let (file, lora) = (try GGUFFile.read(base), try GGUFFile.read(adapter))
    let engine = try TrainingEngine(file, mode: .lora(try LoRAOptions(adapter: lora)), wantsLogits: false)
    try engine.loadAdapter(lora)
    try engine.writeModel(from: file, to: path, type: .q80)
  }
}

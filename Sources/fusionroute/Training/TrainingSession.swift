internal import Core
internal import Foundation
internal import Inference
internal import Launch
internal import ModelFiles
internal import Synchronization
internal import Training

/// One run of a `train` command: from encoded data to the files in its directory.
struct TrainingSession: Sendable {
  /// What the run is called in its report.
  var title: String
  var model: String
  /// An adapter that the run goes on from.
  var adapter: String?
  /// A routing head that the run goes on from.
  var head: String?
  /// Experts in the order of the head's rows; empty: no routing.
  var experts: [String] = []
  var mode: TrainingMode
  var engine: EngineOptions
  var objective: TrainingObjective
  var settings: TrainingSettings
  var folder: String
  var adapterType: TensorType
  var bakedType: TensorType?
  /// Noted in a reward's head: prompt and answer follow one another without a chat template.
  var isRaw = false

  var samples: [Sample] = []
  var pairs: [PreferencePair] = []
  var heldOut: [Sample] = []
  var heldOutPairs: [PreferencePair] = []
  var preparation = PairPreparation()
  /// Samples of each step beside pairs; nil: both are shuffled together.
  var samplesPerStep: Int?
  /// Files that the run reads, beside its model, adapter and head: it writes over none of them.
  var inputs: [String] = []
  /// Lines of the report beside the settings.
  var notes: [(String, String)] = []

  private(set) var lock: ServiceLock?

  /// Sequences that tell the mean of the hidden states.
  private static let centringSequences = 64

  /// Holds the run's directory, which is made if missing, until the session ends. Throws `.unavailable` if another run
  /// writes there, `.usage` if the run would write over a file that it reads, or leave its results beside what is none: to
  /// be asked before anything that takes long.
  mutating func hold() throws {
    guard lock == nil else { return }
    guard !folder.isEmpty else { throw FusionRouteError.usage("--out is empty: give a directory") }
    let results = self.results
    if let lost = ResultPath.replaced(written, in: folder, of: results.inputs) {
      throw FusionRouteError.usage(
        "the run reads \(lost) and would write its results over it: give another --out directory")
    }
    lock = try ResultLock.take(folder: folder)
    try results.check()
  }

  private var results: RunResults {
    var names: [String] = []
    if case .lora = mode { names.append("adapter.gguf") }
    if mode == .full || bakedType != nil { names.append("model.gguf") }
    if !experts.isEmpty { names.append("head.gguf") }
    return RunResults(
      folder: folder, written: names, inputs: inputs + [model, adapter, head].compactMap { $0 })
  }

  /// Names of the files that the run leaves in its directory.
  private var written: [String] {
    var names = ["log.jsonl", "report.html"] + results.written
    if !pairs.isEmpty, !objective.isReward { names.append(KeptPairs.name) }
    return names
  }

  /// Trains, writes the results and returns the lines that say where they are. Blocks for as long as it takes.
  func run(progress: Progress, isCancelled: @escaping @Sendable () -> Bool) throws -> [String] {
    let file = try GGUFFile.read(model)
    let engine = try TrainingEngine(
      file, mode: mode, headRows: experts.count, wantsLogits: !objective.isReward, seed: settings.seed,
      options: self.engine)
    // Not after hours of training.
    if mode == .full || bakedType != nil { try engine.checkWritable(file, type: bakedType ?? .f32) }
    if let adapter { try engine.loadAdapter(GGUFFile.read(adapter)) }
    let start = try head.map { try startHead($0, width: engine.shape.width) }
    let shown = samples.map(\.sequence) + pairs.flatMap { [$0.chosen, $0.rejected] }
    try engine.centreHead(
      on: Array(shown.prefix(Self.centringSequences)), sequencesPerPass: settings.sequencesPerPass,
      shouldStop: isCancelled)
    if let start {
      try engine.setHead(
        LinearHead(weight: start.weight, bias: start.bias ?? [Float](repeating: 0, count: experts.count)))
    }
    var facts = facts(engine)
    let learnt = try prepared(
      pairs, engine: engine, progress: progress, what: "pairs", facts: &facts, isCancelled: isCancelled)
    let judged = try prepared(
      heldOutPairs, engine: engine, progress: progress, what: "held-out pairs", facts: &facts,
      isCancelled: isCancelled)
    guard samples.count + learnt.count > 0 else {
      let fact = facts.last { $0.0 == "pairs" }?.1 ?? "0 of \(pairs.count)"
      let limits = objective.usesBias ? "--length-ratio and --max-bias" : "--length-ratio"
      throw FusionRouteError.badInput("there is no pair to learn from: \(fact); look at \(limits)")
    }
    let loop = try TrainingLoop(
      engine: engine, objective: objective, samples: samples, pairs: learnt, heldOut: (heldOut, judged),
      settings: settings, samplesPerStep: samplesPerStep, folder: folder, identity: identity())
    if !learnt.isEmpty, !objective.isReward { try KeptPairs.write(learnt, to: "\(folder)/\(KeptPairs.name)") }
    let padding = String(format: "%.1f", 100 * loop.paddingShare)
    facts.append(("padding", "\(padding) % of the tokens computed; examples of similar length go together"))
    let reportPath = "\(folder)/report.html"
    let names = experts
    let report = {
      try TrainingReport.write(log: loop.logPath, to: reportPath, title: title, facts: facts, experts: names)
    }
    let narrator = ProgressNarrator(progress: progress)
    try loop.run(shouldStop: isCancelled) { step in
      narrator.show(step)
      // The report grows with the run; a fault in writing it must not end the run, the last one tells.
      if step.step % 50 == 0 { try? report() }
    }
    try report()
    return try writeResults(engine, file, loop, start: start) + ["report   \(reportPath)"]
  }

  private func identity() throws -> String {
    let adapters = adapter.map { [AdapterFile(path: $0)] } ?? []
    var settings: [String: String] = ["experts": experts.joined(separator: ",")]
    if let head { settings["head"] = try ModelFingerprint.compute(model: head, adapters: [], settings: [:]).hex }
    return try ModelFingerprint.compute(model: model, adapters: adapters, settings: settings).hex
  }

  private func startHead(_ path: String, width: Int) throws -> RoutingHead {
    let head = try RoutingHead.read(path)
    guard head.experts == experts, head.embeddingWidth == width else {
      throw FusionRouteError.badInput(
        "\(path) is a head for \(head.experts.joined(separator: ", ")) on a width of \(head.embeddingWidth), and this "
          + "run has \(experts.joined(separator: ", ")) on a width of \(width)")
    }
    return head
  }

  private func prepared(
    _ pairs: [PreferencePair], engine: TrainingEngine, progress: Progress, what: String,
    facts: inout [(String, String)], isCancelled: () -> Bool
  ) throws -> [PreferencePair] {
    // A reward has no reference, and its pairs' lengths need not match: it reads one position of each.
    guard !pairs.isEmpty, !objective.isReward else { return pairs }
    let (kept, report) = try preparation.prepare(
      pairs, engine: engine, objective: objective, pairsPerPass: max(1, settings.sequencesPerPass / 2),
      shouldStop: isCancelled
    ) { progress.update("the reference of \(pairs.count) \(what): \($0)") }
    var text = "\(report.kept) of \(pairs.count)"
    for (count, reason) in [
      (report.empty, "without a difference"), (report.lengths, "of too different lengths"),
      (report.bias, "with too large a bias"),
    ] where count > 0 { text += ", \(count) dropped \(reason)" }
    facts.append((what, text))
    return kept
  }

  private func facts(_ engine: TrainingEngine) -> [(String, String)] {
    var facts = [("model", URL(fileURLWithPath: model).lastPathComponent)]
    switch mode {
    case .full: facts.append(("trained", "every weight, \(engine.parameterCount) numbers"))
    case .lora(let options):
      facts.append(
        ("trained", "LoRA of rank \(options.rank), alpha \(options.alpha), \(engine.parameterCount) numbers"))
    case .frozen: facts.append(("trained", "the head alone"))
    }
    if !experts.isEmpty { facts.append(("experts", experts.joined(separator: ", "))) }
    if !samples.isEmpty { facts.append(("samples", "\(samples.count), \(heldOut.count) held out")) }
    facts.append(("batch", "\(settings.batch)"))
    facts.append(("learning rate", "\(settings.schedule.peak), \(settings.schedule.decay.rawValue)"))
    let threads = self.engine.threads
    facts.append(("products", "\(engine.productName), \(threads) thread\(threads == 1 ? "" : "s")"))
    return facts + notes
  }

  /// Writes the models, the head first (`RunResults`). Returns the lines that say where they are.
  private func writeResults(
    _ engine: TrainingEngine, _ file: GGUFFile, _ loop: TrainingLoop, start: RoutingHead?
  ) throws -> [String] {
    let results = self.results
    var lines = try results.clear().map { "removed  \(folder)/\($0), which an earlier run had left" }
    if !experts.isEmpty {
      // A head that nothing was learnt about stays as it came, to the bit.
      let trained = engine.head
      let head =
        try !loop.hasTaughtHead
        ? start ?? RoutingHead(experts: experts, weight: trained.weight, embeddingWidth: engine.shape.width)
        : RoutingHead(
          experts: experts, weight: trained.weight, bias: trained.bias, complementScale: start?.complementScale ?? 1,
          embeddingWidth: engine.shape.width, isRaw: isRaw)
      try head.write("\(folder)/head.gguf")
    }
    if case .lora = mode {
      let path = "\(folder)/adapter.gguf"
      try engine.writeAdapter(to: path, type: adapterType)
      // What was rounded is what the model below gets.
      if adapterType != .f32 { try engine.loadAdapter(GGUFFile.read(path)) }
      lines.append("adapter  \(path)")
    }
    if mode == .full || bakedType != nil {
      try engine.writeModel(from: file, to: "\(folder)/model.gguf", type: bakedType ?? .f32)
      lines.append("model    \(folder)/model.gguf")
    }
    try results.list()
    if !experts.isEmpty { lines.append("head     \(folder)/head.gguf") }
    if let ordered = loop.lastEvaluation?.orderedPairs { lines.append("held out \(ordered) in the right order") }
    return lines + ["log      \(loop.logPath)"]
  }
}

/// Says how a run goes: on a terminal in one line that changes, elsewhere in a line now and then.
private final class ProgressNarrator {
  private static let interval: Duration = .seconds(30)
  private let progress: Progress
  private let isTerminal = Style(.standardError).isTerminal
  private var last: ContinuousClock.Instant?

  init(progress: Progress) { self.progress = progress }

  func show(_ step: TrainingProgress) {
    let text = Self.line(step)
    progress.update(text)
    guard !isTerminal else { return }
    let now = ContinuousClock.now
    if let last, now - last < Self.interval, step.step < step.steps { return }
    last = now
    try? FileHandle.standardError.write(contentsOf: Data((text + "\n").utf8))
  }

  static func line(_ step: TrainingProgress) -> String {
    func number(_ value: Double) -> String { String(format: "%.3f", value) }
    var parts = ["step \(step.step)/\(step.steps)", "loss \(number(step.loss))"]
    if let value = step.metrics.meanLanguageLoss, step.loss != value { parts.append("lm \(number(value))") }
    if let value = step.metrics.meanRoutingLoss { parts.append("route \(number(value))") }
    if let value = step.metrics.routingAccuracy { parts.append("routed right \(Int((100 * value).rounded())) %") }
    if let value = step.metrics.meanPreferenceLoss { parts.append("pairs \(number(value))") }
    if let value = step.heldOutLoss { parts.append("held out \(number(value))") }
    parts.append("\(Int(step.tokensPerSecond)) tokens/s")
    parts.append(RemainingTime.text(step.remaining))
    return parts.joined(separator: " · ")
  }
}

internal import ArgumentParser
internal import Core
internal import Foundation
internal import Inference
internal import Launch
internal import Training

struct TrainCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "train",
    abstract: "Train a router and its head, or a model.",
    discussion: """
      The method has two stages: `train sft` learns the answers and which expert knows each token, `train cdpo` then \
      learns to complement the selected expert. Data is JSONL: {"messages": […]}, {"prompt", "completion"}, {"prompt", \
      "chosen", "rejected"} or {"text"} a line. A run that was interrupted goes on when the same command is given again. `train plan.yaml` runs a chain of these.
      """,
    subcommands: [
      TrainLMCommand.self, TrainSFTCommand.self, TrainCDPOCommand.self, TrainDPOCommand.self, TrainRewardCommand.self,
      TrainPlanCommand.self,
    ], defaultSubcommand: TrainPlanCommand.self)
}

/// What all `train` commands do in the same way.
enum TrainSupport {
  /// The model's tokenizer and template, without its weights.
  static func vocabulary(of model: String) throws -> Model {
    try ModelProbe.check(path: model, adapters: [], executable: try Executable.path())
    return try Model.load(path: model, options: ModelLoadOptions(vocabularyOnly: true))
  }

  static func samples(
    _ files: [String], encoder: ExampleEncoder, what: String, notes: inout [(String, String)]
  ) throws -> [Sample] {
    guard !files.isEmpty else { return [] }
    let (samples, report) = try encoder.samples(files.flatMap { try RecordReader.read($0) })
    note(report, what: what, limit: encoder.maximumLength, empty: "with one token alone", notes: &notes)
    guard !samples.isEmpty else {
      let names = files.joined(separator: ", ")
      throw FusionRouteError.badInput(
        report.dropped == 0 && report.empty > 0
          ? "the texts in \(names) have one token each, behind which there is nothing to learn: give longer ones"
          : "no answer in \(names) begins within \(encoder.maximumLength) tokens: \(remedy(encoder))")
    }
    return samples
  }

  static func pairs(
    _ files: [String], encoder: ExampleEncoder, what: String, isReward: Bool = false, notes: inout [(String, String)]
  ) throws -> [PreferencePair] {
    guard !files.isEmpty else { return [] }
    let (pairs, report) = try encoder.pairs(files.flatMap { try RecordReader.read($0) }, isReward: isReward)
    note(report, what: what, limit: encoder.maximumLength, empty: "with two equal answers", notes: &notes)
    guard !pairs.isEmpty else {
      let names = files.joined(separator: ", ")
      throw FusionRouteError.badInput(
        report.dropped == 0 && report.empty > 0
          ? "the two answers of each pair in \(names) are equal, so there is nothing to learn: give pairs that differ"
          : "no pair in \(names) fits \(encoder.maximumLength) tokens: \(remedy(encoder))")
    }
    return pairs
  }

  /// What helps where all of the data is too long.
  private static func remedy(_ encoder: ExampleEncoder) -> String {
    encoder.isLimitedByModel ? "the model takes no more, so give shorter ones" : "raise --max-length"
  }

  /// - Parameter empty: what those are that teach nothing.
  private static func note(
    _ report: ExampleEncoder.Report, what: String, limit: Int, empty: String, notes: inout [(String, String)]
  ) {
    guard report.truncated + report.dropped + report.empty > 0 else { return }
    var text =
      "\(report.examples) used, \(report.truncated) cut to \(limit) tokens, \(report.dropped) left out as too long"
    if report.empty > 0 { text += ", \(report.empty) \(empty)" }
    notes.append((what, text))
    try? FileHandle.standardError.write(contentsOf: Data("\(what): \(text)\n".utf8))
  }

  /// A run that needs no experts: reads its data and trains.
  static func run(_ options: TrainRunOptions, prepare: @escaping @Sendable () throws -> TrainingSession) async throws {
    options.parent.watch()
    _ = options.output.bootstrap(default: .warning)
    let progress = Progress()
    try await withInterruption(keepsReason: true) {
      let session = try await progress.step("reading the data") { try prepare() }
      try await run(session, progress: progress)
    }
  }

  /// Trains on a thread of its own, and prints where the results are.
  static func run(_ session: TrainingSession, progress: Progress) async throws {
    var held = session
    try held.hold()
    let (session, isCancelled) = (held, CancellationFlag())
    let lines = try await withTaskCancellationHandler {
      try await progress.step("training") {
        try session.run(progress: progress) { isCancelled.isSet }
      }
    } onCancel: {
      isCancelled.set()
    }
    for line in lines { print(line) }
  }
}

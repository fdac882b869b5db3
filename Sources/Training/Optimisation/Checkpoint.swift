internal import Core
internal import Foundation
internal import ModelFiles

/// Where a run stands: with the parameters and moments, all that is needed to go on exactly.
struct TrainingState: Sendable, Equatable {
  /// Steps done.
  var step = 0
  /// Steps that updated the model, and the head.
  var modelSteps = 0
  var headSteps = 0
}

/// A run's state on disk: one GGUF file per checkpoint, complete or absent.
enum Checkpoint {
  private static let architecture = "fusionroute-checkpoint"
  private static let prefix = "checkpoint-"
  private static let suffix = ".gguf"

  static func name(step: Int) -> String {
    let digits = String(step)
    return prefix + String(repeating: "0", count: max(0, 8 - digits.count)) + digits + suffix
  }

  /// - Parameter fingerprint: of everything that the run depends on; a checkpoint of another run is refused.
  static func write(_ engine: TrainingEngine, state: TrainingState, fingerprint: String, to path: String) throws {
    var writer = GGUFWriter()
    try writer.set("general.architecture", .string(architecture))
    try writer.set("fusionroute.run", .string(fingerprint))
    try writer.set("fusionroute.step", .uint64(UInt64(state.step)))
    try writer.set("fusionroute.model_steps", .uint64(UInt64(state.modelSteps)))
    try writer.set("fusionroute.head_steps", .uint64(UInt64(state.headSteps)))
    for (index, parameter) in engine.trainables.parameters.enumerated() {
      let count = parameter.count
      for (kind, values) in [("p", parameter.values), ("m", parameter.moment1), ("v", parameter.moment2)] {
        let source = SendablePointer(values)
        // Tensor names are short in GGUF; the position tells which parameter it is, and the run's fingerprint covers it.
        try writer.add(
          tensor: "\(kind).\(index)", dimensions: parameter.dimensions,
          content: .generated { copy in
            guard let from = source.base else { return }
            copy.baseAddress?.update(from: from, count: count)
          })
      }
    }
    try writer.write(to: path)
  }

  /// A checkpoint's file and where it stands. Throws `.badInput` for one of another run.
  ///
  /// - Parameter totalSteps: of the run; the last checkpoint of a run has done them all.
  static func header(
    of path: String, fingerprint: String, totalSteps: Int
  ) throws -> (file: GGUFFile, state: TrainingState) {
    let file = try GGUFFile.read(path)
    guard file.architecture == architecture, let run = file["fusionroute.run"]?.string,
      let step = file["fusionroute.step"]?.integer, let modelSteps = file["fusionroute.model_steps"]?.integer,
      let headSteps = file["fusionroute.head_steps"]?.integer, step >= 0, modelSteps >= 0, headSteps >= 0
    else { throw FusionRouteError.badInput("\(path) is not a training checkpoint") }
    guard run == fingerprint else {
      throw FusionRouteError.badInput(
        "\(path) belongs to a run with other data, models or settings: give another --out directory, or remove its "
          + "checkpoints to begin again")
    }
    guard step <= totalSteps, modelSteps <= step, headSteps <= step else {
      throw FusionRouteError.badInput(
        "\(path) counts \(step) steps, \(modelSteps) of the model and \(headSteps) of the head, in a run of "
          + "\(totalSteps): the file is damaged; remove it to go on from an earlier one")
    }
    return (file, TrainingState(step: step, modelSteps: modelSteps, headSteps: headSteps))
  }

  /// Restores what `write` wrote. Throws `.badInput` for a file of another run.
  static func read(
    _ path: String, into engine: TrainingEngine, fingerprint: String, totalSteps: Int
  ) throws -> TrainingState {
    let (file, state) = try header(of: path, fingerprint: fingerprint, totalSteps: totalSteps)
    for (index, parameter) in engine.trainables.parameters.enumerated() {
      for (kind, values) in [("p", parameter.values), ("m", parameter.moment1), ("v", parameter.moment2)] {
        guard let tensor = file.tensor(named: "\(kind).\(index)"), tensor.elementCount == parameter.count else {
          throw FusionRouteError.badInput("\(path): tensor '\(kind).\(index)' is missing or has another shape")
        }
        values.update(from: try file.floats(of: tensor), count: parameter.count)
      }
    }
    return state
  }

  /// Checkpoints in `folder`, the latest first.
  static func all(in folder: String) -> [(step: Int, path: String)] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    return names.compactMap { name -> (Int, String)? in
      guard name.hasPrefix(prefix), name.hasSuffix(suffix),
        let step = Int(name.dropFirst(prefix.count).dropLast(suffix.count))
      else { return nil }
      return (step, "\(folder)/\(name)")
    }.sorted { $0.0 > $1.0 }
  }

  /// Removes all but the latest `count`.
  static func prune(_ folder: String, keeping count: Int) {
    // A checkpoint that stays too long costs space, nothing else.
    for (_, path) in all(in: folder).dropFirst(count) { try? FileManager.default.removeItem(atPath: path) }
  }
}

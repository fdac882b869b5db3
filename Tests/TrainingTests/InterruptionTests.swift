import Core
import Foundation
import ModelFiles
import TestSupport
import Testing

@testable import Training

/// Ctrl-C at any moment of a run, and what is left then.
@Suite struct InterruptionTests {
  private static func sequences(_ count: Int, seed: UInt64) -> [TrainingSequence] {
    var generator = SplitMix64(seed: seed)
    let next = LearningTests.chain(&generator)
    return (0..<count).map { index in
      TrainingSequence(
        tokens: LearningTests.walk(next, length: 8 + index % 3, generator: &generator), response: 1)
    }
  }

  /// Runs what is told to stop after some questions; it must ask no more and say that it was interrupted.
  private func stopping(
    after patience: Int, _ what: String, _ body: (_ shouldStop: () -> Bool) throws -> Void
  ) throws {
    var asked = 0
    let error = try failure {
      try body {
        asked += 1
        return asked > patience
      }
    }
    #expect(error.code == .interrupted && asked == patience + 1, "\(what): \(asked) questions, \(error)")
  }

  /// What is computed before the first step, and what learns nothing, asks between its passes.
  @Test func everyLoopAsks() throws {
    let scratch = try Scratch()
    let engine = try LearningTests.engine(scratch, headRows: 3)
    let sequences = Self.sequences(6, seed: 137)
    var generator = SplitMix64(seed: 139)
    try engine.setHead(
      LinearHead(weight: (0..<3 * engine.shape.width).map { _ in generator.normal() }, bias: [0.1, 0.2, 0.3]))
    let head = engine.head
    try stopping(after: 2, "centring") { shouldStop in
      try engine.centreHead(on: sequences, sequencesPerPass: 1, shouldStop: shouldStop)
    }
    let pairs = sequences.map { sequence in
      var other = sequence
      other.tokens[other.tokens.count - 1] = 99
      return PreferencePair(chosen: sequence, rejected: other)
    }
    try stopping(after: 2, "references") { shouldStop in
      _ = try PairPreparation().prepare(
        pairs, engine: engine, objective: TrainingObjective(), pairsPerPass: 1, shouldStop: shouldStop
      ) { _ in }
    }
    let evaluator = StepEvaluator(
      engine: engine, objective: TrainingObjective(routing: RoutingLoss()),
      samples: sequences.map { Sample(sequence: $0, opinions: LearningTests.opinions($0)) }, pairs: [],
      sequencesPerPass: 1)
    let items = sequences.indices.map { Item.sample($0) }
    try stopping(after: 2, "held-out passes") { shouldStop in
      _ = try evaluator.evaluate(items, learns: false, shouldStop: shouldStop)
    }
    // In the passes that compute the states, and in the steps behind them.
    for patience in [2, items.count + 2] {
      try stopping(after: patience, "the head's warm-up") { shouldStop in
        _ = try evaluator.warmUpHead([items], for: 100, shouldStop: shouldStop)
      }
    }
    #expect(engine.head == head)
  }

  /// Stopped in evaluations, a run ends with the same bits, and every evaluation is in the log once.
  @Test func evaluationsAreDoneAgain() throws {
    let scratch = try Scratch()
    let samples = Self.sequences(10, seed: 149).map { Sample(sequence: $0) }
    let heldOut = Self.sequences(3, seed: 151).map { Sample(sequence: $0) }
    var settings = LearningTests.settings(steps: 5)
    (settings.batch, settings.sequencesPerPass) = (2, 1)
    (settings.evaluateEvery, settings.checkpointEvery) = (2, 100)
    /// - Parameter stops: of each attempt: the question that is answered with yes, and what it says then.
    func run(_ folder: String, _ stops: [(question: Int, word: String)]) throws -> (values: [[Float]], log: [String]) {
      for planned in stops.map({ Optional($0) }) + [nil] {
        let engine = try LearningTests.engine(scratch, headRows: 0)
        let loop = try TrainingLoop(
          engine: engine, objective: TrainingObjective(), samples: samples, heldOut: (heldOut, []), settings: settings,
          folder: scratch.path(folder), identity: "test")
        var asked = 0
        func attempt() throws {
          try loop.run(shouldStop: {
            asked += 1
            return asked == planned?.question
          })
        }
        guard let stop = planned else {
          try attempt()
          let entries = RunLog.entries(loop.logPath).filter { $0["held_out"] != nil }
          return (engine.trainables.parameters.map { engine.values(of: $0) }, entries.map { JSONValue.object($0).text })
        }
        let error = try failure { try attempt() }
        #expect(error.code == .interrupted && error.message.contains(stop.word), "\(stop): \(error)")
        #expect(asked == stop.question, "\(stop)")
      }
      throw FusionRouteError.internal("the last attempt is not stopped")
    }
    let whole = try run("whole", [])
    #expect(whole.log.count == 4)
    // Each evaluation has three passes, and each step asks once.
    let parts = try run(
      "parts",
      [
        (2, "before the first step"), (3 + 2 + 2, "after step 2;"), (2, "after step 2;"), (3 + 2 + 2, "after step 4;"),
        (3 + 1 + 2, "after step 5;"),
      ])
    #expect(parts.values == whole.values)
    #expect(parts.log == whole.log)
  }

  /// What could not be kept is said, and from where it goes on instead.
  @Test func aCheckpointThatFailsIsTold() throws {
    let scratch = try Scratch()
    let samples = Self.sequences(8, seed: 157).map { Sample(sequence: $0) }
    var settings = LearningTests.settings(steps: 6)
    settings.batch = 2
    func loop(_ folder: String) throws -> TrainingLoop {
      try TrainingLoop(
        engine: LearningTests.engine(scratch, headRows: 0), objective: TrainingObjective(), samples: samples,
        settings: settings, folder: scratch.path(folder), identity: "test")
    }
    settings.checkpointEvery = 100
    let first = try loop("first")
    try Data().write(to: URL(fileURLWithPath: first.checkpointFolder))
    var done = 0
    let none = try failure { try first.run(shouldStop: { done == 2 }, progress: { done = $0.step }) }
    #expect(none.code == .interrupted && none.message.contains("after step 2"), "\(none)")
    #expect(none.message.contains("begins again") && "\(none)".contains(first.checkpointFolder), "\(none)")

    settings.checkpointEvery = 3
    let second = try loop("second")
    done = 0
    let older = try failure {
      try second.run(
        shouldStop: { done == 4 },
        progress: { step in
          done = step.step
          guard done == 4 else { return }
          // A directory of its name is in its way.
          try? FileManager.default.createDirectory(
            atPath: "\(second.checkpointFolder)/\(Checkpoint.name(step: 4))", withIntermediateDirectories: true)
        })
    }
    #expect(older.code == .interrupted && older.message.contains("goes on from step 3"), "\(older)")
    #expect("\(older)".contains(Checkpoint.name(step: 4)), "\(older)")
  }
}

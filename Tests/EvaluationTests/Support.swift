import Core
import Foundation

@testable import Evaluation

/// A generator whose seed is printed, so that a failure can be run again: FUSIONROUTE_TEST_SEED=… overrides it.
func seededGenerator(_ test: String, default seed: UInt64) -> SplitMix64 {
  let chosen = ProcessInfo.processInfo.environment["FUSIONROUTE_TEST_SEED"].flatMap(UInt64.init) ?? seed
  print("\(test): seed \(chosen)")
  return SplitMix64(seed: chosen)
}

extension SplitMix64 {
  mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
  /// In [0, 1).
  mutating func uniform() -> Double { Double(next() >> 11) * 0x1p-53 }
}

enum Make {
  static func task(_ id: String, task: String = "math", tags: [EvaluationTask.Tag] = []) -> EvaluationTask {
    EvaluationTask(
      id: id, task: task, content: .messages([.init(role: "user", content: "question \(id)")]),
      prompt: "question \(id)", grader: .members([]), tags: tags, line: "line \(id)")
  }

  static func record(
    _ method: String, _ task: EvaluationTask, passed: Bool, deciders: [Int?] = [0], parts: [Grade.Part] = []
  ) -> AnswerRecord {
    AnswerRecord(
      key: "\(method)/\(task.id)", method: method, id: task.id, task: task.task,
      text: deciders.indices.map { "w\($0) " }.joined(), pieces: deciders.indices.map { "w\($0) " },
      experts: ["ant", "bee"], deciders: deciders, promptTokens: 5, busySeconds: 0.5,
      evaluations: ["router": 7, "ant": 8, "bee": 4], grade: Grade(passed: passed, parts: parts))
  }

  static func results(
    _ tasks: [EvaluationTask], _ outcomes: [String: [String: AnswerRecord]], methods: [String],
    means: [String: [String]] = [:], averaged: [String]? = nil, changesFrom: [String] = [],
    expected: [String: Int] = [:],
    resamples: Int = 2_000
  ) -> EvaluationResults {
    EvaluationResults(
      tasks: tasks, methods: methods, records: outcomes, means: means, reference: "fusionroute", averaged: averaged,
      changesFrom: changesFrom, expected: expected, bootstrap: Bootstrap(resamples: resamples, seed: 7))
  }
}

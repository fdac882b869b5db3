import Core
import Foundation
import Testing

@testable import fusionroute

/// What makes `train PLAN.yaml` do a step again, and what stays of it then.
@Suite(.serialized) struct PlanFingerprintTests {
  let models: ToyModels

  init() throws { models = try ToyModels.shared.get() }

  /// A directory is all that is in it, but for what changes by itself and what the steps make of it.
  @Test func directoriesAreRead() throws {
    let plan = try models.write(
      "read-plan.yaml",
      [
        "steps:", "  - { run: make, reads: read, out: read/made.jsonl }",
        "  - { run: more, reads: read, out: read/later }",
      ])
    func fingerprints() throws -> [String] { try TrainingPlan.load(plan).steps.map { try $0.fingerprint() } }
    try models.put("read/a.txt", "a")
    var before = try fingerprints()
    #expect(before.count == 2)
    func expectChange(_ what: String, _ change: () throws -> Void) throws {
      try change()
      let after = try fingerprints()
      #expect(zip(before, after).allSatisfy { $0 != $1 }, "\(what)")
      before = after
    }
    try expectChange("contents") { try models.put("read/a.txt", "b") }
    try expectChange("a new file") { try models.put("read/c/d.txt", "new") }
    try expectChange("a file within") { try models.put("read/c/d.txt", "old") }
    try expectChange("a name") {
      try FileManager.default.moveItem(atPath: models.path("read/c/d.txt"), toPath: models.path("read/c/e.txt"))
    }
    try expectChange("a large file") { try models.put("read/large.txt", String(repeating: "x", count: 3 << 20)) }
    for name in [
      "later/x.txt", "later.plan-begun", "made.jsonl.plan-step", ".made.jsonl.lock", "c/__pycache__/e.pyc",
      "c/.cache/x",
    ] {
      try models.put("read/\(name)", "x")
      #expect(try fingerprints() == before, "\(name)")
    }
    // Links lead nowhere, least of all back.
    try FileManager.default.createSymbolicLink(atPath: models.path("read/c/up"), withDestinationPath: "..")
    try FileManager.default.createSymbolicLink(atPath: models.path("read/c/gone"), withDestinationPath: "nothing")
    #expect(try fingerprints() == before)
    // The first step's own result is what the second one reads.
    try models.put("read/made.jsonl", "x")
    let made = try fingerprints()
    try #require(made.count == 2)
    #expect(made[0] == before[0] && made[1] != before[1])
    // Of results of training it is these, as before.
    try models.put("read/adapter.gguf", "x")
    let trained = try fingerprints()
    try models.put("read/a.txt", "c")
    #expect(try fingerprints() == trained)
    #expect(zip(trained, made).allSatisfy { $0 != $1 })
  }

  private func begin(_ step: TrainingPlan.Step) throws -> Bool {
    try step.prepare(try step.fingerprint(), answers: try step.answersFingerprint())
  }

  /// Hours of sampling stay where `sample` itself goes on from them, and go where their scores are no longer true.
  @Test func answersStayWhereSamplingGoesOn() throws {
    _ = try models.write("choice-prompts.jsonl", ["{\"prompt\": \"a\"}"])
    let grader = try models.write("choice-grader.py", ["old"])
    let usual = "grader: ./g, max_tokens: 8"
    func step(_ options: String) throws -> TrainingPlan.Step {
      let plan = try models.write(
        "choice.yaml",
        ["steps: [{ sample: choice-prompts.jsonl, reads: choice-grader.py, out: choice.jsonl, \(options) }]"])
      return try #require(try TrainingPlan.load(plan).steps.first)
    }
    func areKept() -> Bool { FileManager.default.fileExists(atPath: models.path("choice.jsonl.answers")) }
    func sampled() throws { _ = try models.write("choice.jsonl.answers", ["{\"samples_of\":\"x\"}"]) }

    let first = try step("\(usual), answers: 4")
    #expect(try begin(first))
    try sampled()
    for options in [
      "answers: 8", "answers: 4, as: pairs", "per_prompt: 2", "length_ratio: 0", "threshold: 0.5", "graders: 4",
      "attach: true, format: json",
    ] {
      let other = try step("\(usual), \(options)")
      // It is done again, with the same answers; its minutes go on.
      #expect(try other.fingerprint() != first.fingerprint(), "\(options)")
      #expect(try begin(other) == false && areKept(), "\(options)")
    }
    for options in ["grader: ./h, max_tokens: 8", "grader: ./g, max_tokens: 9", "\(usual), temperature: 1"] {
      _ = try begin(first)
      try sampled()
      let other = try step(options)
      #expect(try begin(other) && !areKept(), "\(options)")
    }
    _ = try begin(first)
    try sampled()
    try Data("another one".utf8).write(to: URL(fileURLWithPath: grader))
    #expect(try begin(first) && !areKept())
  }

  /// Older versions noted one fingerprint, for which a directory was nothing.
  @Test func answersOfOlderVersionsStay() throws {
    try models.put("older-grader/g", "old")
    let step = TrainingPlan.Step(
      action: .sample, arguments: ["--grader=older-grader/g"], out: models.path("older.jsonl"),
      inputs: [models.path("older-grader")], line: 1)
    var hasher = SHA256Hasher()
    for field in ["fusionroute/plan-step/1", "sample", "--grader=older-grader/g"] { hasher.update(field: field) }
    try models.put("older.jsonl.plan-begun", hasher.finalize().hex)
    let answers = try models.write("older.jsonl.answers", ["{\"samples_of\":\"x\"}"])
    #expect(try begin(step) == false)
    #expect(FileManager.default.fileExists(atPath: answers))
    // From now on it is something.
    try models.put("older-grader/g", "new")
    #expect(try begin(step))
    #expect(!FileManager.default.fileExists(atPath: answers))
  }
}

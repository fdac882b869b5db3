import Core
import Foundation
import Testing

@testable import Evaluation
@testable import fusionroute

/// Answers of prompts that were too long for the context, which no grader sees.
@Suite(.serialized) struct RegradeTests: EvalSuite {
  let models: ToyModels

  init() throws { models = try ToyModels.shared.get() }

  @Test func whatDidNotFitStaysWrong() async throws {
    _ = try tasks("unfit-tasks.jsonl", 2)
    let log = models.path("unfit.log")
    let script = try write(
      "unfit.py",
      """
      import json, sys
      for line in sys.stdin:
          asked = json.loads(line)
          with open(\(JSONText.string(log)), "a") as log:
              log.write(asked["id"] + "\\n")
          print(json.dumps({"id": asked["id"], "passed": True, "version": "one"}), flush=True)
      """)
    // As another evaluation has left them.
    func record(_ id: String, _ task: String, _ pieces: [String], _ finish: String) -> AnswerRecord {
      AnswerRecord(
        key: "", method: "theirs", id: id, task: task, text: pieces.joined(), pieces: pieces,
        deciders: pieces.map { _ in nil }, finish: finish, grade: Grade(passed: false))
    }
    let given = [record("p1", "odd", ["words"], "stop"), record("p2", "even", [], "length")]
    _ = try write("unfit-given.jsonl", given.map(\.line).joined(separator: "\n"))
    let evaluation = try write(
      "unfit.yaml",
      """
      tasks: unfit-tasks.jsonl
      grader: python3 \(script)
      methods:
        theirs: { answers: unfit-given.jsonl }
      """)
    func run(_ more: String...) async throws {
      let result = try await Product.run(
        ["eval", "-e", evaluation, "--out", models.path("unfit-out"), "--resamples", "100"] + more)
      #expect(result.code == 0 && result.errors.contains("theirs: 1 prompt does not fit"), "\(more): \(result.errors)")
      // The grader has one version; that it has not seen a prompt is none.
      #expect(!result.errors.contains("different versions"), "\(more): \(result.errors)")
      let theirs = try #require(try records("unfit-out")["theirs"])
      #expect(theirs["p1"]?.grade.passed == true && theirs["p2"]?.grade.passed == false, "\(more): \(theirs)")
    }
    try await run()
    try await run("--regrade")
    // An older version has had it graded.
    var wrong = try #require(try records("unfit-out")["theirs"]?["p2"])
    wrong.grade = Grade(passed: true, version: "one")
    let file = try FileHandle(forUpdating: URL(fileURLWithPath: models.path("unfit-out/results.jsonl")))
    try file.seekToEnd()
    try file.write(contentsOf: Data((wrong.line + "\n").utf8))
    try file.close()
    try await run("--regrade")
    let asked = try String(contentsOfFile: log, encoding: .utf8).split(separator: "\n")
    #expect(asked == ["p1", "p1", "p1"])
  }
}

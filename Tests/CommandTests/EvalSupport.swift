import Core
import Foundation
import Testing

@testable import Evaluation
@testable import fusionroute

/// Files, graders and results of tests of `eval`.
protocol EvalSuite {
  var models: ToyModels { get }
}

extension EvalSuite {
  func write(_ name: String, _ text: String) throws -> String {
    let path = models.path(name)
    try Data(text.utf8).write(to: URL(fileURLWithPath: path))
    return path
  }

  func tasks(_ name: String, _ count: Int) throws -> String {
    let lines = (1...count).map { index in
      let task = index % 2 == 0 ? "even" : "odd"
      return """
        {"id":"p\(index)","task":"\(task)","messages":[{"role":"user","content":"say \(index) words"}],\
        "grader":{"name":"length","rest":\(index % 3)},"tags":{"third":\(index % 3)}}
        """
    }
    return try write(name, lines.joined(separator: "\n") + "\n")
  }

  /// A grader that passes answers by their length, and writes down what it was asked.
  func grader(_ name: String) throws -> (command: String, log: String) {
    let log = models.path("\(name).log")
    try? FileManager.default.removeItem(atPath: log)
    let script = try write(
      "\(name).py",
      """
      import json, sys
      for line in sys.stdin:
          asked = json.loads(line)
          with open(\(JSONText.string(log)), "a") as log:
              log.write(asked["id"] + "\\n")
          passed = len(asked["text"]) % 3 == asked["grader"]["rest"]
          print(json.dumps({"id": asked["id"], "passed": passed, "parts": {"format": True, "content": passed}}), flush=True)
      """)
    return ("python3 \(script)", log)
  }

  func asked(_ log: String) -> Int {
    ((try? String(contentsOfFile: log, encoding: .utf8)) ?? "").split(separator: "\n").count
  }

  func records(_ folder: String) throws -> [String: [String: AnswerRecord]] {
    let text = try String(contentsOfFile: models.path("\(folder)/results.jsonl"), encoding: .utf8)
    var records: [String: [String: AnswerRecord]] = [:]
    for line in text.split(separator: "\n") {
      let record = try #require(AnswerRecord(line: String(line)), "\(line)")
      records[record.method, default: [:]][record.id] = record
    }
    return records
  }

  func summary(_ output: String) throws -> [String: [String: Any]] {
    let object = try #require(try JSONSerialization.jsonObject(with: Data(output.utf8)) as? [String: Any])
    let rows = try #require(object["methods"] as? [[String: Any]])
    return try Dictionary(uniqueKeysWithValues: rows.map { (try #require($0["method"] as? String), $0) })
  }

  /// A reward model of a few steps.
  func reward() async throws -> String {
    let folder = models.path("eval-reward")
    if FileManager.default.fileExists(atPath: "\(folder)/head.gguf") { return folder }
    let pairs = try write(
      "eval-pairs.jsonl",
      (1...10).map {
        "{\"prompt\": \"say \($0)\", \"chosen\": \"good words \($0)\", \"rejected\": \"old words \($0)\"}"
      }.joined(separator: "\n"))
    let result = try await Product.run(
      [
        "train", "reward", models.path("router.gguf"), "--data", pairs, "--out", folder, "--steps", "6", "--rank", "4",
        "--learning-rate", "3e-3",
      ] + ["--threads", "1", "--precision", "f32", "--library", "builtin"])
    #expect(result.code == 0, "\(result.errors)")
    return folder
  }
}

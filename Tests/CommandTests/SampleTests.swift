import Core
import Foundation
import Testing

@testable import fusionroute

/// `sample` that is interrupted, whose models change, and whose files come from elsewhere.
@Suite(.serialized) struct SampleTests {
  let models: ToyModels

  init() throws { models = try ToyModels.shared.get() }

  private func write(_ name: String, _ text: String) throws -> String {
    let path = models.path(name)
    try Data(text.utf8).write(to: URL(fileURLWithPath: path))
    return path
  }

  private func lines(_ name: String) -> [String] {
    let text = (try? String(contentsOfFile: models.path(name), encoding: .utf8)) ?? ""
    return text.split(separator: "\n").map(String.init)
  }

  /// What Ctrl-C cuts off is no answer, and what it keeps from beginning is none either.
  @Test func anInterruptedSamplingKeepsWholeAnswersOnly() async throws {
    let count = 120
    let prompts = try write(
      "interrupted-prompts.jsonl", (1...count).map { "{\"prompt\": \"say \($0)\"}\n" }.joined())
    let cluster = try models.cluster("interrupted")
    // The grader's sleep alone makes it take longer than the interruption does.
    func command(_ out: String) -> [String] {
      [
        "sample", prompts, "-c", cluster, "--answers", "1", "--temperature", "1.5", "--seed", "3", "--max-tokens", "16",
        "--stop", "e", "--grader", "sleep 0.05", "--out", models.path(out),
      ]
    }
    let whole = try await Product.run(command("sampled-whole.jsonl"))
    #expect(whole.code == 0, "\(whole.errors)")
    let all = Set(lines("sampled-whole.jsonl.answers"))
    #expect(all.count == count + 1)

    let running = try Product.Running(command("sampled-interrupted.jsonl"))
    try await running.wait("three answers") { lines("sampled-interrupted.jsonl.answers").count >= 4 }
    running.send(SIGINT)
    let result = try await running.result()
    #expect(result.code == 130, "\(result.errors)")
    let kept = lines("sampled-interrupted.jsonl.answers")
    #expect((4...count / 2).contains(kept.count))
    #expect(all.isSuperset(of: kept))
    #expect(!FileManager.default.fileExists(atPath: models.path("sampled-interrupted.jsonl")))

    let again = try await Product.run(command("sampled-interrupted.jsonl"))
    #expect(again.code == 0, "\(again.errors)")
    #expect(Set(lines("sampled-interrupted.jsonl.answers")) == all)
    #expect(!lines("sampled-whole.jsonl").isEmpty)
    #expect(lines("sampled-interrupted.jsonl") == lines("sampled-whole.jsonl"))
  }

  @Test func answersOfOtherModelsAreRefused() async throws {
    let prompts = try write("models-prompts.jsonl", "{\"prompt\": \"say 1\"}\n")
    func put(_ name: String) throws {
      let data = try Data(contentsOf: URL(fileURLWithPath: models.path(name)))
      try data.write(to: URL(fileURLWithPath: models.path("sampled-bee.gguf")), options: .atomic)
    }
    try put("bee.gguf")
    let cluster = try models.cluster("sampled-models", expert: "sampled-bee.gguf")
    let command = [
      "sample", prompts, "-c", cluster, "--answers", "1", "--max-tokens", "4", "--grader", "true", "--out",
      models.path("sampled-models.jsonl"),
    ]
    for _ in 0..<2 {
      let result = try await Product.run(command)
      #expect(result.code == 0, "\(result.errors)")
    }
    try put("cat.gguf")
    let changed = try await Product.run(command)
    #expect(changed.code == 65 && changed.errors.contains("sampled-models.jsonl.answers"), "\(changed.errors)")
  }

  @Test func linesMayEndAsOnWindows() throws {
    let path = try write("windows-prompts.jsonl", "{\"prompt\": \"a\"}\r\n{\"prompt\": \"b\"}\r\n")
    #expect(try SamplePrompt.read(path).map { $0.messages.last?.content } == ["a", "b"])
    _ = try write("windows-prompts.jsonl", "{\"prompt\": \"a\"}\r\n\r\noops\r\n")
    let error = #expect(throws: FusionRouteError.self) { try SamplePrompt.read(path) }
    #expect(error?.message.contains("windows-prompts.jsonl:3:") == true, "\(error?.message ?? "")")
  }

  /// Options that cannot be meant are refused, each by its own name, before anything is started.
  @Test func impossibleOptions() async throws {
    let prompts = try write("options-prompts.jsonl", "{\"prompt\": \"a\"}\n")
    for (options, word) in [
      (["--graders", "0"], "--graders"), (["--as", "pairs"], "--answers"), (["--threshold", "nan"], "--threshold"),
      (["--length-ratio", "0.5"], "--length-ratio"), (["--attach"], "--cluster"),
      (["--answers", "9223372036854775807", "--temperature", "1"], "--answers"),
    ] {
      let result = try await Product.run(
        ["sample", prompts, "--grader", "true", "--out", models.path("options.jsonl")]
          + (options.contains("--answers") ? [] : ["--answers", "1"]) + options)
      #expect(result.code == 64 && result.errors.contains(word), "\(options): \(result.errors)")
    }
    #expect(!FileManager.default.fileExists(atPath: models.path(".options.jsonl.lock")))
  }

  /// What an error quotes cannot steer the terminal.
  @Test func errorsArePrintable() async throws {
    let result = try await Product.run([
      "sample", "a\u{1B}[31mb", "--answers", "1", "--grader", "true", "--out", models.path("unwritten.jsonl"),
    ])
    #expect(result.code == 65 && result.errors.contains("a\u{FFFD}[31mb"), "\(result.errors)")
    #expect(!result.errors.utf8.contains(0x1B))
  }
}

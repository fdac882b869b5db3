import Core
import Evaluation
import Foundation
import Fusion
import Inference
import Launch
import Testing

@testable import fusionroute

/// `sample` that is interrupted, whose models change or are lost, and whose files come from elsewhere.
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

  /// Ctrl-C reaches a grader's command only through us, and all of what that has started.
  @Test func anInterruptionEndsTheGrader() async throws {
    let slow = AnswerGraderTests.Slow()
    let running = try Product.Running([
      "sample", try write("slow-prompts.jsonl", "{\"prompt\": \"say 1\"}\n"), "-c", try models.cluster("slow"),
      "--answers", "1", "--max-tokens", "16", "--grader", slow.command, "--out", models.path("sampled-slow.jsonl"),
    ])
    try await running.wait("the grader") { !slow.processes.isEmpty }
    running.send(SIGINT)
    let start = ContinuousClock.now
    let result = try await running.result()
    #expect(result.code == 130 && ContinuousClock.now - start < .seconds(40), "\(result.errors)")
    try await slow.wait("the end") { $0.isEmpty }
    #expect(lines("sampled-slow.jsonl.answers").count == 1)
  }

  /// The identity of answers: equal settings are equal in each process, and what older versions wrote goes on.
  @Test func settingsHaveOneText() async throws {
    func text(_ options: String...) throws -> String {
      SampleCommand.text(of: try GenerationOptions.parse(options).sampling)
    }
    let start =
      "SamplingParameters(temperature: 1.5, seed: 3, topK: 0, topP: 1.0, minP: 0.0, repetitionPenalty: 1.0, "
      + "presencePenalty: 0.0, frequencyPenalty: 0.0, logitBias: "
    let common = ["--temperature", "1.5", "--seed", "3"]
    let cases: [(options: [String], bias: String)] = [([], "[:]"), (["--logit-bias", "5=-inf"], "[5: -inf]")]
    for (options, bias) in cases {
      let sampling = try GenerationOptions.parse(common + options).sampling
      #expect(SampleCommand.text(of: sampling) == start + bias + ")" && "\(sampling)" == start + bias + ")")
    }
    let one = try text("--logit-bias", "5=1", "--logit-bias", "6=2")
    #expect(try one == text("--logit-bias", "6=2", "--logit-bias", "5=1"))
    #expect(try one != text("--logit-bias", "5=2", "--logit-bias", "6=1"))

    let command =
      [
        "sample", try write("biased-prompts.jsonl", "{\"prompt\": \"say 1\"}\n"), "-c", try models.cluster("biased"),
        "--answers", "1", "--max-tokens", "4", "--grader", "true", "--out", models.path("sampled-biased.jsonl"),
      ] + (100..<108).flatMap { ["--logit-bias", "\($0)=-1"] }
    for _ in 0..<2 {
      let result = try await Product.run(command)
      #expect(result.code == 0, "\(result.errors)")
    }
  }

  /// Before anything is asked or loaded, each with its place: here is neither a service nor a model.
  @Test func promptsThatCannotBeUsedAreFoundFirst() async throws {
    let task = #"{"id": "p1", "task": "a", "messages": [{"role": "user", "content": "q"}], "grader": {}}"#
    let tasks = try write("unfit-prompts.jsonl", "\(task)\n\n{\"prompt\": \"q\"}\n")
    let texts = try write("raw-prompts.jsonl", "{\"prompt\": \"q\"}\n\(task)\n")
    for (options, place, word) in [
      ([tasks, "--grader-service", "cat"], "unfit-prompts.jsonl:3: ", "\"id\""),
      ([texts, "--grader", "true", "--raw"], "raw-prompts.jsonl:2: ", "--raw"),
    ] {
      let result = try await Product.run(
        ["sample", "--answers", "1", "--url", "http://127.0.0.1:9", "--out", models.path("unfit.jsonl")] + options)
      #expect(result.code == 65, "\(options): \(result.errors)")
      #expect(result.errors.contains(place) && result.errors.contains(word), "\(options): \(result.errors)")
    }
    let read = try SamplePrompt.read(try write("fit-prompts.jsonl", task + "\n"), areTasks: true)
    #expect(read.map(\.task?.id) == ["p1"] && read.map(\.content) == [.messages(read[0].messages)])
  }

  /// As `run --raw` does.
  @Test func rawTextsAreContinued() async throws {
    let cluster = try models.cluster("sampled-raw")
    let common = ["-c", cluster, "--raw", "--max-tokens", "8"]
    let sampled = try await Product.run(
      [
        "sample", try write("continued-prompts.jsonl", "{\"prompt\": \"Hello there\"}\n"), "--answers", "1",
        "--grader", "true", "--out", models.path("sampled-raw.jsonl"),
      ] + common)
    #expect(sampled.code == 0, "\(sampled.errors)")
    let run = try await Product.run(["run", "--prompt", "Hello there", "--format", "json"] + common)
    let expected = try #require(try AnswerObject.list(run.output).first).text
    let line = try #require(lines("sampled-raw.jsonl.answers").last)
    let answer = try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
    #expect(!expected.isEmpty && answer["text"] as? String == expected)
  }

  @Test func answersOfStandInsAreNoData() async throws {
    let command = try SampleCommand.parse(["p.jsonl", "--out", "o.jsonl", "--answers", "1", "--grader", "true"])
    let prompt = SamplePrompt(messages: [ChatMessage(role: "user", content: "q")], isText: true, record: "{}")
    func answer(isDegraded: Bool) async throws -> SampledAnswer {
      try await command.answer(prompt, 0, 0, with: OneToken(isDegraded: isDegraded), grader: .command("true"))
    }
    #expect(try await answer(isDegraded: false).score == 1)
    let error = await #expect(throws: FusionRouteError.self) { _ = try await answer(isDegraded: true) }
    #expect(error?.code == .unavailable && error?.message.contains("an expert was lost") == true)
    // Nor is any asked for.
    let path = try models.cluster("sampled-loss", more: "on_expert_loss: next_best")
    #expect(try SampleCommand.clusterFile(path).onExpertLoss == .fail)
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

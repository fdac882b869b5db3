import Core
import Foundation
import Inference
import Testing

@testable import Evaluation
@testable import fusionroute

/// What single methods and settings do; of ``EvalTests``, whose reward model they share.
extension EvalTests {
  /// Tokens of the longest prompt of `tasks(_:_:)`.
  private func longestPrompt(_ count: Int) throws -> Int {
    let model = try Model.load(path: models.path("router.gguf"))
    let lengths = try (1...count).map {
      try model.promptTokens(chat: [ChatMessage(role: "user", content: "say \($0) words")]).count
    }
    return try #require(lengths.max())
  }

  /// Answers that the context cut are asked for again when there is more of it.
  @Test func aLargerContextIsAnsweredAnew() async throws {
    let (command, _) = try grader("context")
    let tasks = try tasks("context-tasks.jsonl", 6)
    let context = try longestPrompt(6) + 2
    func run(context: Int) async throws -> [String: [String: AnswerRecord]] {
      let cluster = try models.cluster("eval-context", context: context)
      let result = try await Product.run([
        "eval", tasks, "-c", cluster, "--grader", command, "--out", models.path("context-out"), "--max-tokens", "30",
        "--resamples", "100", "--method", "ant", "--method", "router", "--method", "fusionroute",
      ])
      #expect(result.code == 0, "\(result.errors)")
      return try records("context-out")
    }
    let (before, after) = (try await run(context: context), try await run(context: 512))
    var cut = 0
    for (method, answers) in before {
      for (id, record) in answers {
        // One token more than fits.
        #expect(record.promptTokens + record.generatedTokens <= context + 1)
        guard record.finish == "length" else { continue }
        cut += 1
        #expect(after[method]?[id]?.generatedTokens ?? 0 > record.generatedTokens, "\(method) \(id)")
      }
    }
    #expect(before.count == 3 && cut > 0)
  }

  /// The expert that reads the prompt for the first token is asked again for all of them, and reads it once.
  @Test func routingPerPromptCountsItsPrompt() async throws {
    _ = try models.cluster("eval-per-prompt")
    let (command, _) = try grader("per-prompt")
    let words = (0..<60).map { "word\($0)" }.joined(separator: " ")
    _ = try write(
      "per-prompt-tasks.jsonl",
      """
      {"id":"p","task":"t","messages":[{"role":"user","content":"\(words)"}],"grader":{"rest":0}}

      """)
    let evaluation = try write(
      "per-prompt.yaml",
      """
      tasks: per-prompt-tasks.jsonl
      cluster: eval-per-prompt.yaml
      grader: \(command)
      max_tokens: 6
      reference: fused
      methods:
        first: { first_expert: true }
        fused: { mode: fusion }
      """)
    let run = ["eval", "-e", evaluation, "--resamples", "100", "--format", "json"]
    // The file's reference does not run; asked for, it would have to.
    let alone = try await Product.run(run + ["--out", models.path("per-prompt-out"), "--method", "first"])
    #expect(alone.code == 0 && alone.output.contains("\"reference\":\"first\""), "\(alone.errors)")
    let asked = try await Product.run(
      run + ["--out", models.path("per-prompt-out"), "--method", "first", "--reference", "fused"])
    #expect(asked.code == 65 && asked.errors.contains("fused"), "\(asked.errors)")
    let record = try #require(try records("per-prompt-out")["first"]?["p"])
    let expert = try #require(record.chosen)
    #expect(record.promptTokens > 60)
    #expect(record.evaluations[expert] ?? 0 >= record.promptTokens, "\(record.evaluations)")
    #expect(record.evaluations["router"] ?? 0 >= record.promptTokens, "\(record.evaluations)")
  }

  /// Answers of something else are graded here, and others are compared with them and choose among them.
  @Test func answersOfSomethingElse() async throws {
    _ = try models.cluster("eval-given")
    let (command, log) = try grader("given")
    _ = try tasks("given-tasks.jsonl", 6)
    // Right by the grader's rule for ids that are even.
    func text(_ number: Int) -> String { String(repeating: "x", count: number % 3 + (number % 2 == 0 ? 3 : 4)) }
    let lines = (1...6).map { #"{"id": "p\#($0)", "text": "\#(text($0))"}"# }
    _ = try write("theirs.jsonl", lines.joined(separator: "\n"))
    func evaluation(_ name: String, _ methods: String, ant: String = #"{ mode: "expert:ant" }"#) throws -> [String] {
      let file = try write(
        "\(name).yaml",
        """
        tasks: given-tasks.jsonl
        cluster: eval-given.yaml
        grader: \(command)
        max_tokens: 6
        reference: ant
        methods:
          ant: \(ant)
        \(methods)
        """)
      return ["eval", "-e", file, "--out", models.path("\(name)-out"), "--resamples", "100", "--format", "json"]
    }
    let run = try evaluation(
      "given", "  theirs: { answers: theirs.jsonl }\n  best: { oracle: [ant, theirs] }\n  mean: { mean: [ant, theirs] }"
    )
    let first = try await Product.run(run)
    #expect(first.code == 0, "\(first.errors)")
    let records = try records("given-out")
    for number in 1...6 {
      let record = try #require(records["theirs"]?["p\(number)"])
      #expect(record.text == text(number) && record.grade.passed == (number % 2 == 0))
      // How long something else took is not known, and so of what chooses among its answers.
      #expect(record.busySeconds == nil && records["best"]?["p\(number)"]?.busySeconds == nil)
    }
    let rows = try summary(first.output)
    #expect(rows["theirs"]?["missing_answers"] as? Int == 0 && rows["best"] != nil && rows["mean"] != nil)
    let asked = asked(log)
    #expect(asked == 12)
    let again = try await Product.run(run)
    #expect(again.output == first.output && self.asked(log) == asked, "\(again.errors)")

    // The results of that evaluation, in another one: the same answers, with tokens and costs.
    let copied = try await Product.run(
      try evaluation(
        "copied", "  theirs: { answers: given-out/results.jsonl }", ant: "{ answers: given-out/results.jsonl }"))
    #expect(copied.code == 0, "\(copied.errors)")
    let copies = try self.records("copied-out")
    #expect(copies.count == 2)
    for (name, answers) in copies {
      for (id, record) in answers {
        var expected = try #require(records[name]?[id])
        expected.key = record.key
        #expect(record == expected && (name == "theirs" || !record.pieces.isEmpty))
      }
    }
    let others = try await Product.run(try evaluation("others", "  ours: { answers: given-out/results.jsonl }"))
    #expect(
      others.code == 65 && others.errors.contains("no answers of \"ours\", but of ant, best, theirs"),
      "\(others.errors)")

    // A prompt without an answer, and a file that is not there.
    _ = try write("fewer.jsonl", lines.dropLast(2).joined(separator: "\n"))
    let fewer = try await Product.run(try evaluation("fewer", "  theirs: { answers: fewer.jsonl }"))
    #expect(fewer.code == 65 && fewer.errors.contains("to 2 of 6 prompts, such as p5"), "\(fewer.errors)")
    let limited = try await Product.run(try evaluation("fewer", "  theirs: { answers: fewer.jsonl, limit: 2 }"))
    #expect(limited.code == 0, "\(limited.errors)")
    let none = try await Product.run(try evaluation("none", "  theirs: { answers: nothing.jsonl }"))
    #expect(none.code == 65 && none.errors.contains("nothing.jsonl"), "\(none.errors)")
    let both = try await Product.run(try evaluation("both", "  theirs: { answers: theirs.jsonl, mode: fusion }"))
    #expect(both.code == 65 && both.errors.contains("has answers, beside which mode means nothing"), "\(both.errors)")
  }

  /// At the end of the context Collab's answers end, as those of other methods do.
  @Test func collabEndsWithTheContext() async throws {
    _ = try await reward()
    _ = try tasks("collab-tasks.jsonl", 4)
    let (command, _) = try grader("collab")
    let longest = try longestPrompt(4)
    let context = longest + 6
    _ = try models.cluster("eval-collab", context: context)
    let evaluation = try write(
      "collab.yaml",
      """
      tasks: collab-tasks.jsonl
      cluster: eval-collab.yaml
      grader: \(command)
      reward: { model: router.gguf, from: eval-reward }
      max_tokens: 40
      methods:
        collab: { collab: 12 }
      """)
    let result = try await Product.run(
      ["eval", "-e", evaluation, "--out", models.path("collab-out"), "--resamples", "100"])
    #expect(result.code == 0, "\(result.errors)")
    let answers = try #require(try records("collab-out")["collab"])
    #expect(answers.count == 4)
    for record in answers.values {
      let length = record.promptTokens + record.generatedTokens
      #expect(length <= context + 1)
      // All of it is used: an answer that did not end by itself has one token more than fits.
      #expect(record.finish == "stop" || length == context + 1, "\(record.id): \(length) of \(context)")
    }
    #expect(answers.values.contains { $0.finish == "length" })
    // Prompts that are too long themselves have no answer.
    _ = try models.cluster("eval-collab", context: longest - 1)
    let short = try await Product.run(
      ["eval", "-e", evaluation, "--out", models.path("collab-short"), "--resamples", "100"])
    #expect(short.code == 0 && short.errors.contains("not fit into the context"), "\(short.errors)")
    let shortened = try #require(try records("collab-short")["collab"]).values
    #expect(
      shortened.count == 4
        && shortened.contains { $0.grade.reason?.contains("the context holds \(longest - 1)") == true })
  }

  @Test func collabStopsAtStopTexts() async throws {
    _ = try await reward()
    _ = try tasks("stopped-tasks.jsonl", 6)
    _ = try models.cluster("eval-stopped")
    let (command, _) = try grader("stopped")
    let evaluation = try write(
      "stopped.yaml",
      """
      tasks: stopped-tasks.jsonl
      cluster: eval-stopped.yaml
      grader: \(command)
      reward: { model: router.gguf, from: eval-reward }
      max_tokens: 24
      stop: [e]
      methods:
        collab: { collab: 3 }
      """)
    let result = try await Product.run(
      ["eval", "-e", evaluation, "--out", models.path("stopped-out"), "--resamples", "100"])
    #expect(result.code == 0, "\(result.errors)")
    let answers = try #require(try records("stopped-out")["collab"])
    #expect(answers.count == 6 && answers.values.contains { $0.finish == "stop" })
    for record in answers.values {
      #expect(!record.text.utf8.contains(UInt8(ascii: "e")), "\(record.text)")
      #expect(record.pieces.joined() == record.text)
    }
  }
}

/// The parts of `eval` that need no cluster.
@Suite struct EvalPartTests {
  /// Every answer once, and no prompt for two methods at the same time.
  @Test func interleavedMethodsReadOtherPrompts() {
    for (methods, prompts) in [(2, 2), (3, 10), (7, 7), (8, 300)] {
      let jobs = EvaluationRun.interleaved(
        (0..<methods).map { method in (0..<prompts).map { [method, $0] } })
      #expect(jobs.count == methods * prompts && Set(jobs).count == jobs.count)
      for start in stride(from: 0, to: jobs.count, by: methods) {
        #expect(Set(jobs[start..<start + methods].map { $0[1] }).count == methods, "\(methods) \(prompts)")
      }
    }
    // What one method has left may be less.
    let uneven = EvaluationRun.interleaved([["a1"], [], ["c1", "c2", "c3"]])
    #expect(uneven.sorted() == ["a1", "c1", "c2", "c3"])
    #expect(EvaluationRun.interleaved([[Int]]()).isEmpty)
  }

  @Test func textsAreCutAtStopTexts() throws {
    func text(_ pieces: [String], _ stop: String...) throws -> StoppedText {
      try StoppedText(pieces.map { Array($0.utf8) }, stop: stop)
    }
    let plain = try text(["one", " two"])
    #expect(plain.pieces == ["one", " two"] && !plain.isStopped)
    // Over several tokens, and not what follows.
    let cut = try text(["one\n", "\nQ", ": two", " three"], "\n\nQ:")
    #expect(cut.text == "one" && cut.pieces.count == 3 && cut.isStopped)
    // What only looks like the start of one is given out in the end.
    let open = try text(["one\n", "\n"], "\n\nQ:")
    #expect(open.text == "one\n\n" && open.pieces.count == 2 && !open.isStopped)
    #expect(try text([], "x").pieces.isEmpty)
    // A character in two tokens.
    let split = try StoppedText([[0x61, 0xC3], [0xA9, 0x62], [0x63]], stop: ["é"])
    #expect(split.text == "a" && split.pieces.count == 2 && split.isStopped)
    let half = try StoppedText([[0x61], [0xC3]], stop: [])
    #expect(half.pieces == ["a", "\u{FFFD}"])
  }

  @Test func answersOfStandInsAreNone() async throws {
    func answer(isDegraded: Bool) async throws -> Answer {
      let decoder = AnswerDecoder(
        answerer: OneToken(isDegraded: isDegraded), options: try GenerationOptions.parse([]), limiter: Limiter(1))
      return try await decoder.answer(.text("x"), mode: "fusion", maximumTokens: 1)
    }
    #expect(try await answer(isDegraded: false).text == "a")
    let error = await #expect(throws: FusionRouteError.self) { _ = try await answer(isDegraded: true) }
    #expect(error?.code == .unavailable)
    // Nor does a cluster of the evaluation make any.
    let models = try ToyModels.shared.get()
    let path = try models.cluster("eval-loss", more: "on_expert_loss: router")
    let cluster = try EvaluationCluster.file(.init(cluster: path), settings: EvaluationSettings(source: "test"))
    #expect(cluster.onExpertLoss == .fail)
  }

  @Test func referencesThatDoNotRunArePassedOver() throws {
    var settings = EvaluationSettings(source: "test")
    let all = ["a", "fusionroute", "c-1", "b"].map { Method(name: $0, kind: .decode(.init())) }
    func reference(_ names: [String], isOption: Bool = false) throws -> String {
      try settings.reference(
        of: all.filter { names.contains($0.name) }, among: all, isOption: isOption)
    }
    #expect(try reference(["a", "fusionroute", "b"]) == "fusionroute" && reference(["a", "b"]) == "b")
    settings.reference = "c-1"
    #expect(try reference(["a", "c-1", "fusionroute"]) == "c-1")
    #expect(try reference(["a", "b"]) == "b" && reference(["fusionroute", "b"]) == "fusionroute")
    #expect(throws: FusionRouteError.self) { try reference(["a", "b"], isOption: true) }
    settings.reference = "nobody"
    #expect(throws: FusionRouteError.self) { try reference(["a", "b"]) }
  }
}

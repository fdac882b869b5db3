import Core
import Foundation
import ModelFiles
import Testing

@testable import Evaluation
@testable import fusionroute

/// `eval` as users run it: real workers, a grader that is a process.
@Suite(.serialized) struct EvalTests: EvalSuite {
  let models: ToyModels
  init() throws { models = try ToyModels.shared.get() }

  // MARK: Rows

  /// Every kind of method; each answer is the one that the runtime gives, or the one that its rule picks.
  @Test func everyKindOfMethod() async throws {
    let cluster = try models.cluster("eval-cluster")
    let (command, log) = try grader("kinds")
    _ = try tasks("eval-tasks.jsonl", 8)
    let rewardFolder = try await reward()
    let evaluation = try write(
      "eval-kinds.yaml",
      """
      tasks: eval-tasks.jsonl
      cluster: eval-cluster.yaml
      grader: \(command)
      reward: { model: router.gguf, from: eval-reward }
      max_tokens: 10
      changes_from: [half, zero]
      methods:
        ant: { mode: "expert:ant" }
        bee: { mode: "expert:bee" }
        cat: { mode: "expert:cat" }
        selection: { select: [ant, bee, cat] }
        collab: { collab: 2, limit: 2 }
        alone: { model: bee.gguf }
        router: { mode: router }
        first: { first_expert: true }
        plain: { mode: no-complement }
        half: { mode: fusion, scale: 0.5, note: "half of it" }
        zero: { mode: fusion, scale: 0 }
        oracle: { oracle: [ant, bee, cat] }
        fusionroute: { mode: fusion }
      """)
    let out = models.path("eval-out")
    let run = ["eval", "-e", evaluation, "--out", out, "--format", "json", "--resamples", "200"]
    let first = try await Product.run(run)
    #expect(first.code == 0, "\(first.errors)")
    let answers = try records("eval-out")
    #expect(answers.count == 13)
    let ids = (1...8).map { "p\($0)" }

    // The same texts as `run` gives in these modes.
    for (name, mode) in [
      ("ant", "expert:ant"), ("router", "router"), ("plain", "no-complement"), ("fusionroute", "fusion"),
    ] {
      let input = (1...8).map { "say \($0) words" }.joined(separator: "\n")
      let told = try await Product.run(
        ["run", "-c", cluster, "--mode", mode, "--max-tokens", "10", "--format", "json"], input: input)
      #expect(try AnswerObject.list(told.output).map(\.text) == ids.map { answers[name]?[$0]?.text }, "\(name)")
    }
    let scorer = try RewardScorer(model: models.path("router.gguf"), folder: rewardFolder)
    try scorer.use(slots: 4, threads: 1, longest: RewardScorer.maximumLength)
    defer { scorer.stop() }
    let engine = try RewardGrader(model: models.path("router.gguf"), folder: rewardFolder, threads: 1)
    var told = 0
    var (lost, spread) = (0.0, 0.0)
    for id in ids {
      let experts = try ["ant", "bee", "cat"].map { try #require(answers[$0]?[id]) }
      for record in experts {
        #expect(record.grade.passed == (record.text.unicodeScalars.count % 3 == Int(id.dropFirst())! % 3), "\(id)")
        #expect(record.pieces.joined() == record.text && record.decidingExperts == [record.method])
      }
      // A model by itself is what the expert with its weights is; c = 0 is routing without the router's logits.
      #expect(answers["alone"]?[id]?.text == experts[1].text)
      #expect(answers["zero"]?[id]?.text == answers["plain"]?[id]?.text)
      for (name, answers) in answers where answers[id] != nil {
        #expect(try #require(answers[id]?.busySeconds) > 0, "\(name), \(id)")
      }
      let oracle = try #require(answers["oracle"]?[id])
      let seconds = experts.reduce(0) { $0 + ($1.busySeconds ?? 0) }
      #expect(abs((oracle.busySeconds ?? 0) - seconds) < 1e-9 * seconds, "\(id)")
      #expect(oracle.grade.passed == experts.contains { $0.grade.passed })
      let selection = try #require(answers["selection"]?[id])
      #expect(selection.text == experts.first { $0.method == selection.chosen }?.text)
      var rewards: [Double] = []
      var engineRewards: [Double] = []
      for record in experts {
        let question = "say \(id.dropFirst()) words"
        let prompt = EvaluationTask.Message(role: "user", content: question)
        rewards.append(try await scorer.rate([prompt], answer: record.text).reward)
        engineRewards.append(
          try engine.score(prompt: [.init(role: "user", content: question)], answer: record.text))
      }
      let best = try #require(rewards.max())
      let chosen = try #require(experts.firstIndex { $0.method == selection.chosen })
      // Batches of another size round otherwise.
      let tolerance = 2e-3 * max(1, abs(best))
      #expect(best - rewards[chosen] <= tolerance, "\(id): \(rewards), chosen \(chosen)")
      if rewards.contains(where: { best - $0 > tolerance }) { told += 1 }
      let (highest, lowest) = (try #require(engineRewards.max()), try #require(engineRewards.min()))
      lost += highest - engineRewards[chosen]
      spread += highest - lowest
      #expect(selection.evaluations["reward"] ?? 0 > 0)
      #expect(selection.expertEvaluations == experts.reduce(0) { $0 + $1.expertEvaluations })
      let routed = try #require(answers["first"]?[id])
      #expect(routed.text == experts.first { $0.method == routed.chosen }?.text)
      let expected = try #require(answers["plain"]?[id])
      #expect(routed.chosen == expected.deciders.first.flatMap { $0.map { expected.experts[$0] } })
    }
    // The rewards do tell answers apart.
    #expect(told > 0)
    // By the training engine's rewards the choices are the best, but for near ties; blind ones would lose half of that.
    #expect(spread > 0 && lost <= spread / 10, "\(lost) of \(spread)")
    #expect(answers["collab"]?.count == 4)
    for record in answers["collab"]?.values.map({ $0 }) ?? [] {
      #expect(
        record.pieces.joined() == record.text && record.evaluations["reward"] != nil
          || record.deciders.allSatisfy { $0 == nil })
    }

    // Nothing is asked again, and the numbers are the same; the oracle and the selection grade nothing themselves.
    let count = asked(log)
    #expect(count == 10 * 8 + 4)
    let again = try await Product.run(run)
    #expect(again.code == 0 && again.output == first.output && asked(log) == count, "\(again.errors)")
    let rows = try summary(again.output)
    #expect(
      rows["fusionroute"]?["average"] as? Double
        == (rows["fusionroute"]?["tasks"] as? [[String: Any]])
        .map { $0.compactMap { $0["accuracy"] as? Double }.reduce(0, +) / 2 })
    let report = try String(contentsOfFile: "\(out)/report.html", encoding: .utf8)
    #expect(report.contains("say 1 words") && report.contains("<svg"))
    #expect((rows["half"]?["description"] as? String)?.hasSuffix("times 0.5; half of it") == true)
    // What is on disk makes the same tables without grader and reward model, as long as it is of the same models.
    let silent = try write(
      "eval-silent.yaml",
      try String(contentsOfFile: evaluation, encoding: .utf8).split(separator: "\n")
        .filter { !$0.hasPrefix("grader:") }.joined(separator: "\n"))
    func reprinted(_ more: String...) async throws -> (code: Int32, output: String, errors: String) {
      let result = try await Product.run(
        ["eval", "-e", silent, "--out", out, "--format", "json", "--resamples", "200", "--report-only"] + more)
      return (result.code, result.output, result.errors)
    }
    let reported = try await reprinted()
    #expect(reported.code == 0 && reported.output == first.output && !reported.errors.contains("left out"))
    let stale = try await reprinted("--max-tokens", "9")
    #expect(
      stale.code == 0 && stale.errors.contains("100 answers") && stale.errors.contains("left out"), "\(stale.errors)")
    #expect(try summary(stale.output)["ant"]?["missing_answers"] as? Int == 8)

    // Graded anew: the same answers, all asked again.
    let regraded = try await Product.run(run + ["--regrade"])
    #expect(regraded.code == 0 && regraded.output == first.output && asked(log) == 2 * count, "\(regraded.errors)")
    // The methods in one go give the same answers.
    let together = try await Product.run(
      [
        "eval", "-e", evaluation, "--out", models.path("eval-together"), "--interleave", "--method", "oracle",
        "--method",
        "fusionroute",
      ])
    #expect(together.code == 0 && together.output.contains("fusionroute"), "\(together.errors)")
    for (method, own) in try records("eval-together") {
      for (id, record) in own { #expect(record.text == answers[method]?[id]?.text, "\(method) \(id)") }
    }
  }

  /// Killed at any moment, the same command goes on and ends with the same table.
  @Test func killedRunsGoOn() async throws {
    let cluster = try models.cluster("eval-killed")
    let (command, _) = try grader("killed")
    let tasks = try tasks("killed-tasks.jsonl", 12)
    func run(_ out: String) -> [String] {
      [
        "eval", tasks, "-c", cluster, "--grader", command, "--out", models.path(out), "--max-tokens", "8", "--format",
        "json", "--resamples", "100",
      ]
    }
    let whole = try await Product.run(run("killed-whole"))
    #expect(whole.code == 0, "\(whole.errors)")
    let seed = UInt64.random(in: 0...999)
    var random = SplitMix64(seed: seed)
    var kills = 0
    var kept: [AnswerRecord] = []
    for round in 0..<6 {
      let running = try Product.Running(run("killed-out"))
      if round == 0 {
        // With some answers, which are not to be asked for again.
        try await running.wait("the first answer") { asked(models.path("killed-out/results.jsonl")) > 0 }
      } else {
        try await Task.sleep(for: .milliseconds(300 + Int(random.next() % 1200)))
      }
      if !running.isRunning { break }
      running.send(SIGKILL)
      _ = try await running.result()
      kills += 1
      // But for a line that the kill cut off.
      let lines = String(decoding: try models.bytes("killed-out/results.jsonl"), as: UTF8.self).split(separator: "\n")
      kept = lines.compactMap { AnswerRecord(line: String($0)) }
    }
    #expect(kills > 0 && !kept.isEmpty, "seed \(seed)")
    let last = try await Product.run(run("killed-out"))
    #expect(last.code == 0, "\(last.errors)")
    let (killed, calm) = (try records("killed-out"), try records("killed-whole"))
    #expect(killed.mapValues(\.count) == calm.mapValues(\.count), "seed \(seed)")
    for (method, answers) in calm {
      for (id, record) in answers {
        let other = try #require(killed[method]?[id], "\(method) \(id), seed \(seed)")
        #expect(other.text == record.text && other.pieces == record.pieces, "\(method) \(id), seed \(seed)")
        #expect(other.decidingExperts == record.decidingExperts, "\(method) \(id), seed \(seed)")
        #expect(other.finish == record.finish && other.grade == record.grade, "\(method) \(id), seed \(seed)")
      }
    }
    // With its time and all, so it was not asked again.
    for record in kept {
      #expect(killed[record.method]?[record.id] == record, "\(record.method) \(record.id), seed \(seed)")
    }
    func accuracies(_ output: String) throws -> [String: [Double?]] {
      try summary(output).mapValues { ($0["tasks"] as? [[String: Any]] ?? []).map { $0["accuracy"] as? Double } }
    }
    #expect(try accuracies(last.output) == accuracies(whole.output), "seed \(seed)")
    // What is there can be looked at without answering anything.
    let looked = try await Product.run(run("killed-out") + ["--report-only"])
    #expect(looked.code == 0 && looked.output == last.output)
    // Other settings are other answers.
    let other = try await Product.run(run("killed-out") + ["--max-tokens", "3", "--method", "router"])
    #expect(other.code == 0, "\(other.errors)")
    #expect(try records("killed-out")["router"]?.values.allSatisfy { $0.generatedTokens <= 3 } == true)
  }

  @Test func aServiceIsAskedToo() async throws {
    let cluster = try models.cluster("eval-served", more: "listen: { http: \"127.0.0.1:0\" }")
    let (command, _) = try grader("served")
    let tasks = try tasks("served-tasks.jsonl", 4)
    let service = try await RunningService.start(["up", "-c", cluster])
    try await service.waitUntilReady()
    let common = ["--grader", command, "--max-tokens", "8", "--resamples", "100"]
    let remote = try await Product.run(
      ["eval", tasks, "--url", service.url, "--out", models.path("served-out")] + common)
    #expect(remote.code == 0, "\(remote.errors)")
    _ = try await service.stop()
    let local = try await Product.run(["eval", tasks, "-c", cluster, "--out", models.path("local-out")] + common)
    #expect(local.code == 0, "\(local.errors)")
    let (served, own) = (try records("served-out"), try records("local-out"))
    #expect(served.keys.sorted() == own.keys.sorted() && served.count == 8)
    for (method, answers) in own {
      for (id, record) in answers {
        let other = try #require(served[method]?[id])
        #expect(other.text == record.text && other.decidingExperts == record.decidingExperts, "\(method) \(id)")
        #expect(other.evaluations.filter { $0.key != "router" }.values.reduce(0, +) > 0 || method == "router")
      }
    }
  }

  /// Wherever a service runs, its answers are those of its models; a prompt too long for it is one wrong answer.
  @Test func aServiceIsKnownByItsModels() async throws {
    let (command, _) = try grader("known")
    let tasks = try write(
      "known-tasks.jsonl",
      ["hi", String(repeating: "word ", count: 400)].enumerated().map {
        #"{"id": "p\#($0)", "task": "a", "messages": [{"role": "user", "content": "\#($1)"}], "grader": {"rest": 0}}"#
      }.joined(separator: "\n"))
    let out = models.path("known-out")
    func lines() throws -> [String] {
      try String(contentsOfFile: "\(out)/results.jsonl", encoding: .utf8).split(separator: "\n").map(String.init)
    }
    func ask(bee: String) async throws -> Product.Result {
      let cluster = try models.cluster(
        "eval-known", expert: bee, more: "listen: { http: \"127.0.0.1:0\" }", context: 128)
      let service = try await RunningService.start(["up", "-c", cluster])
      try await service.waitUntilReady()
      let result = try await Product.run([
        "eval", tasks, "--url", service.url, "--out", out, "--grader", command, "--max-tokens", "4", "--resamples",
        "100",
      ])
      _ = try await service.stop()
      return result
    }
    let first = try await ask(bee: "")
    #expect(first.code == 0 && first.errors.contains("router: 1 prompt does not fit"), "\(first.errors)")
    #expect(try records("known-out")["fusionroute"]?["p1"]?.grade.passed == false)
    let answers = try lines()
    let again = try await ask(bee: "")
    #expect(again.code == 0, "\(again.errors)")
    #expect(try lines() == answers)
    let other = try await ask(bee: "cat.gguf")
    #expect(other.code == 0 && other.errors.contains("of other models"), "\(other.errors)")
    let new = Set(try lines()[answers.count...].compactMap { AnswerRecord(line: $0)?.method })
    #expect(new.contains("bee") && new.contains("fusionroute"), "\(new)")
    #expect(new.isDisjoint(with: ["ant", "cat", "router"]), "\(new)")
  }

  @Test func benchmarksAreAnswered() async throws {
    let cluster = try models.cluster("eval-benchmark")
    let file = try write(
      "gsm8k.jsonl",
      (1...3).map { "{\"question\":\"What is \($0) + 1?\",\"answer\":\"#### \($0 + 1)\"}" }.joined(separator: "\n"))
    let script = try write(
      "benchmark.py",
      """
      import json, sys
      for line in sys.stdin:
          asked = json.loads(line)
          record = asked["grader"]["record"]
          assert asked["grader"]["name"] == "gsm8k" and asked["prompt"] == record["question"]
          print(json.dumps({"id": asked["id"], "passed": record["answer"] == "#### 2"}), flush=True)
      """)
    for frame in ["paper", "chat"] {
      let result = try await Product.run([
        "eval", "gsm8k", file, "-c", cluster, "--frame", frame, "--grader", "python3 \(script)", "--out",
        models.path("gsm8k-\(frame)"), "--method", "fusionroute", "--max-tokens", "4", "--resamples", "100",
      ])
      #expect(result.code == 0 && result.output.contains("33.3"), "\(frame): \(result.errors)")
    }
    let paper = try #require(try records("gsm8k-paper")["fusionroute"]?["gsm8k/1"])
    let raw = try await Product.run(
      [
        "run", "-c", cluster, "--raw", "--prompt", Benchmark.framed("What is 1 + 1?"), "--max-tokens", "4", "--format",
        "json",
      ])
    let told = try #require(try AnswerObject.list(raw.output).first)
    // As it stands, but for the special tokens that the vocabulary may put in front.
    #expect((0...1).contains(paper.promptTokens - told.prompt_tokens.count))
  }

  /// Before anything is answered, however late it stands in the file.
  @Test func recordsThatCannotBeGradedAreFoundFirst() async throws {
    let cluster = try models.cluster("eval-records")
    let file = try write(
      "records.jsonl",
      ["#### 2", "#### 3", "two"].map { "{\"question\":\"How many?\",\"answer\":\"\($0)\"}" }.joined(separator: "\n"))
    let script = try write(
      "records.py",
      """
      import json, sys
      for line in sys.stdin:
          asked = json.loads(line)
          open(sys.argv[1], "a").write(asked["text"] + "|")
          fault = not asked["grader"]["record"]["answer"].startswith("####")
          verdict = {"error": "no number"} if fault else {"passed": False}
          print(json.dumps({"id": asked["id"], **verdict}), flush=True)
      """)
    let log = models.path("records.log")
    let run = [
      "eval", "gsm8k", file, "-c", cluster, "--grader", "python3 \(script) \(log)", "--out", models.path("records-out"),
      "--method", "router", "--max-tokens", "3", "--resamples", "100",
    ]
    let bad = try await Product.run(run)
    #expect(bad.code == 65 && bad.errors.contains("gsm8k/3") && bad.errors.contains("no number"), "\(bad.errors)")
    #expect(try String(contentsOfFile: log, encoding: .utf8).allSatisfy { $0 == "|" })
    #expect(try records("records-out").isEmpty)
    // What is not asked need not be gradable.
    let some = try await Product.run(run + ["--limit", "2"])
    #expect(some.code == 0, "\(some.errors)")
    #expect(try records("records-out")["router"]?.count == 2)
  }

  /// A file that others have written stays as it is; only a last line that a crash cut off is dropped.
  @Test func foreignResultsAreKept() async throws {
    let cluster = try models.cluster("eval-foreign")
    let (command, log) = try grader("foreign")
    let tasks = try tasks("foreign-tasks.jsonl", 2)
    let out = models.path("foreign-out")
    let run = [
      "eval", tasks, "-c", cluster, "--grader", command, "--out", out, "--method", "router", "--max-tokens", "3",
      "--resamples", "100",
    ]
    try FileManager.default.createDirectory(atPath: out, withIntermediateDirectories: true)
    let foreign = "{\"run\": 1, \"loss\": 0.5}\n{\"run\": 2, \"loss\": 0.4}\n"
    _ = try write("foreign-out/results.jsonl", foreign)
    let refused = try await Product.run(run)
    #expect(refused.code == 65 && refused.errors.contains("results.jsonl:1 is no graded answer"), "\(refused.errors)")
    #expect(try String(contentsOfFile: "\(out)/results.jsonl", encoding: .utf8) == foreign)
    try FileManager.default.removeItem(atPath: "\(out)/results.jsonl")
    #expect(try await Product.run(run).code == 0)
    let whole = try String(contentsOfFile: "\(out)/results.jsonl", encoding: .utf8)
    _ = try write("foreign-out/results.jsonl", String(whole.dropLast(9)))
    let again = try await Product.run(run)
    // Two answers, and once more the one whose line was cut off.
    #expect(again.code == 0 && asked(log) == 3, "\(again.errors)")
    #expect(try records("foreign-out")["router"]?.count == 2)
    // In the middle a crash leaves nothing.
    let lines = whole.split(separator: "\n")
    let torn = "\(lines[0].dropLast(9))\n\(lines[1])\n"
    _ = try write("foreign-out/results.jsonl", torn)
    #expect(try await Product.run(run).code == 65)
    #expect(try String(contentsOfFile: "\(out)/results.jsonl", encoding: .utf8) == torn)
  }

  /// llama.cpp's rewards are those of the training engine, also when beginnings are taken from the cache.
  @Test func rewardsAreTheTrainingEngines() async throws {
    let folder = try await reward()
    let grader = try RewardGrader(model: models.path("router.gguf"), folder: folder, threads: 1)
    let scorer = try RewardScorer(model: models.path("router.gguf"), folder: folder)
    try scorer.use(slots: 4, threads: 1, longest: RewardScorer.maximumLength)
    defer { scorer.stop() }
    var reused = 0
    var pairs: [(expected: Double, rated: Double)] = []
    for answer in ["good words", "good words 7", "old words 7 and more", "", "good words 7 and some more of them"] {
      let expected = try grader.score(
        prompt: [.init(role: "user", content: "say 7")], answer: answer.isEmpty ? " " : answer)
      let rating = try await scorer.rate(
        [.init(role: "user", content: "say 7")], answer: answer.isEmpty ? " " : answer)
      // The KV cache is F16 unless the weights are F32.
      #expect(
        abs(rating.reward - expected) <= 2e-2 * max(1, abs(expected)), "\(answer): \(rating) against \(expected)")
      pairs.append((expected, rating.reward))
      reused += rating.evaluated < 8 ? 1 : 0
      // It goes on with another number of threads.
      if reused == 1 { try scorer.use(slots: 4, threads: 2, longest: RewardScorer.maximumLength) }
    }
    #expect(reused > 0)
    // After so few steps all rewards may lie within that tolerance: what counts is how they differ. A scorer that gives
    // every answer the same is off by half of the spread for one of them.
    let expected = pairs.map { $0.expected }
    let spread = (expected.max() ?? 0) - (expected.min() ?? 0)
    let worst = pairs.map { abs($0.rated - $0.expected) }.max() ?? .infinity
    #expect(spread > 0 && worst <= spread / 4, "off by \(worst) of \(spread): \(pairs)")
    for (index, one) in pairs.enumerated() {
      for other in pairs[..<index] where abs(one.expected - other.expected) > spread / 10 {
        #expect(
          (one.expected > other.expected) == (one.rated > other.rated), "\(one) and \(other) of \(pairs)")
      }
    }
  }

  /// Beginnings of several answers in turn: each finds what was rated of its own before, if there is a slot for it.
  @Test(arguments: [6, 3]) func beginningsAreKept(slots: Int) async throws {
    let scorer = try RewardScorer(model: models.path("router.gguf"), folder: try await reward())
    try scorer.use(slots: slots, threads: 1, longest: 120)
    defer { scorer.stop() }
    var evaluated: [Int] = []
    var written = ""
    for round in 0..<4 {
      written += " and some more of them \(round)"
      for answer in 0..<6 {
        let rating = try await scorer.rate(
          [.init(role: "user", content: "say \(answer) words")], answer: "\(answer)" + written)
        if round == 3 { evaluated.append(rating.evaluated) }
      }
    }
    // What the last round added, and the end of the turn.
    let added = try scorer.tokens([.init(role: "user", content: "say 1 words")], answer: "1" + written).count / 4
    #expect(evaluated.allSatisfy { slots == 6 ? $0 <= added + 3 : $0 > 2 * added }, "\(evaluated), \(added)")
  }
}

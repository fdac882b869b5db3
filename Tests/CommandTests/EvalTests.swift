import Core
import Foundation
import ModelFiles
import Testing

@testable import Evaluation
@testable import fusionroute

/// `eval` as users run it: real workers, a grader that is a process.
@Suite(.serialized) struct EvalTests {
  let models: ToyModels
  private static let fast = ["--threads", "1", "--precision", "f32", "--library", "builtin"]

  init() throws { models = try ToyModels.shared.get() }

  private func write(_ name: String, _ text: String) throws -> String {
    let path = models.path(name)
    try Data(text.utf8).write(to: URL(fileURLWithPath: path))
    return path
  }

  private func tasks(_ name: String, _ count: Int) throws -> String {
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
  private func grader(_ name: String) throws -> (command: String, log: String) {
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

  private func asked(_ log: String) -> Int {
    ((try? String(contentsOfFile: log, encoding: .utf8)) ?? "").split(separator: "\n").count
  }

  private func records(_ folder: String) throws -> [String: [String: AnswerRecord]] {
    let text = try String(contentsOfFile: models.path("\(folder)/results.jsonl"), encoding: .utf8)
    var records: [String: [String: AnswerRecord]] = [:]
    for line in text.split(separator: "\n") {
      let record = try #require(AnswerRecord(line: String(line)), "\(line)")
      records[record.method, default: [:]][record.id] = record
    }
    return records
  }

  private func summary(_ output: String) throws -> [String: [String: Any]] {
    let object = try #require(try JSONSerialization.jsonObject(with: Data(output.utf8)) as? [String: Any])
    let rows = try #require(object["methods"] as? [[String: Any]])
    return try Dictionary(uniqueKeysWithValues: rows.map { (try #require($0["method"] as? String), $0) })
  }

  /// A reward model of a few steps.
  private func reward() async throws -> String {
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
      ] + Self.fast)
    #expect(result.code == 0, "\(result.errors)")
    return folder
  }

  // MARK: Rows

  /// Every kind of method; each answer is the one that the runtime gives, or the one that its rule picks.
  @Test func everyKindOfMethod() async throws {
    let cluster = try models.cluster("eval-cluster")
    let (command, log) = try grader("kinds")
    _ = try tasks("eval-tasks.jsonl", 8)
    _ = try await reward()
    let evaluation = try write(
      "eval-kinds.yaml",
      """
      tasks: eval-tasks.jsonl
      cluster: eval-cluster.yaml
      grader: \(command)
      reward: { model: router.gguf, from: eval-reward }
      max_tokens: 10
      changes_from: half
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
        half: { mode: fusion, scale: 0.5 }
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
    for id in ids {
      let experts = try ["ant", "bee", "cat"].map { try #require(answers[$0]?[id]) }
      for record in experts {
        #expect(record.grade.passed == (record.text.unicodeScalars.count % 3 == Int(id.dropFirst())! % 3), "\(id)")
        #expect(record.pieces.joined() == record.text && record.decidingExperts == [record.method])
      }
      // A model by itself is what the expert with its weights is; c = 0 is routing without the router's logits.
      #expect(answers["alone"]?[id]?.text == experts[1].text)
      #expect(answers["zero"]?[id]?.text == answers["plain"]?[id]?.text)
      let oracle = try #require(answers["oracle"]?[id])
      #expect(oracle.grade.passed == experts.contains { $0.grade.passed })
      let selection = try #require(answers["selection"]?[id])
      #expect(selection.text == experts.first { $0.method == selection.chosen }?.text)
      #expect(selection.evaluations["reward"] ?? 0 > 0)
      #expect(selection.expertEvaluations == experts.reduce(0) { $0 + $1.expertEvaluations })
      let routed = try #require(answers["first"]?[id])
      #expect(routed.text == experts.first { $0.method == routed.chosen }?.text)
      let expected = try #require(answers["plain"]?[id])
      #expect(routed.chosen == expected.deciders.first.flatMap { $0.map { expected.experts[$0] } })
    }
    #expect(answers["collab"]?.count == 4)
    for record in answers["collab"]?.values.map({ $0 }) ?? [] {
      #expect(record.pieces.joined() == record.text && record.evaluations["reward"] != nil || record.deciders.allSatisfy { $0 == nil })
    }

    // Nothing is asked again, and the numbers are the same; the oracle and the selection grade nothing themselves.
    let count = asked(log)
    #expect(count == 10 * 8 + 4)
    let again = try await Product.run(run)
    #expect(again.code == 0 && again.output == first.output && asked(log) == count, "\(again.errors)")
    let rows = try summary(again.output)
    #expect(rows["fusionroute"]?["average"] as? Double == (rows["fusionroute"]?["tasks"] as? [[String: Any]])
      .map { $0.compactMap { $0["accuracy"] as? Double }.reduce(0, +) / 2 })
    let report = try String(contentsOfFile: "\(out)/report.html", encoding: .utf8)
    #expect(report.contains("say 1 words") && report.contains("<svg"))

    // Graded anew: the same answers, all asked again.
    let regraded = try await Product.run(run + ["--regrade"])
    #expect(regraded.code == 0 && regraded.output == first.output && asked(log) == 2 * count, "\(regraded.errors)")
    // The methods in one go give the same answers.
    let together = try await Product.run(
      ["eval", "-e", evaluation, "--out", models.path("eval-together"), "--interleave", "--method", "oracle", "--method",
        "fusionroute"])
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
    for _ in 0..<6 {
      let running = try Product.Running(run("killed-out"))
      try await Task.sleep(for: .milliseconds(300 + Int(random.next() % 1200)))
      if !running.isRunning { break }
      running.send(SIGKILL)
      _ = try await running.result()
    }
    let last = try await Product.run(run("killed-out"))
    #expect(last.code == 0, "\(last.errors)")
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
        #expect(other.evaluations.filter { $0.key != "router" } .values.reduce(0, +) > 0 || method == "router")
      }
    }
  }

  @Test func benchmarksAreAnswered() async throws {
    let cluster = try models.cluster("eval-benchmark")
    let file = try write(
      "gsm8k.jsonl", (1...3).map { "{\"question\":\"What is \($0) + 1?\",\"answer\":\"#### \($0 + 1)\"}" }.joined(separator: "\n"))
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
      ["run", "-c", cluster, "--raw", "--prompt", Benchmark.framed("What is 1 + 1?"), "--max-tokens", "4", "--format", "json"])
    let told = try #require(try AnswerObject.list(raw.output).first)
    // As it stands, but for the special tokens that the vocabulary may put in front.
    #expect((0...1).contains(paper.promptTokens - told.prompt_tokens.count))
  }

  // MARK: Faults

  @Test func gradersThatFailAreNamed() async throws {
    let cluster = try models.cluster("eval-faults")
    let tasks = try tasks("faults-tasks.jsonl", 2)
    func run(_ grader: String, _ more: [String] = []) async throws -> Product.Result {
      try await Product.run(
        [
          "eval", tasks, "-c", cluster, "--grader", grader, "--out", models.path("faults-\(UUID())"), "--method",
          "router", "--max-tokens", "2",
        ] + more)
    }
    for (grader, more, code, word) in [
      ("echo sorry >&2; exit 3", [], Int32(69), "sorry"), ("no-such-command-anywhere", [], 69, "not found"),
      ("sleep 60", ["--grader-timeout", "300ms"], 69, "did not answer within"),
      ("while read line; do echo nonsense; done", [], 69, "nonsense"),
      ("while read line; do echo '{\"id\":\"p9\",\"passed\":true}'; done", [], 69, "p9"),
      (
        "python3 -c 'import json,sys\nfor l in sys.stdin: print(json.dumps({\"id\":json.loads(l)[\"id\"],\"error\":\"no rest\"}),flush=True)'",
        [], 65, "no rest"
      ),
    ] {
      let result = try await run(grader, more)
      #expect(result.code == code && result.errors.contains(word), "\(grader): \(result.code) \(result.errors)")
    }
    // One that dies now and then is started again.
    let tired = try write(
      "tired.py",
      "import json, sys\nasked = json.loads(sys.stdin.readline())\nprint(json.dumps({'id': asked['id'], 'passed': True}), flush=True)\n"
    )
    let result = try await run("python3 \(tired)", ["--graders", "1"])
    #expect(result.code == 0 && result.output.contains("100.0"), "\(result.errors)")
    // Nothing that a grader started is left.
    let marker = "sleep 8642\(getpid())"
    _ = try await run("\(marker) & cat >/dev/null; wait", ["--grader-timeout", "300ms"])
    let processes = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
    let left = processes.filter { name in
      guard Int32(name) != nil, let line = FileManager.default.contents(atPath: "/proc/\(name)/cmdline") else { return false }
      return String(decoding: line, as: UTF8.self).replacingOccurrences(of: "\0", with: " ").hasPrefix(marker)
    }
    #expect(left.isEmpty)
  }

  @Test func faultsOfFilesNameTheirLine() async throws {
    _ = try models.cluster("eval-bad")
    _ = try tasks("bad-tasks.jsonl", 2)
    for (text, word) in [
      ("tasks: bad-tasks.jsonl\nmethod: {}", "did you mean \"methods\""), ("methods: { a: { mode: x } }", "mode"),
      ("methods: { a: { select: [b] } }", "no method"), ("methods: { a: { head: h } }", "needs one of"),
      ("methods: { a: { mode: fusion } }", "cluster"), ("cluster: c\nmethods: { a: { mode: fusion, scale: -1 } }", "scale"),
      ("cluster: c\nmethods: { a: { mode: fusion, collab: 2 } }", "of which it may have one"), ("- a", "mapping"),
      ("methods: [", "YAML"), ("reward: { model: a }", "from"), ("limit: 0", "limit"),
    ] {
      let file = try write("bad-eval.yaml", text)
      let result = try await Product.run(["eval", "-e", file, "--out", models.path("bad-out"), "--grader", "cat"])
      #expect(result.code == 65 && result.errors.contains(word), "\(text): \(result.code) \(result.errors)")
    }
    let tasks = models.path("bad-tasks.jsonl")
    for (arguments, code, word) in [
      ([tasks, "-c", models.path("eval-bad.yaml"), "--method", "rooter"], Int32(65), "router"),
      ([tasks, "-c", models.path("eval-bad.yaml"), "--reference", "x"], 65, "reference"),
      (["nowhere.jsonl", "-c", models.path("eval-bad.yaml")], 65, "nowhere.jsonl"),
      ([tasks, "-c", models.path("eval-bad.yaml"), "--limit", "0"], 64, "limit"),
      (["mbpp", tasks, "-c", models.path("eval-bad.yaml")], 65, "test_list"),
    ] {
      let result = try await Product.run(["eval"] + arguments + ["--out", models.path("bad-out"), "--grader", "cat"])
      #expect(result.code == code && result.errors.contains(word), "\(arguments): \(result.code) \(result.errors)")
    }
  }

  // MARK: Neighbours

  /// llama.cpp's rewards are those of the training engine, also when beginnings are taken from the cache.
  @Test func rewardsAreTheTrainingEngines() async throws {
    let folder = try await reward()
    let grader = try RewardGrader(model: models.path("router.gguf"), folder: folder, threads: 1)
    let scorer = try RewardScorer(model: models.path("router.gguf"), folder: folder, threads: 1)
    defer { scorer.stop() }
    var reused = 0
    for answer in ["good words", "good words 7", "old words 7 and more", "", "good words 7 and some more of them"] {
      let expected = try grader.score(prompt: [.init(role: "user", content: "say 7")], answer: answer.isEmpty ? " " : answer)
      let (value, evaluated) = try await scorer.score(
        [.init(role: "user", content: "say 7")], answer: answer.isEmpty ? " " : answer)
      // The KV cache is F16 unless the weights are F32.
      #expect(abs(value - expected) <= 2e-2 * max(1, abs(expected)), "\(answer): \(value) against \(expected)")
      reused += evaluated < 8 ? 1 : 0
    }
    #expect(reused > 0)
  }

  @Test func samplesAreGradedByTheService() async throws {
    let cluster = try models.cluster("eval-sampling")
    let (command, log) = try grader("sampling")
    let tasks = try tasks("sampling-tasks.jsonl", 4)
    let result = try await Product.run([
      "sample", tasks, "-c", cluster, "--answers", "3", "--temperature", "1.5", "--max-tokens", "9", "--out",
      models.path("eval-sampled.jsonl"), "--grader-service", command, "--as", "pairs", "--length-ratio", "0",
    ])
    #expect(result.code == 0 && asked(log) == 12, "\(result.errors)")
  }

  /// A judge that prefers longer answers, and one that breaks the form once.
  @Test func judgesCompareAnswers() async throws {
    let script = try write(
      "judge.py",
      """
      import http.server, json, re, sys
      seen = {}
      class Judge(http.server.BaseHTTPRequestHandler):
          def do_POST(self):
              body = json.loads(self.rfile.read(int(self.headers["content-length"])))
              text = body["messages"][0]["content"]
              assert self.path == "/v1/chat/completions" and body["model"] == "longest"
              answers = re.findall(r"answer\\]\\n(.*?)\\n\\[The end", text, re.S)
              seen[text] = seen.get(text, 0) + 1
              open(sys.argv[1], "a").write("asked\\n")
              scores = [min(10, 1 + len(a)) for a in answers]
              reply = "Let me think." if seen[text] == 1 and len(seen) == 1 else "%d %d\\nbecause" % tuple(scores)
              data = json.dumps({"choices": [{"message": {"role": "assistant", "content": reply}}]}).encode()
              self.send_response(200)
              self.send_header("content-type", "application/json")
              self.send_header("content-length", str(len(data)))
              self.end_headers()
              self.wfile.write(data)
          def log_message(self, *arguments): pass
      server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Judge)
      print(server.server_address[1], flush=True)
      server.serve_forever()
      """)
    let log = models.path("judge.log")
    let server = try Product.Running([script, log], executable: "/usr/bin/python3")
    try await server.wait("the judge listens") { server.outputSoFar.contains("\n") }
    defer { server.send(SIGKILL) }
    let port = server.outputSoFar.trimmingCharacters(in: .whitespacesAndNewlines)
    let folder = models.path("judged")
    try? FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    let tasks = try tasks("judged-tasks.jsonl", 3)
    var lines = ""
    for (method, texts) in [("fusionroute", ["abcd", "a", "ab"]), ("tuned", ["ab", "abc", "xy"])] {
      for (index, text) in texts.enumerated() {
        lines += AnswerRecord(
          key: "\(method)\(index)", method: method, id: "p\(index + 1)", task: "odd", text: text,
          grade: Grade(passed: true)
        ).line + "\n"
      }
    }
    _ = try write("judged/results.jsonl", lines)
    let run = [
      "eval", "judge", tasks, "--results", folder, "--against", "tuned", "--judge", "longest", "--url",
      "http://127.0.0.1:\(port)/v1", "--format", "json", "--resamples", "200",
    ]
    let result = try await Product.run(run)
    #expect(result.code == 0, "\(result.errors)")
    let object = try #require(try JSONSerialization.jsonObject(with: Data(result.output.utf8)) as? [String: Any])
    #expect(object["wins"] as? Int == 1 && object["losses"] as? Int == 1 && object["ties"] as? Int == 1)
    #expect(object["win_rate"] as? Double == 0.5)
    // Both orders of three pairs, and one reply that was no score.
    #expect(asked(log) == 7)
    let again = try await Product.run(run)
    #expect(again.output == result.output && asked(log) == 7, "\(again.errors)")
    let missing = try await Product.run(run + ["--method", "other"])
    #expect(missing.code == 65 && missing.errors.contains("tuned"), "\(missing.errors)")
  }
}

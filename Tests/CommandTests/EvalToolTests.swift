import Core
import Foundation
import Launch
import Testing

@testable import Evaluation
@testable import fusionroute

/// What stands around `eval`: graders and files that fail, the judge, `sample`.
@Suite(.serialized) struct EvalToolTests: EvalSuite {
  let models: ToyModels

  init() throws { models = try ToyModels.shared.get() }

  /// Grades by two states of a grader are not mixed silently.
  @Test func aChangedGraderIsNoticed() async throws {
    let cluster = try models.cluster("eval-versions")
    let tasks = try tasks("versions-tasks.jsonl", 6)
    func run(_ version: String, _ more: [String]) async throws -> Product.Result {
      let script = try write(
        "versions.py",
        """
        import json, sys
        for line in sys.stdin:
            print(json.dumps({"id": json.loads(line)["id"], "passed": \(version == "new" ? "True" : "False"), "version": "\(version)"}), flush=True)
        """)
      let result = try await Product.run(
        [
          "eval", tasks, "-c", cluster, "--grader", "python3 \(script)", "--out", models.path("versions-out"),
          "--max-tokens", "2", "--resamples", "100", "--method", "router",
        ] + more)
      #expect(result.code == 0, "\(result.errors)")
      return result
    }
    // One prompt of each task, then the others.
    #expect(try await !run("old", ["--limit", "1"]).errors.contains("by old"))
    let mixed = try await run("new", [])
    #expect(mixed.errors.contains("4 by new, 2 by old"), "\(mixed.errors)")
    let whole = try await run("new", ["--regrade"])
    #expect(!whole.errors.contains("by old"), "\(whole.errors)")
    #expect(try records("versions-out")["router"]?.values.allSatisfy { $0.grade.passed } == true)
  }

  /// A prompt that does not fit is one wrong answer; a folder that is being written is not written by another.
  @Test func longPromptsAreWrongAndFoldersAreHeld() async throws {
    let cluster = try models.cluster("eval-long", context: 128)
    let long = String(repeating: "word ", count: 400)
    let tasks = try write(
      "long-tasks.jsonl",
      ["hi", long].enumerated().map {
        #"{"id": "p\#($0)", "task": "a", "messages": [{"role": "user", "content": "\#($1)"}], "grader": {"rest": 0}}"#
      }.joined(separator: "\n"))
    let (command, _) = try grader("long")
    let out = models.path("long-out")
    let run = [
      "eval", tasks, "-c", cluster, "--grader", command, "--out", out, "--max-tokens", "2", "--resamples", "100",
    ]
    let result = try await Product.run(run)
    #expect(result.code == 0 && result.errors.contains("router: 1 prompt does not fit"), "\(result.errors)")
    let answers = try records("long-out")
    for method in ["ant", "router", "per-prompt", "fusionroute"] {
      let record = try #require(answers[method]?["p1"], "\(method)")
      #expect(!record.grade.passed && record.text.isEmpty && record.grade.reason?.contains("128") == true, "\(method)")
      #expect(answers[method]?["p0"]?.generatedTokens ?? 0 > 0, "\(method)")
    }
    let held = try ServiceLock(path: "\(out)/.lock")
    let second = try await Product.run(run)
    #expect(second.code == 69 && second.errors.contains("another process holds"), "\(second.errors)")
    // Whoever only looks does not wait.
    let looked = try await Product.run(run + ["--report-only"])
    #expect(looked.code == 0, "\(looked.errors)")
    withExtendedLifetime(held) {}
  }

  /// A reward model is the baked one of its directory, unless a later run without --bake has left that behind.
  @Test func bakedRewardsCount() throws {
    let base = models.path("router.gguf")
    func folder(_ name: String, _ ages: [(file: String, minutes: Double)]) throws -> String {
      let folder = models.path(name)
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
      for (file, minutes) in ages {
        let path = "\(folder)/\(file)"
        try Data(file.utf8).write(to: URL(fileURLWithPath: path))
        try FileManager.default.setAttributes(
          [.modificationDate: Date(timeIntervalSince1970: 1e9 - 60 * minutes)], ofItemAtPath: path)
      }
      return folder
    }
    func fingerprint(_ name: String, _ ages: [(file: String, minutes: Double)]) throws -> String {
      try RewardScorer.fingerprint(model: base, folder: folder(name, ages))
    }
    let adapter = try fingerprint("reward-adapter", [("adapter.gguf", 9), ("head.gguf", 9)])
    let whole = try fingerprint("reward-whole", [("model.gguf", 9), ("head.gguf", 9)])
    let baked = try fingerprint("reward-baked", [("adapter.gguf", 9), ("model.gguf", 8), ("head.gguf", 8)])
    let stale = try fingerprint("reward-stale", [("model.gguf", 9), ("adapter.gguf", 2), ("head.gguf", 2)])
    #expect(whole != adapter && baked == whole && stale == adapter)
    #expect(throws: FusionRouteError.self) { try fingerprint("reward-none", [("head.gguf", 1)]) }
  }

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
    #expect(Product.processes { $0.joined(separator: " ").hasPrefix(marker) }.isEmpty)
  }

  /// An answer that no grader survives is wrong; the others get their verdicts, and nothing is asked again.
  @Test func answersThatTheGraderFailsOnAreWrong() async throws {
    let cluster = try models.cluster("eval-deadly")
    let tasks = try tasks("deadly-tasks.jsonl", 4)
    let log = models.path("deadly.log")
    try? FileManager.default.removeItem(atPath: log)
    let script = try write(
      "deadly.py",
      """
      import json, sys
      for line in sys.stdin:
          asked = json.loads(line)
          with open(sys.argv[1], "a") as log:
              log.write(asked["id"] + "\\n")
          if asked["id"] == "p3" and asked["text"]:
              sys.exit("too deep for me")
          print(json.dumps({"id": asked["id"], "passed": True}), flush=True)
      """)
    let run = [
      "eval", tasks, "-c", cluster, "--grader", "python3 \(script) \(log)", "--out", models.path("deadly-out"),
      "--method", "router", "--max-tokens", "2", "--resamples", "100",
    ]
    let first = try await Product.run(run)
    #expect(first.code == 0, "\(first.errors)")
    #expect(first.errors.components(separatedBy: "an answer to p3 twice").count == 2, "\(first.errors)")
    // Four, one of them twice, and whether the grader grades at all.
    #expect(asked(log) == 6)
    let answers = try #require(try records("deadly-out")["router"])
    #expect(answers.count == 4 && answers.values.filter { !$0.grade.passed }.map(\.id) == ["p3"])
    let reason = answers["p3"]?.grade.reason ?? ""
    #expect(reason.hasPrefix("the grader failed on this answer twice: ") && reason.contains("too deep"), "\(reason)")
    let again = try await Product.run(run)
    #expect(again.code == 0 && asked(log) == 6 && !again.errors.contains("p3"), "\(again.errors)")
  }

  @Test func faultsOfFilesNameTheirLine() async throws {
    _ = try models.cluster("eval-bad")
    _ = try tasks("bad-tasks.jsonl", 2)
    let ready = "tasks: bad-tasks.jsonl\ncluster: eval-bad.yaml\n"
    for (text, word) in [
      ("tasks: bad-tasks.jsonl\nmethod: {}", "did you mean \"methods\""), ("methods: { a: { mode: x } }", "mode"),
      ("methods: { a: { select: [b] } }", "no method"), ("methods: { a: { head: h } }", "needs one of"),
      ("methods: { a: { mode: fusion } }", "cluster"),
      ("cluster: c\nmethods: { a: { mode: fusion, scale: -1 } }", "scale"),
      ("cluster: c\nmethods: { a: { mode: fusion, collab: 2 } }", "of which it may have one"), ("- a", "mapping"),
      ("methods: [", "YAML"), ("reward: { model: a }", "from"), ("limit: 0", "limit"),
      ("\(ready)average: [odd, evne]\nmethods: { a: { mode: router } }", "\"evne\""),
      ("\(ready)changes_from: b\nmethods: { a: { mode: router }, b: { mean: [a] } }", "it is a mean"),
      ("\(ready)changes_from: a\nreference: b\nmethods: { a: { mode: router }, b: { mean: [a] } }", "it is a mean"),
      ("\(ready)methods: { a: { mode: router, limit: 1 }, b: { oracle: [a] } }", "is lower"),
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
      ([tasks, "-c", models.path("eval-bad.yaml"), "--url", "http://127.0.0.1:9"], 64, "--url"),
      ([tasks, "--attach"], 64, "--attach"), ([tasks, "--report-only"], 65, "no answers in"),
      ([models.path(""), "-c", models.path("eval-bad.yaml")], 65, "is a directory"),
      (["nowhere.jsonl", "-c", models.path("eval-bad.yaml")], 65, "does not exist"),
    ] {
      let result = try await Product.run(["eval"] + arguments + ["--out", models.path("bad-out"), "--grader", "cat"])
      #expect(result.code == code && result.errors.contains(word), "\(arguments): \(result.code) \(result.errors)")
    }
  }

  /// What the system says, not how Foundation wraps it.
  @Test func foldersThatCannotBeMadeAreExplained() async throws {
    let cluster = try models.cluster("eval-folder")
    let tasks = try tasks("folder-tasks.jsonl", 2)
    for (out, code, word) in [(tasks, Int32(69), "already exists"), ("/proc/nowhere", 69, "exist"), ("", 64, "--out")] {
      let result = try await Product.run(["eval", tasks, "-c", cluster, "--grader", "cat", "--out", out])
      #expect(result.code == code && result.errors.contains(word), "\(out): \(result.code) \(result.errors)")
      #expect(!result.errors.contains("Domain"), "\(result.errors)")
    }
  }

  @Test func samplesAreGradedByTheService() async throws {
    let cluster = try models.cluster("eval-sampling")
    let (command, log) = try grader("sampling")
    let tasks = try tasks("sampling-tasks.jsonl", 4)
    let result = try await Product.run([
      "sample", tasks, "-c", cluster, "--answers", "3", "--temperature", "1.5", "--max-tokens", "9", "--out",
      models.path("eval-sampled.jsonl"), "--grader-service", command, "--as", "pairs", "--length-ratio", "0",
      "--format", "json",
    ])
    #expect(result.code == 0 && asked(log) == 12, "\(result.errors)")
    func objects(_ text: String) throws -> [[String: Any]] {
      try text.split(separator: "\n").map {
        try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any], "\($0)")
      }
    }
    func file(_ name: String) throws -> String { try String(contentsOfFile: models.path(name), encoding: .utf8) }
    let told = try objects(result.output)
    let answers = try objects(file("eval-sampled.jsonl.answers")).dropFirst()
    #expect(told.count == 1 && told.first?["answers"] as? Int == 12)
    // The grader's rule, once more: each prompt has its own rest.
    let verdicts = try answers.map { answer in
      let prompt = try #require(answer["prompt"] as? Int)
      let text = try #require(answer["text"] as? String)
      let passes = text.unicodeScalars.count % 3 == (prompt + 1) % 3
      #expect(answer["score"] as? Double == (passes ? 1 : 0), "\(answer)")
      return passes
    }
    #expect(verdicts.contains(true) && verdicts.contains(false), "\(verdicts)")
    #expect(told.first?["passed"] as? Int == verdicts.count { $0 })
    #expect(told.first?["unfinished"] as? Int == answers.count { $0["complete"] as? Bool == false })
    #expect(told.first?["examples"] as? Int == (try objects(file("eval-sampled.jsonl")).count))
    #expect(told.first?["file"] as? String == models.path("eval-sampled.jsonl"))
  }

  /// A judge that prefers longer answers, and one that breaks the form once.
  @Test func judgesCompareAnswers() async throws {
    let script = try write(
      "judge.py",
      """
      import http.server, json, re, sys, threading
      first = threading.Lock()
      class Judge(http.server.BaseHTTPRequestHandler):
          def do_POST(self):
              body = json.loads(self.rfile.read(int(self.headers["content-length"])))
              text = body["messages"][0]["content"]
              assert self.path == "/v1/chat/completions" and body["model"] == "longest"
              answers = re.findall(r"answer\\]\\n(.*?)\\n\\[The end", text, re.S)
              open(sys.argv[1], "a").write("asked\\n")
              scores = [min(10, 1 + len(a)) for a in answers]
              reply = "Let me think." if first.acquire(blocking=False) else "%d %d\\nbecause" % tuple(scores)
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
        lines +=
          AnswerRecord(
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
    // The same pairs of a published file, whose questions are others.
    let published = try write(
      "judged/ifeval.jsonl",
      #"{"key": 7, "prompt": "Say hello.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}"#)
    let answered = [("fusionroute", "hello"), ("tuned", "hi")].map { method, text in
      AnswerRecord(
        key: "\(method)7", method: method, id: "ifeval/7", task: "ifeval", text: text, grade: Grade(passed: true)
      ).line
    }
    _ = try write("judged/results.jsonl", lines + answered.joined(separator: "\n") + "\n")
    let benchmark = try await Product.run(
      ["eval", "judge", published, "--benchmark", "ifeval"] + run.dropFirst(3) + ["--format", "text"])
    #expect(benchmark.code == 0 && benchmark.output.contains("1 won, 0 tied, 0 lost"), "\(benchmark)")
    _ = try write("judged/results.jsonl", lines)
    let missing = try await Product.run(run + ["--method", "other"])
    #expect(missing.code == 65 && missing.errors.contains("tuned"), "\(missing.errors)")
    // Answers of before and after a change must not be mixed up.
    let changed = AnswerRecord(
      key: "later", method: "tuned", id: "p1", task: "odd", text: "x", grade: Grade(passed: true))
    _ = try write("judged/results.jsonl", lines + changed.line + "\n")
    let mixed = try await Product.run(run)
    #expect(mixed.code == 65 && mixed.errors.contains("p1"), "\(mixed.errors)")
  }

  /// A pair that a judge will not judge is left out, and asked about again; more than half of them are its own fault.
  @Test func pairsWithoutScoresAreLeftOut() async throws {
    let (log, mark) = (models.path("unjudged.log"), models.path("unjudged.mark"))
    for file in [log, mark] { try? FileManager.default.removeItem(atPath: file) }
    let stub = try await StubService.start(
      """
      import os
      busy = threading.Lock()
      def do_POST(self):
          text = json.loads(self.body())["messages"][0]["content"]
          open(arguments[0], "a").write("asked\\n")
          if self.busy.acquire(blocking=False):
              return self.answer(503, "{}")
          scores = "Assistant 1: 8, Assistant 2: 6\\nbecause"
          if "forbidden" in text:
              return self.answer(400, json.dumps({"error": {"message": "such content is filtered"}}))
          refused = "unspeakable" in text and not self.os.path.exists(arguments[1])
          content = None if "silence" in text else "I will \\x1b[31mnot." if refused else scores
          self.answer(200, json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]}))
      """, arguments: [log, mark])
    defer { stub.stop() }
    let folder = models.path("unjudged")
    try? FileManager.default.removeItem(atPath: folder)
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    let tasks = try tasks("unjudged-tasks.jsonl", 4)
    func results(_ texts: [String]) throws {
      var lines = ""
      for (index, text) in texts.enumerated() {
        for (method, text) in [("fusionroute", text), ("tuned", "other")] {
          lines +=
            AnswerRecord(
              key: "\(method)\(text)", method: method, id: "p\(index + 1)", task: "odd", text: text,
              grade: Grade(passed: true)
            ).line + "\n"
        }
      }
      _ = try write("unjudged/results.jsonl", lines)
    }
    func judge(_ format: String) async throws -> Product.Result {
      try await Product.run([
        "eval", "judge", tasks, "--results", folder, "--against", "tuned", "--judge", "shy", "--url", "\(stub.url)/v1",
        "--format", format, "--resamples", "200",
      ])
    }
    func object(_ result: Product.Result) throws -> [String: Any] {
      try #require(try JSONSerialization.jsonObject(with: Data(result.output.utf8)) as? [String: Any])
    }

    try results(["a", "unspeakable", "b", "c"])
    let first = try await judge("json")
    #expect(first.code == 0, "\(first.errors)")
    let told = try object(first)
    #expect(told["pairs"] as? Int == 3 && told["ties"] as? Int == 3 && told["win_rate"] as? Double == 0.5)
    #expect(told["unjudged"] as? [String] == ["p2"])
    #expect(first.errors.contains("p2 is not judged") && first.errors.contains("I will \u{FFFD}[31mnot."))
    // Both orders of three pairs, four tries for the other one, and a moment of failure.
    #expect(asked(log) == 11)
    let again = try await judge("text")
    #expect(again.code == 0 && again.output.contains("3 tied, 0 lost, 1 not judged"), "\(again.output)")
    #expect(asked(log) == 15)
    try Data().write(to: URL(fileURLWithPath: mark))
    let last = try object(try await judge("json"))
    #expect(last["pairs"] as? Int == 4 && (last["unjudged"] as? [String])?.isEmpty == true)
    #expect(asked(log) == 17)

    // Half of them may fail; of more the first is named.
    try results(["a", "silence", "b", "more silence"])
    let half = try object(try await judge("json"))
    #expect(half["unjudged"] as? [String] == ["p2", "p4"])
    try results(["deep silence", "silence", "b", "more silence"])
    let most = try await judge("json")
    #expect(most.code == 69 && most.output.isEmpty, "\(most.output)")
    #expect(most.errors.contains("for 3 of 4 pairs; for p") && most.errors.contains("(nothing)"), "\(most.errors)")

    // What the service refuses is one pair's affair too.
    try results(["a", "forbidden", "b", "c"])
    let refused = try await judge("json")
    let left = try object(refused)["unjudged"] as? [String]
    #expect(refused.code == 0 && left == ["p2"], "\(refused.errors)")
    #expect(refused.errors.contains("p2 is not judged") && refused.errors.contains("such content is filtered"))
  }
}

import Core
import Foundation
import Testing

@testable import Evaluation
@testable import fusionroute

@Suite struct JudgeURLTests {
  @Test(arguments: [
    ("http://h", "http://h/v1/chat/completions"), ("http://h:1/", "http://h:1/v1/chat/completions"),
    ("http://h:1/v1", "http://h:1/v1/chat/completions"), ("http://h:1/v1/", "http://h:1/v1/chat/completions"),
    ("http://[::1]:8080/v1", "http://[::1]:8080/v1/chat/completions"),
    ("https://h/v1beta/openai", "https://h/v1beta/openai/chat/completions"),
    ("https://h/proxy", "https://h/proxy/chat/completions"),
    ("https://h/v1/chat/completions", "https://h/v1/chat/completions"),
    ("https://h/a/chat/completions/", "https://h/a/chat/completions"),
    ("HTTPS://H/openai?api-version=1", "HTTPS://H/openai/chat/completions?api-version=1"),
    (
      "https://h/openai/deployments/x/chat/completions?api-version=2024-10-21&a=/b?c",
      "https://h/openai/deployments/x/chat/completions?api-version=2024-10-21&a=/b?c"
    ),
    ("http://h?a=1", "http://h/v1/chat/completions?a=1"), ("http://h/?", "http://h/v1/chat/completions"),
  ])
  func endpoints(_ text: String, _ endpoint: String) { #expect(JudgeURL(text)?.endpoint == endpoint) }

  @Test(arguments: ["h:1", "ftp://h", "http://", "http://u:p@h", "http://h#f", "", "http://a b", "http://h/a b"])
  func refused(_ text: String) { #expect(JudgeURL(text) == nil) }

  /// Queries may hold keys; judgements of before are known by what was the URL then.
  @Test func names() {
    #expect(JudgeURL("https://h/x?key=secret").map { "\($0)" } == "https://h/x/chat/completions")
    #expect(JudgeURL("http://h:1/v1/")?.identity == "http://h:1" && JudgeURL("http://h:1")?.identity == "http://h:1")
    #expect(JudgeURL("https://h/p/v1")?.identity == "https://h/p")
    #expect(JudgeURL("https://h/p?v=1")?.identity == "https://h/p/chat/completions?v=1")
    #expect(JudgeURL("https://X.openai.azure.com/openai/v1")?.isAzure == true)
    #expect(JudgeURL("https://openai.azure.com.example.org")?.isAzure == false)
  }

  @Test func keys() throws {
    let environment = [
      "FUSIONROUTE_API_KEY": "fr-x", "OPENAI_API_KEY": "sk-x", "FUSIONROUTE_JUDGE_KEY": "jk-x",
    ]
    let (other, openAI) = (
      try JudgeOptions.parse(["--url", "https://h/v1"]), try JudgeOptions.parse(["--url", "https://API.openai.com/v1"])
    )
    #expect(other.timeout == 120)
    #expect(try other.key(environment: environment) == "jk-x" && openAI.key(environment: environment) == "jk-x")
    let own = environment.filter { $0.key != "FUSIONROUTE_JUDGE_KEY" }
    #expect(try other.key(environment: own) == nil && openAI.key(environment: own) == "sk-x")
    #expect(throws: FusionRouteError.self) { try other.key(environment: ["FUSIONROUTE_JUDGE_KEY": "two\nlines"]) }
    let file = FileManager.default.temporaryDirectory.appendingPathComponent("key-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: file) }
    try "# mine\n jk-y \n".write(toFile: file, atomically: true, encoding: .utf8)
    let named = try JudgeOptions.parse(["--url", "https://h/v1", "--api-key-file", file])
    #expect(try named.key(environment: environment) == "jk-y")
    #expect(throws: (any Error).self) { try JudgeOptions.parse([]) }
  }
}

@Suite struct JudgeRefusalTests {
  private func refusal(_ body: String, status: Int = 400) -> JudgeRefusal {
    JudgeRefusal(status: status, body: Array(body.utf8))
  }

  @Test(arguments: [
    (#"{"error":{"message":"no","type":"t","param":null,"code":400}}"#, "no"),
    (#"[{"error":{"code":400,"message":"no","status":"INVALID_ARGUMENT"}}]"#, "no"),
    (#"{"object":"error","message":"no","param":null,"code":400}"#, "no"), (#"{"error":"no"}"#, "no"),
    (#"{"detail":[{"loc":["body"],"msg":"no"}]}"#, #"[{"loc":["body"],"msg":"no"}]"#), ("no\nway", "no way"),
    (#"{"reason":"no"}"#, #"{"reason":"no"}"#), ("{}", "status 400"), ("", "status 400"), ("<html>", "status 400"),
  ])
  func words(_ body: String, _ said: String) { #expect(refusal(body).said == said) }

  @Test func formsFollowRefusals() {
    let tokens = refusal(
      #"{"error":{"message":"Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."}}"#)
    let temperature = refusal(#"{"error":{"message":"Only the default (1) value","param":"temperature"}}"#)
    #expect(JudgeForm().adapted(to: tokens) == .completionTokens)
    #expect(JudgeForm().adapted(to: temperature) == .noTemperature)
    #expect(JudgeForm.completionTokens.adapted(to: temperature) == [.completionTokens, .noTemperature])
    // Each once, and not for what only speaks of them.
    #expect(JudgeForm.completionTokens.adapted(to: tokens) == nil)
    #expect(JudgeForm().adapted(to: refusal(#"{"error":{"message":"'max_completion_tokens' is unknown"}}"#)) == nil)
    let long = refusal(
      #"{"error":{"message":"'max_tokens' is too large. The maximum context length is 9","param":"max_tokens"}}"#)
    #expect(JudgeForm().adapted(to: long) == nil && long.mayBeOfPrompt && !temperature.mayBeOfPrompt)
    #expect(JudgeForm().adapted(to: refusal(#"{"error":"temperature"}"#, status: 401)) == nil)
    #expect(refusal(#"{"error":{"message":"filtered","param":"prompt","code":"content_filter"}}"#).mayBeOfPrompt)
    #expect(!refusal(#"{"error":{"message":"no such model","param":"model"}}"#).mayBeOfPrompt)
    #expect(!refusal("{}", status: 404).mayBeOfPrompt && refusal("{}", status: 413).mayBeOfPrompt)
  }
}

/// `eval judge` against judges of many kinds.
@Suite(.serialized) struct EvalJudgeTests: EvalSuite {
  let models: ToyModels

  init() throws { models = try ToyModels.shared.get() }

  /// Members of a stub: writes down what it is asked, and replies.
  private static let members = """
    def note(self):
        asked = json.loads(self.body())
        key = self.headers.get("authorization") or self.headers.get("api-key")
        line = json.dumps({"path": self.path, "key": key, "fields": sorted(asked)})
        open(arguments[0], "a").write(line + "\\n")
        return asked
    def refuse(self, message, param=None, status=400):
        self.answer(status, json.dumps({"error": {"message": message, "type": "invalid_request_error", "param": param}}))
    def reply(self, content):
        self.answer(200, json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]}))

    """

  /// Answers of two methods to some questions, a judge over them, and what it wrote down.
  private struct Bench {
    var stub: StubService
    var log: String
    /// Without `--judge` and `--url`.
    var arguments: [String]

    /// - Parameter path: behind the stub's address.
    func judge(
      _ model: String = "m", path: String = "/v1", _ more: [String] = [], environment: [String: String] = [:]
    ) async throws -> Product.Result {
      let own = ["FUSIONROUTE_API_KEY": "fr-secret", "OPENAI_API_KEY": "sk-secret", "FUSIONROUTE_JUDGE_KEY": ""]
      return try await Product.run(
        arguments + ["--judge", model, "--url", stub.url + path] + more,
        environment: own.merging(environment) { $1 })
    }

    func asked() throws -> [[String: Any]] {
      let text = (try? String(contentsOfFile: log, encoding: .utf8)) ?? ""
      return try text.split(separator: "\n").map {
        try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
      }
    }
  }

  private func bench(_ name: String, pairs: Int, _ handler: String) async throws -> Bench {
    let (folder, log) = (models.path(name), models.path("\(name).log"))
    for file in [folder, log] { try? FileManager.default.removeItem(atPath: file) }
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    var lines = ""
    for index in 1...pairs {
      for method in ["fusionroute", "tuned"] {
        lines +=
          AnswerRecord(
            key: "\(method)\(index)", method: method, id: "p\(index)", task: "odd", text: "\(method) \(index)",
            grade: Grade(passed: true)
          ).line + "\n"
      }
    }
    _ = try write("\(name)/results.jsonl", lines)
    return Bench(
      stub: try await StubService.start(Self.members + handler, arguments: [log]), log: log,
      arguments: [
        "eval", "judge", try tasks("\(name)-tasks.jsonl", pairs), "--results", folder, "--against", "tuned",
        "--resamples", "200",
      ])
  }

  /// As OpenAI's reasoning models do, which think aloud elsewhere.
  @Test func modelsThatWantAnotherForm() async throws {
    let bench = try await bench(
      "judge-form", pairs: 2,
      """
      def do_POST(self):
          asked = self.note()
          named = asked["model"] == "named"
          if "max_tokens" in asked:
              text = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
              return self.refuse(text, "max_tokens" if named else None)
          if "temperature" in asked:
              text = "Unsupported value: 'temperature' does not support 0 with this model."
              return self.refuse("Only the default (1) value." if named else text, "temperature" if named else None)
          assert asked["max_completion_tokens"] == 77
          self.reply("\\n<think>\\n1 or 2?\\n</think>\\n\\n8 6\\nbecause")
      """)
    defer { bench.stub.stop() }
    let fields = [
      ["max_tokens", "messages", "model", "temperature"],
      ["max_completion_tokens", "messages", "model", "temperature"],
    ]
    // Both orders of two pairs, and each parameter refused once.
    let all = fields + Array(repeating: ["max_completion_tokens", "messages", "model"], count: 4)
    for (round, model) in ["named", "told"].enumerated() {
      let result = try await bench.judge(
        model, path: "/openai/deployments/x/chat/completions?api-version=2024-10-21",
        ["--parallel", "1", "--max-tokens", "77"], environment: ["FUSIONROUTE_JUDGE_KEY": "jk-1"])
      #expect(result.code == 0 && result.output.contains("0 won, 2 tied, 0 lost"), "\(result)")
      let asked = Array(try bench.asked().dropFirst(6 * round))
      #expect(asked.map { $0["fields"] as? [String] ?? [] } == all)
      #expect(
        asked.allSatisfy {
          $0["path"] as? String == "/openai/deployments/x/chat/completions?api-version=2024-10-21"
            && $0["key"] as? String == "Bearer jk-1"
        })
    }
  }

  /// Its own words, not that it writes no scores; what may be one pair's affair only after some.
  @Test func refusalsEndTheRun() async throws {
    let bench = try await bench(
      "judge-refusals", pairs: 12,
      """
      def do_POST(self):
          model = self.note()["model"]
          if model == "absent": return self.refuse("the model is not there", status=404)
          if model == "denied": return self.refuse("not yours", status=403)
          if model == "member": return self.refuse("bad model", "model")
          if model == "small": return self.refuse("at most 9 of them", "max_tokens")
          if model == "moved":
              self.send_response(308)
              self.send_header("location", "http://elsewhere.invalid/v1")
              self.send_header("content-length", "0")
              return self.end_headers()
          if model == "other": return self.answer(200, '{"error": {"message": "credits used up"}}')
          self.refuse("this is \\x1b[31mnothing for me")
      """)
    defer { bench.stub.stop() }
    var count = 0
    for (model, code, word, requests) in [
      ("absent", Int32(65), "the model is not there; check --url and --judge", 1), ("denied", 65, "not yours", 1),
      ("member", 65, "bad model", 1), ("small", 65, "at most 9 of them", 2),
      ("moved", 69, "http://elsewhere.invalid/v1", 1), ("other", 69, "credits used up", 1),
      ("nothing", 65, "refused 5 of 12 pairs; p1: this is \u{FFFD}[31mnothing for me", 5),
    ] {
      let result = try await bench.judge(model, ["--parallel", "1"])
      #expect(result.code == code && result.output.isEmpty, "\(model): \(result)")
      #expect(result.errors.contains(word) && result.errors.contains("the judge at \(bench.stub.url)/v1/"), "\(result)")
      #expect(!result.errors.contains("two scores") && !result.errors.contains("fusionroute up"), "\(result)")
      let asked = try bench.asked()
      #expect(asked.count - count == requests, "\(model)")
      count = asked.count
    }
  }

  /// Other keys of the environment are not the judge's.
  @Test func keysOfOthersStayHere() async throws {
    let bench = try await bench(
      "judge-keys", pairs: 1,
      """
      def do_POST(self):
          self.note()
          if self.headers.get("authorization") == "Bearer jk-1": return self.reply("8 9")
          self.refuse("who are you?", status=401)
      """)
    defer { bench.stub.stop() }
    let none = try await bench.judge()
    #expect(none.code == 65 && none.errors.contains("FUSIONROUTE_JUDGE_KEY"), "\(none)")
    let wrong = try await bench.judge(environment: ["FUSIONROUTE_JUDGE_KEY": "jk-2"])
    #expect(wrong.code == 65 && wrong.errors.contains("does not accept the API key: who are you?"), "\(wrong)")
    let right = try await bench.judge(environment: ["FUSIONROUTE_JUDGE_KEY": "jk-1"])
    #expect(right.code == 0, "\(right)")
    let keys = try bench.asked().map { $0["key"] as? String }
    #expect(keys == [nil, "Bearer jk-2", "Bearer jk-1", "Bearer jk-1"])
    let missing = try await Product.run(bench.arguments + ["--judge", "m"])
    #expect(missing.code == 64 && missing.errors.contains("--url"), "\(missing)")
  }

  /// What may pass is asked again, and said; a judge that never answers does not hold the run.
  @Test func judgesThatDoNotAnswer() async throws {
    let bench = try await bench(
      "judge-silent", pairs: 1,
      """
      states = [503, None]
      def do_POST(self):
          model = self.note()["model"]
          if model == "silent": threading.Event().wait(120)
          state = self.states.pop(0) if self.states else 200
          if state is None:
              self.close_connection = True
              return
          self.reply("8 9") if state == 200 else self.answer(state, "{}")
      """)
    defer { bench.stub.stop() }
    let passing = try await bench.judge()
    #expect(passing.code == 0, "\(passing)")
    #expect(passing.errors.contains("status 503; asked again in 1 s"), "\(passing.errors)")
    #expect(passing.errors.contains("it closed the connection; asked again in 1 s"), "\(passing.errors)")
    #expect(try bench.asked().count == 4)
    let silent = try await bench.judge("silent", ["--timeout", "2"])
    #expect(silent.code == 69 && silent.errors.contains("within 2 s, asked 4 times"), "\(silent)")
    #expect(silent.errors.components(separatedBy: "did not answer within 2 s; asked again").count == 4, "\(silent)")
    #expect(try bench.asked().count == 8)
    for timeout in ["0", "3601", "x"] {
      #expect(try await bench.judge("silent", ["--timeout", timeout]).code == 64)
    }
    let gone = try await Product.run(bench.arguments + ["--judge", "m2", "--url", "http://127.0.0.1:1"])
    #expect(gone.code == 69 && gone.errors.contains("nothing listens there; check --url"), "\(gone)")
    #expect(!gone.errors.contains("fusionroute up"), "\(gone)")
  }
}

import Core
import Foundation
import ModelFiles
import Testing

@testable import fusionroute

/// Clients of one service: `generate`, the chat, `status`, `replay`.
@Suite(.serialized) struct GenerateTests {
  let models: ToyModels

  init() throws { models = try ToyModels.shared.get() }

  /// Keys of objects and types of values; numbers of a list's elements do not matter.
  private func shape(_ value: Any) -> String {
    switch value {
    case let object as [String: Any]:
      "{" + object.sorted { $0.key < $1.key }.map { "\($0.key):\(shape($0.value))" }.joined(separator: ",") + "}"
    case let list as [Any]: "[\(list.first.map(shape) ?? "")]"
    case is String: "text"
    case is NSNumber: "number"
    default: "null"
    }
  }

  /// The same prompt, seed and options give the same text and the same object as `run`.
  @Test func sameAsRun() async throws {
    let cases: [[String]] = [
      ["--prompt", "Hello there", "--max-tokens", "24"],
      ["--prompt", "Hello there", "--max-tokens", "24", "--raw", "--mode", "no-complement"],
      ["--prompt", "<s>Hello</s>", "--max-tokens", "12", "--raw", "--mode", "router"],
      ["--prompt", "Some words", "--max-tokens", "24", "--temperature", "1.3", "--seed", "18446744073709551615"],
      ["--prompt", "Some words", "--max-tokens", "24", "--temperature", "0.8", "--seed", "7", "--top-p", "0.9"],
      ["--prompt", "é 🙂", "--max-tokens", "16", "--mode", "expert:bee", "--repetition-penalty", "1.2"],
      ["--prompt", "x", "--max-tokens", "0"],
      ["--prompt", "one", "--prompt", "two", "--max-tokens", "8"],
    ]
    let more = try models.withoutEnd()
    try await models.withService("same") { service in
      for options in cases {
        let here = try await Product.run(["run", "-c", try models.cluster("same2")] + options + more)
        let there = try await Product.run(["generate", "--url", service.url] + options + more)
        #expect(there.code == 0 && here.code == 0, "\(options): \(there.errors) \(here.errors)")
        #expect(there.output == here.output, "\(options)")
      }
      let options = ["--prompt", "Hello there", "--max-tokens", "24", "--format", "json"] + more
      let here = try await Product.run(["run", "-c", try models.cluster("same2")] + options)
      let there = try await Product.run(["generate", "--url", service.url] + options)
      let answers = try [here, there].map { try #require(try AnswerObject.list($0.output).first) }
      #expect(answers[0].prompt_tokens == answers[1].prompt_tokens)
      #expect(answers[0].tokens.map(\.id) == answers[1].tokens.map(\.id))
      #expect(answers[0].tokens.map(\.expert) == answers[1].tokens.map(\.expert))
      #expect(answers[0].tokens.map(\.logit) == answers[1].tokens.map(\.logit))
      #expect(answers[0].text == answers[1].text && answers[0].finish_reason == answers[1].finish_reason)
      let shapes = try [here, there].map {
        shape(try JSONSerialization.jsonObject(with: Data($0.output.utf8)))
      }
      #expect(shapes[0] == shapes[1])
    }
  }

  /// A router without a chat template continues a text, as with `run`; a service that does not say is asked in a chat.
  @Test func withoutChatTemplate() async throws {
    var recipe = ToyModels.recipe
    recipe.chatTemplate = false
    try ModelMaker.make(recipe, to: models.path("plain.gguf"))
    let options = ["--prompt", "<s>Hello there", "--max-tokens", "12", "--format", "json"] + (try models.withoutEnd())
    let alone = try await Product.run(["run", "-c", try models.cluster("plain2", router: "plain.gguf")] + options)
    let here = try #require(try AnswerObject.list(alone.output).first, "\(alone.errors)")
    try await models.withService("plain", router: "plain.gguf") { service in
      let result = try await Product.run(["generate", "--url", service.url] + options)
      let there = try #require(try AnswerObject.list(result.output).first, "\(result.errors)")
      #expect(result.code == 0 && there.prompt_tokens == here.prompt_tokens, "\(result.errors)")
      #expect(there.text == here.text && there.tokens.map(\.id) == here.tokens.map(\.id))
    }
    try await models.withService("older") { service in
      let older = try await StubService.start(
        """
        def forward(self, data=None):
            if self.path == "/tokenizer_info": return self.answer(404, "no such page", "text/plain")
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            request = urllib.request.Request(arguments[0] + self.path, data, {"content-type": "application/json"})
            with opener.open(request) as response:
                self.answer(response.status, response.read().decode(), response.headers["content-type"])
        def do_GET(self): self.forward()
        def do_POST(self): self.forward(self.body())
        """, arguments: [service.url])
      defer { older.stop() }
      let direct = try await Product.run(["generate", "--url", service.url] + options)
      let through = try await Product.run(["generate", "--url", older.url] + options)
      let answers = try [direct, through].map { try #require(try AnswerObject.list($0.output).first, "\($0.errors)") }
      #expect(through.code == 0 && answers[1].prompt_tokens == answers[0].prompt_tokens, "\(through.errors)")
      #expect(answers[1].text == answers[0].text)
    }
  }

  @Test func promptsFromStdin() async throws {
    let lines = ["one", "{\"prompt\":\"two\",\"max_tokens\":3}", "{\"promt\":\"x\"}", "{\"tokens\":[5,6,7]}"]
    try await models.withService("stdin") { service in
      let result = try await Product.run(
        ["generate", "--url", service.url, "--format", "json", "--max-tokens", "6"] + (try models.withoutEnd()),
        input: lines.joined(separator: "\n"))
      #expect(result.code == 65)
      let answers = try AnswerObject.list(result.output)
      #expect(answers.map(\.finish_reason) == ["length", "length", "error", "length"])
      #expect(answers.map { $0.tokens.count } == [6, 3, 0, 6] && answers[3].prompt_tokens == [5, 6, 7])
    }
  }

  @Test func keysAndErrors() async throws {
    let file = models.path("api-keys")
    let key = try await Product.run(["keys", "api", "add", "tester", "--file", file]).output
      .trimmingCharacters(in: .newlines)
    let keyFile = models.path("my-key")
    try (key + "\n").write(toFile: keyFile, atomically: true, encoding: .utf8)
    try await models.withService("keyed", more: "gateway: { api_keys: api-keys }") { service in
      let arguments = ["generate", "--url", service.url, "--prompt", "x", "--max-tokens", "4"]
      let none = try await Product.run(arguments, environment: ["FUSIONROUTE_API_KEY": ""])
      #expect(none.code == 65 && none.errors.contains("wants an API key: set FUSIONROUTE_API_KEY"), "\(none.errors)")
      let wrong = try await Product.run(arguments, environment: ["FUSIONROUTE_API_KEY": "fr-wrong"])
      #expect(wrong.code == 65 && wrong.errors.contains("does not accept the API key"), "\(wrong.errors)")
      let right = try await Product.run(arguments, environment: ["FUSIONROUTE_API_KEY": key])
      #expect(right.code == 0, "\(right.errors)")
      #expect(try await Product.run(arguments + ["--api-key-file", keyFile]).output == right.output)
      #expect(try await Product.run(["status", "--url", service.url, "--api-key-file", keyFile]).code == 0)
      #expect(try await Product.run(["status", "--url", service.url]).code == 65)
      let expert = try await Product.run(arguments + ["--mode", "expert:dog", "--api-key-file", keyFile])
      #expect(expert.code == 65 && expert.errors.contains("fusionroute:expert:dog"), "\(expert.errors)")
      let long = try await Product.run(
        arguments + ["--api-key-file", keyFile, "--prompt", String(repeating: "word ", count: 9000)])
      #expect(long.code == 65 && long.errors.contains("context"), "\(long.errors)")
      // A revoked key is out at once.
      #expect(try await Product.run(["keys", "api", "revoke", "tester", "--file", file]).code == 0)
      #expect(try await Product.run(arguments + ["--api-key-file", keyFile]).code == 65)
    }
    let gone = try await Product.run(["generate", "--url", "http://127.0.0.1:9", "--prompt", "x"])
    #expect(
      gone.code == 69
        && gone.errors == "error: cannot reach http://127.0.0.1:9: nothing listens there; `fusionroute up` starts a "
          + "service\n",
      "\(gone.errors)")
    #expect(try await Product.run(["generate", "--url", "127.0.0.1:9", "--prompt", "x"]).code == 64)
  }

  /// A full queue is waited for, and a service without workers is not.
  @Test func busyAndUnavailable() async throws {
    let more = try models.withoutEnd()
    try await models.withService("busy", more: "gateway: { queue_limit: 0 }") { service in
      let arguments = ["generate", "--url", service.url, "--prompt", "Tell me", "--max-tokens"]
      let long = try (0..<3).map { _ in try Product.Running(arguments + ["4000"] + more) }
      for client in long { try await client.wait("the first text") { !client.outputSoFar.isEmpty } }
      let client = try Product.Running(arguments + ["4"] + more)
      try await client.wait("the refusal") { client.errorsSoFar.contains("The service is busy: trying again in") }
      for other in long { other.send(SIGTERM) }
      for other in long { #expect(try await other.result().code == 130) }
      let result = try await client.result()
      #expect(result.code == 0 && !result.output.isEmpty, "\(result.errors)")
    }
    let file = try models.cluster(
      "empty", more: "listen: { workers: \"ipc://empty.sock\", http: \"127.0.0.1:*\" }\nexpert_wait: 100ms")
    let service = try await RunningService.start(["coordinator", "-c", file])
    let result = try await Product.run(["generate", "--url", service.url, "--prompt", "x"] + more)
    #expect(result.code == 69 && result.errors.contains("cannot answer now: "), "\(result.errors)")
    _ = try await service.stop()
  }

  /// With a certificate that only `--ca-file` trusts.
  @Test func encrypted() async throws {
    let made = try await Product.Running(
      [
        "-c",
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test "
          + "-addext subjectAltName=IP:127.0.0.1 -keyout \"$0/key.pem\" -out \"$0/cert.pem\" 2>&1", models.folder.path,
      ], executable: "/bin/sh"
    ).result()
    try #require(made.code == 0, "\(made.output)")
    try await models.withService("tls", more: "gateway: { tls_certificate: cert.pem, tls_key: key.pem }") { service in
      #expect(service.process.outputSoFar.hasPrefix("page  https://127.0.0.1:"))
      let url = service.url.replacing("http://", with: "https://")
      let arguments = ["--url", url, "--ca-file", models.path("cert.pem")]
      let answer = try await Product.run(["generate", "--prompt", "x", "--max-tokens", "4"] + arguments)
      #expect(answer.code == 0 && !answer.output.isEmpty, "\(answer.errors)")
      #expect(try await Product.run(["status"] + arguments).code == 0)
      let strange = try await Product.run(["status", "--url", url])
      #expect(strange.code == 69 && strange.errors.contains("TLS certificate is not trusted"), "\(strange.errors)")
      let plain = try await Product.run(["status", "--url", service.url])
      #expect(plain.code == 69 && plain.errors.contains("cannot reach"), "\(plain.errors)")
    }
    #expect(try await Product.run(["status", "--ca-file", models.path("none.pem")]).code == 65)
  }

  /// History, its commands, and Ctrl-C that stops an answer, in a terminal.
  @Test func chat() async throws {
    let saved = models.path("talk.json")
    try await models.withService("chat") { service in
      let arguments = ["generate", "--url", service.url, "--max-tokens", "6"] + (try models.withoutEnd())
      let talk = try await Terminal.run(
        arguments,
        steps: [
          ("❯ ", "One\n"), ("tokens/s", "Two\\\n"), ("… ", "and more\n"), ("tokens/s", "/save \(saved)\n"),
          ("written to", "/mode expert:bee\n"), ("expert:bee decides", "/undo\n"), ("taken back", "Three\n"),
          ("100 %", "/nonsense\n"), ("no command", "\u{4}"),
        ])
      #expect(talk.code == 0, "\(talk.shown)")
      let text = try String(contentsOfFile: saved, encoding: .utf8)
      let object = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
      let messages = try #require(object["messages"] as? [[String: String]])
      #expect(messages.map { $0["role"] } == ["user", "assistant", "user", "assistant"])
      #expect(messages[0]["content"] == "One" && messages[2]["content"] == "Two\nand more")
      // Each answer is the one that the whole conversation before it gets.
      for count in [1, 3] {
        let prompt = JSONText.object([
          (
            "messages",
            .array(
              messages.prefix(count).map {
                .object([("role", .text($0["role"] ?? "")), ("content", .text($0["content"] ?? ""))])
              })
          )
        ]).rendered
        let alone = try await Product.run(arguments + ["--format", "json"], input: prompt + "\n")
        #expect(try AnswerObject.list(alone.output).first?.text == messages[count]["content"])
      }
      let stopped = try await Terminal.run(
        arguments + ["--max-tokens", "3000"],
        steps: [
          ("❯ ", "Long\n"), ("\u{1B}[38;5;", "\u{3}"), ("Stopped.", "/quit\n"),
        ])
      #expect(stopped.code == 0, "\(stopped.shown.suffix(500))")
      let twice = try await Terminal.run(arguments, steps: [("❯ ", "\u{3}"), ("once more", "\u{3}")])
      #expect(twice.code == 130 && twice.shown.contains("interrupted"), "\(twice.shown)")
    }
  }

  @Test func status() async throws {
    try await models.withService("status") { service in
      _ = try await Product.run(["generate", "--url", service.url, "--prompt", "x", "--max-tokens", "8"])
      let table = try await Product.run(["status", "--url", service.url])
      #expect(table.code == 0 && table.errors.isEmpty)
      for word in ["ready", "router.gguf", "ant", "bee", "cat", "serving", "1 done", "KV tokens"] {
        #expect(table.output.contains(word), "\(word): \(table.output)")
      }
      let pids = Product.workers(dialling: "status.sock")
      #expect(pids.count == 3 && pids.allSatisfy { table.output.contains("(\($0))") })
      let object = try await Product.run(["status", "--url", service.url, "--format", "json"])
      let fields = try #require(
        try JSONSerialization.jsonObject(with: Data(object.output.utf8)) as? [String: Any])
      #expect(fields["ready"] as? Bool == true && object.output.filter(\.isNewline).count == 1)
      let watched = try await Terminal.run(
        ["status", "--url", service.url, "--watch"], steps: [("per s", ""), ("per s", "\u{3}")])
      #expect(watched.code == 130)
      #expect(watched.shown.contains("\u{1B}[?1049h") && watched.shown.contains("\u{1B}[?1049l"))
    }
    for format in ["text", "json"] {
      let gone = try await Product.run(["status", "--url", "http://127.0.0.1:9", "--watch", "--format", format])
      #expect(gone.code == 69 && gone.output.isEmpty && gone.errors.contains("nothing listens there"))
    }
  }

  /// A service that goes away while its objects are watched is waited for, and that is said once.
  @Test func watchedObjectsGoOn() async throws {
    let stub = try await StubService.start(
      """
      count = 0
      def do_GET(self):
          Handler.count += 1
          if Handler.count == 2: return
          if Handler.count == 3: return self.answer(503, "{}")
          self.answer(200, arguments[0])
      """, arguments: [StatusViewTests.json])
    defer { stub.stop() }
    let watching = try Product.Running(["status", "--url", stub.url, "--watch", "--format", "json"])
    try await watching.wait("an object after the gap") { watching.outputSoFar.filter(\.isNewline).count >= 2 }
    watching.send(SIGINT)
    let result = try await watching.result()
    #expect(result.code == 130 && result.errors.components(separatedBy: "waiting for it").count == 2, "\(result)")
    for line in result.output.split(separator: "\n") {
      let object = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
      #expect(object?["version"] as? String == "0.1.0")
    }
  }

  @Test func replay() async throws {
    let log = models.path("requests.jsonl")
    let cluster = try await models.withService("log", more: "gateway: { request_log: requests.jsonl }") { service in
      for body in [
        #"{"messages":[{"role":"user","content":"Hello"}],"max_tokens":12,"temperature":1.2,"n":2}"#,
        #"{"prompt":["a b","c"],"max_tokens":8,"stream":true,"seed":null}"#,
        #"{"prompt":"x","max_tokens":0,"echo":true,"logprobs":1}"#,
      ] {
        let path = body.contains("messages") ? "/v1/chat/completions" : "/v1/completions"
        #expect(try await service.fetch(path, json: body).status == 200)
      }
      let same = try await Product.run(["replay", log, "--url", service.url])
      // What is asked again is appended to the very log that is read.
      #expect(same.code == 0 && same.errors.hasPrefix("3 requests, 3 the same"), "\(same)")
      return try models.cluster("log2")
    }
    let lines = try String(contentsOfFile: log, encoding: .utf8).split(separator: "\n").prefix(3).map(String.init)
    try (lines.joined(separator: "\n") + "\n").write(toFile: log, atomically: true, encoding: .utf8)
    let fresh = try await Product.run(["replay", log, "-c", cluster, "--format", "json"])
    #expect(fresh.code == 0 && fresh.output.filter(\.isNewline).count == 3, "\(fresh)")
    // One token changed, a line that is none, and a body that was left out.
    try #require(lines.count == 3)
    let first = try #require(lines[0].firstMatch(of: /"tokens":\[(\d+),/))
    var changed = lines
    changed[0].replaceSubrange(first.1.startIndex..<first.1.endIndex, with: first.1 == "7" ? "8" : "7")
    changed.append("{\"no\":1}")
    changed.append(lines[1].replacing(/"body":\{.*?\},"body_bytes"/, with: "\"body\":null,\"body_bytes\""))
    try changed.joined(separator: "\n").write(toFile: log, atomically: true, encoding: .utf8)
    let other = try await Product.run(["replay", log, "-c", cluster])
    #expect(other.code == 70, "\(other)")
    #expect(other.errors.contains("5 requests, 2 the same, 1 different, 1 failed, 1 left out"), "\(other.errors)")
    #expect(
      other.output.contains("token 1 of 12: ") && other.output.contains("line 4: this is no line"), "\(other.output)")
    #expect(try await Product.run(["replay", "/no/such", "-c", cluster]).code == 65)
    // What is no file to read twice.
    for log in [models.folder.path, "/dev/stdin"] {
      let none = try await Product.run(["replay", log, "--url", "http://127.0.0.1:1"], input: "{}\n")
      #expect(none.code == 65 && none.errors.contains("\(log) is no regular file"), "\(none)")
    }
    for option in [["--url", "http://127.0.0.1:1"], ["--api-key-file", "key"], ["--ca-file", "ca"]] {
      #expect(try await Product.run(["replay", log, "-c", cluster] + option).code == 64, "\(option)")
    }
  }
}

import Core
import Foundation
import Fusion
import Inference
import Testing

@testable import fusionroute

@Suite struct ServiceURLTests {
  @Test func routes() throws {
    for text in ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"] {
      #expect(try #require(ServiceURL(text)).route("/ready") == "http://h:1/ready")
    }
    #expect(ServiceURL("https://h/proxy/v1")?.route("/ready") == "https://h/proxy/ready")
    #expect(ServiceURL("http://[::1]:8080")?.route("/") == "http://[::1]:8080/")
  }

  @Test(arguments: ["h:1", "ftp://h", "http://", "http://u:p@h", "http://h?x=1", "http://h#f", "", "http://a b"])
  func refused(_ text: String) { #expect(ServiceURL(text) == nil) }

  @Test func keys() throws {
    let none = try ServiceOptions.parse([])
    #expect(none.url.description == "http://127.0.0.1:8080")
    #expect(try none.key(environment: [:]) == nil)
    #expect(try none.key(environment: ["FUSIONROUTE_API_KEY": "fr-x"]) == "fr-x")
    #expect(throws: FusionRouteError.self) { try none.key(environment: ["FUSIONROUTE_API_KEY": "two\nlines"]) }
    let file = FileManager.default.temporaryDirectory.appendingPathComponent("key-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: file) }
    let named = try ServiceOptions.parse(["--api-key-file", file])
    #expect(throws: FusionRouteError.self) { try named.key(environment: ["FUSIONROUTE_API_KEY": "fr-x"]) }
    try "# mine\n fr-y \n".write(toFile: file, atomically: true, encoding: .utf8)
    #expect(try named.key(environment: ["FUSIONROUTE_API_KEY": "fr-x"]) == "fr-y")
    try "a\nb\n".write(toFile: file, atomically: true, encoding: .utf8)
    #expect(throws: FusionRouteError.self) { try named.key(environment: [:]) }
  }
}

@Suite struct ServiceErrorTests {
  private let url = ServiceURL("http://h:1")

  private func error(_ status: Int, _ body: String = "", hasKey: Bool = false) throws -> FusionRouteError {
    ServiceError.answered(status, body: Array(body.utf8), url: try #require(url), hasKey: hasKey)
  }

  @Test func statuses() throws {
    let told = #"{"error":{"message":"the field \"x\"\nis wrong","type":"t","param":null,"code":null}}"#
    #expect(try error(400, told).code == .badInput)
    #expect(try error(400, told).message == "http://h:1 refused the request: the field \"x\" is wrong")
    #expect(try error(401).message.contains("FUSIONROUTE_API_KEY"))
    #expect(try error(401, hasKey: true).message.contains("wrong or was revoked"))
    #expect(try error(404).message.contains("no FusionRoute service"))
    #expect(try error(404, told).code == .badInput)
    #expect(try error(429, told).code == .overloaded)
    #expect(try error(503, told).code == .unavailable && error(504).code == .deadlineExceeded)
    #expect(try error(500, "<html>").code == .internal)
    #expect(try error(413).message.contains("413"))
  }

  @Test func errorsInStreams() throws {
    let url = try #require(url)
    #expect(ServiceError.inStream(#"{"choices":[],"text":"\"error\""}"#, url: url) == nil)
    let gone = ServiceError.inStream(#"{"error":{"message":"bye","code":"shutting_down"}}"#, url: url)
    #expect(gone?.code == .unavailable && gone?.message.hasSuffix("bye") == true)
    #expect(
      ServiceError.inStream(#"{"error":{"message":"x","code":"deadline_exceeded"}}"#, url: url)?.code
        == .deadlineExceeded)
  }

  @Test func waits() {
    func wait(_ header: String?, spent: Int = 0) -> Duration? {
      RetryAfter.wait(header, spent: .seconds(spent), limit: .seconds(60))
    }
    #expect(wait("5") == .seconds(5) && wait("0") == .seconds(1) && wait(" 60") == .seconds(60))
    #expect(wait("61") == nil && wait("5", spent: 56) == nil && wait("5", spent: 55) == .seconds(5))
    #expect(wait(nil) == nil && wait("soon") == nil && wait("-1") == nil && wait("99999999999999999999") == nil)
    let seconds = (0..<6).map { RetryAfter.backoff(tries: $0)?.components.seconds }
    #expect(seconds == [1, 2, 4, 8, 16, nil])
  }
}

@Suite struct ServiceClientTests {
  /// What may be asked twice is asked again where a service fails for a moment; nothing else is.
  @Test func momentsOfFailurePass() async throws {
    let stub = try await StubService.start(
      """
      statuses = [500, 503, 200, 400]
      def do_POST(self):
          self.body()
          self.answer(self.statuses.pop(0), "{}")
      """)
    defer { stub.stop() }
    let options = try ServiceOptions.parse(["--url", stub.url])
    try await ServiceClient.with(options) { client in
      let once = await #expect(throws: FusionRouteError.self) {
        _ = try await client.post("/v1/completions", Array("{}".utf8))
      }
      #expect(once?.code == .internal)
      let body = try await client.post("/v1/completions", Array("{}".utf8), isRepeatable: true)
      #expect(String(decoding: body, as: UTF8.self) == "{}")
      let refused = await #expect(throws: FusionRouteError.self) {
        _ = try await client.post("/v1/completions", Array("{}".utf8), isRepeatable: true)
      }
      #expect(refused?.code == .badInput)
    }
  }

  /// A whole answer may take longer than the silence after which a service counts as gone.
  @Test func wholeAnswersAreWaitedFor() async throws {
    let stub = try await StubService.start(
      """
      asked, released = threading.Event(), threading.Event()
      def do_POST(self):
          self.body()
          if self.path == "/v1/completions": self.asked.set()
          self.released.wait(120)
          self.answer(200, "{}")
      def do_GET(self):
          if self.path == "/release": self.released.set()
          self.answer(200 if self.asked.is_set() else 404, "{}")
      """)
    defer { stub.stop() }
    let options = try ServiceOptions.parse(["--url", stub.url])
    try await ServiceClient.with(options, silence: .seconds(1)) { client in
      async let answer = client.post("/v1/completions", Array("{}".utf8))
      for _ in 0..<2_000 {
        if (try? await client.get("/asked")) != nil { break }
        try await Task.sleep(for: .milliseconds(10))
      }
      // The silence passes once more, with another request that is never answered.
      let gone = await #expect(throws: FusionRouteError.self) {
        _ = try await client.post("/tokenize", Array("{}".utf8))
      }
      #expect(gone?.code == .unavailable)
      // It is released even if this is answered late.
      _ = try? await client.get("/release")
      let body = try await answer
      #expect(String(decoding: body, as: UTF8.self) == "{}")
    }
  }
}

@Suite struct AnswerReaderTests {
  private func chunk(_ text: String) throws -> AnswerChunk {
    try JSONDecoder().decode(AnswerChunk.self, from: Data(text.utf8))
  }

  @Test func tokensTextAndNumbers() throws {
    var reader = AnswerReader()
    var answer = Answer()
    let chunks = [
      #"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}"#,
      #"""
      {"choices":[{"index":0,"delta":{"content":"Hi e\u0301"},"finish_reason":null,"fusionroute":{"tokens":[
        {"id":3,"text":"Hi","expert":"a","logit":1.5,"router_logit":1,"weights":[1,2],"degraded":false},
        {"id":4,"text":" e\u0301","expert":"b","logit":null,"degraded":true}]}}]}
      """#,
      #"{"choices":[{"index":0,"delta":{"content":"!?"},"finish_reason":null}]}"#,
      #"{"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}"#,
    ]
    for text in chunks { for event in reader.add(try chunk(text)) { answer.add(event) } }
    #expect(reader.summary == nil, "complete before its last chunk")
    let last = #"""
      {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9},"fusionroute":{
       "timing":{"queued_ms":0,"prefill_ms":12.5,"decode_ms":3,"tokens_per_second":1,"split_us":{"wire":4}},
       "tokens_per_expert":{"a_b":1,"b":1},"evaluated_tokens":{"router":9},
       "certification":{"decided_by_top_k":{"32":2},"full_rows":0,"row_bytes":516},"failovers":1,"request_id":"r"}}
      """#
    let events = reader.add(try chunk(last))
    #expect(events.isEmpty)
    let summary = try #require(reader.summary)
    answer.add(.finished(summary))
    #expect(answer.tokens.map(\.id) == [3, 4] && answer.tokens.map(\.expert) == ["a", "b"])
    #expect(answer.tokens.map(\.degraded) == [false, true] && answer.tokens[1].logit.isNaN)
    #expect(answer.text == "Hi e\u{301}!?" && summary.trailingText == "!?")
    #expect(summary.tokensPerExpert == ["a_b": 1, "b": 1] && summary.evaluatedTokens == ["router": 9])
    #expect(summary.prefill == .milliseconds(12.5) && summary.split.wire == 4 && summary.failovers == 1)
    #expect(summary.certification == .init(decidedByTopK: ["32": 2], fullRows: 0, rowBytes: 516))
    #expect(summary.finishReason == "length" && summary.promptTokens == 7 && summary.generatedTokens == 2)
  }

  /// What is asked of the service says the same as the options.
  @Test func fieldsOfRequests() throws {
    let options = try GenerationOptions.parse([
      "--temperature", "0.7", "--seed", "18446744073709551615", "--mode", "expert:a", "--logit-bias", "5=-inf",
      "--logit-bias", "3=0.5", "--stop", "x", "--fanout", "all", "--max-tokens", "9",
    ])
    var prompt = Prompt(label: nil, content: .text("x"))
    prompt.sampling.topP = 0.5
    let text = JSONText.object(RemoteAnswerer.fields(prompt, options: options)).rendered
    let fields = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    #expect(fields["model"] as? String == "fusionroute:expert:a" && fields["max_tokens"] as? Int == 9)
    #expect(fields["temperature"] as? Double == 0.7 && fields["top_p"] as? Double == 0.5)
    #expect(fields["seed"] as? Int == -1 && fields["stop"] as? [String] == ["x"])
    #expect(fields["logit_bias"] as? [String: Double] == ["3": 0.5, "5": -1_000_000])
    #expect(fields["fusionroute"] as? [String: String] == ["fanout": "all"])
    #expect(RemoteAnswerer.model(.fusion) == "fusionroute" && RemoteAnswerer.model(.router) == "fusionroute:router")
    #expect(RemoteAnswerer.model(.noComplement) == "fusionroute:no-complement")
  }
}

@Suite struct ConversationTests {
  private func input(_ line: String) -> ChatInput { ChatInput(line, experts: ["ant", "bee"]) }

  @Test func commands() {
    #expect(input("  hello ") == .question("  hello ") && input(" ") == .nothing)
    #expect(input("/new") == .new && input(" /undo ") == .undo && input("/help") == .help && input("/quit") == .quit)
    #expect(input("/mode") == .showMode && input("/mode router") == .mode(.router))
    #expect(input("/mode expert:bee") == .mode(.expert("bee")))
    #expect(input("/mode expert:dog") == .mistake("there is no expert \"dog\"; the experts are ant, bee"))
    #expect(input("/save my file.json") == .save("my file.json"))
    for line in ["/save", "/new now", "/nonsense", "/mode magic", "/"] {
      guard case .mistake = input(line) else {
        Issue.record("\(line) was taken")
        continue
      }
    }
  }

  @Test func history() {
    var talk = Conversation(mode: .fusion)
    let isEmpty = !talk.undo()
    #expect(isEmpty)
    talk.add(question: "a", answer: "b")
    talk.add(question: "c", answer: "")
    talk.add(question: "d", answer: "e")
    let roles = { (prompt: Prompt) -> [String] in
      guard case .messages(let messages) = prompt.content else { return [] }
      return messages.map { "\($0.role):\($0.content)" }
    }
    #expect(roles(talk.asking("f")) == ["user:a", "assistant:b", "user:d", "assistant:e", "user:f"])
    let isUndone = talk.undo()
    #expect(isUndone)
    talk.mode = .router
    #expect(talk.asking("f").mode == .router)
    #expect(
      talk.json.rendered
        == #"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],"mode":"router"}"#)
    // What is saved is a prompt that the commands read.
    #expect(throws: Never.self) { try Prompt.line(Array(talk.json.rendered.utf8), number: 1) }
    talk.restart()
    #expect(roles(talk.asking("g")) == ["user:g"])
  }

  @Test func longLines() {
    var joiner = LineJoiner()
    let lines = ["one\\", "two\\", "three", "four"].map { joiner.add($0) }
    #expect(lines == [nil, nil, "one\ntwo\nthree", "four"] && !joiner.isContinuing)
    _ = joiner.add("five\\")
    #expect(joiner.isContinuing)
    joiner.clear()
    let line = joiner.add("six")
    #expect(line == "six")
  }
}

import Coordinator
import Core
import Foundation
import Fusion
import TestSupport
import Testing

/// Full queues, shutdown, lost experts, and what is written down.
@Suite(.serialized) struct LifeTests {
  static let long =
    #"{"prompt":"the","max_tokens":2000,"temperature":0,"logit_bias":{"2":-100,"260":-100},"stream":true}"#

  static func stream(_ gateway: TestGateway, _ body: String = long) async throws -> RawConnection {
    let connection = try RawConnection(port: gateway.port)
    connection.send(ConnectionTests.post(body, path: "/v1/completions"))
    #expect(await connection.read(until: "data: "))
    return connection
  }

  @Test("a full queue answers 429 with Retry-After, in a status of its own also for streams")
  func overload() async throws {
    try await withGateway(
      context: 2048, slots: 1,
      coordinator: {
        $0.queueLimit = 1
        $0.clientQueueLimit = 1
      }
    ) { gateway in
      let running = try await Self.stream(gateway)
      let waiting = try RawConnection(port: gateway.port)
      waiting.send(ConnectionTests.post(Self.long, path: "/v1/completions"))
      try await ConnectionTests.eventually { gateway.cluster.coordinator.status().requests.waiting == 1 }
      for stream in ["true", "false"] {
        let refused = try await gateway.post("/v1/completions", #"{"prompt":"a","max_tokens":1,"stream":\#(stream)}"#)
        #expect(refused.status == 429)
        #expect(refused.headers["retry-after"].flatMap { Int($0) }.map { $0 >= 1 } == true)
        #expect(try refused.string("error", "type") == "rate_limit_error")
        #expect(try refused.string("error", "code") == "rate_limit_exceeded")
      }
      // Of several answers one finds no place: the request is refused and nothing of it stays.
      let several = try await gateway.post("/v1/completions", #"{"prompt":"a","max_tokens":1,"n":5}"#)
      #expect(several.status == 429)
      #expect(gateway.cluster.coordinator.status().requests.waiting == 1)
      running.disconnect()
      waiting.disconnect()
      try await ConnectionTests.eventually { gateway.cluster.coordinator.status().requests.running == 0 }
      #expect(try await gateway.post("/v1/completions", #"{"prompt":"a","max_tokens":1}"#).status == 200)
    }
  }

  @Test("a waiting stream gets its head and comments, so that proxies keep it open")
  func keepAlive() async throws {
    try await withGateway(context: 2048, slots: 1, configure: { $0.keepAlive = .milliseconds(50) }) { gateway in
      let running = try await Self.stream(gateway)
      let waiting = try RawConnection(port: gateway.port)
      waiting.send(ConnectionTests.post(Self.long, path: "/v1/completions"))
      #expect(await waiting.read(until: ": waiting\n\n"))
      #expect(waiting.text.hasPrefix("HTTP/1.1 200 OK"))
      #expect(!waiting.text.contains("data:"))
      running.disconnect()
      #expect(await waiting.read(until: "data: "))
      waiting.disconnect()
    }
  }

  @Test("shutdown: not ready, no new requests, short answers end well, long ones with an error when their time is over")
  func shutdown() async throws {
    try await withGateway(context: 2048, configure: { $0.shutdownGrace = .seconds(1) }) { gateway in
      let idle = try RawConnection(port: gateway.port)
      idle.send(ConnectionTests.health)
      #expect(await idle.read(until: "ok"))
      let long = try await Self.stream(gateway)
      let whole = try RawConnection(port: gateway.port)
      whole.send(ConnectionTests.post(Self.long.replacing(#","stream":true"#, with: ""), path: "/v1/completions"))
      let short = try await Self.stream(gateway, #"{"prompt":"the","max_tokens":40,"stream":true}"#)
      try await ConnectionTests.eventually { gateway.cluster.coordinator.status().requests.running >= 2 }
      await gateway.group.triggerGracefulShutdown()
      try await ConnectionTests.eventually { try await gateway.get("/ready").status == 503 }
      let ready = try await gateway.get("/ready")
      #expect(try ready.string("reason")?.contains("shutting down") == true)
      #expect(try await gateway.get("/health").status == 200)
      let refused = try await gateway.post("/v1/completions", SecurityTests.completion)
      #expect(refused.status == 503 && refused.headers["retry-after"] != nil)
      #expect(try refused.string("error", "code") == "shutting_down")
      #expect(await short.read(until: "data: [DONE]"))
      let text = await long.readToEnd()
      #expect(text?.contains(#"data: {"error":{"message":"the server is shutting down"#) == true)
      #expect(text?.contains("[DONE]") == false)
      // The response itself ends as HTTP wants it.
      #expect(text?.hasSuffix("\r\n0\r\n\r\n") == true)
      let answer = await whole.readToEnd()
      #expect(answer?.hasPrefix("HTTP/1.1 503 ") == true && answer?.contains("shutting_down") == true)
      #expect(await idle.readToEnd() != nil, "an idle connection is closed")
      try await gateway.running.value
      try await ConnectionTests.eventually { gateway.cluster.coordinator.status().requests.running == 0 }
      #expect(throws: (any Error).self) { _ = try RawConnection(port: gateway.port) }
    }
  }

  @Test("an expert that is lost: not ready, and answers end with its name, in the stream or as a status")
  func lostExpert() async throws {
    let scratch = try Scratch("lost")
    let models = try GatewayModels.get()
    let cluster = try InProcessCluster(
      models, scratch: scratch, context: 2048, configure: { $0.expertWait = .milliseconds(100) })
    var workers: [WorkerProcess] = []
    for (name, path) in models.experts {
      workers.append(
        try WorkerProcess(expert: name, model: path, endpoint: cluster.endpoint, scratch: scratch, context: 2048))
    }
    try await cluster.coordinator.waitUntilReady(timeout: .seconds(60))
    let gateway = try await TestGateway(cluster) { _ in }
    let connection = try await Self.stream(gateway)
    #expect(try await gateway.get("/ready").status == 200)
    for worker in workers { worker.kill() }
    #expect(await connection.read(until: #"data: {"error""#))
    #expect(await connection.read(until: "\r\n0\r\n\r\n"), "the response ends as HTTP wants it")
    let text = connection.text
    #expect(text.contains("unavailable") && text.contains("cannot answer"), "\(text.suffix(600))")
    try await ConnectionTests.eventually { try await gateway.get("/ready").status == 503 }
    let ready = try await gateway.get("/ready")
    #expect(try ready.string("reason")?.contains("\"math\"") == true)
    let refused = try await gateway.post("/v1/completions", SecurityTests.completion)
    #expect(refused.status == 503 && refused.headers["retry-after"] != nil, "\(refused.text)")
    let prompt: [Token] = [5, 17, 40]
    let routed = try await gateway.post(
      "/v1/completions",
      #"{"prompt":\#(prompt),"max_tokens":4,"temperature":0,"fusionroute":{"on_expert_loss":"router"}}"#)
    #expect(routed.status == 200)
    let tokens = try #require(
      try routed.json("choices", 0, "fusionroute", "tokens") as? [[String: Any]], "\(routed.text)")
    #expect(!tokens.isEmpty && tokens.allSatisfy { $0["degraded"] as? Bool == true })
    // The router alone: by r, where the models' c is not 1.
    let ids = tokens.compactMap { ($0["id"] as? Int).map { Token($0) } }
    let rows = try PlainOracle.rows(model: models.router, tokens: prompt + ids.dropLast()).dropFirst(prompt.count - 1)
    for (row, token) in zip(rows, tokens) {
      let best = try #require(row.indices.max { (row[$0], $1) < (row[$1], $0) })
      #expect(token["id"] as? Int == best)
      let logit = try #require(token["logit"] as? Double)
      #expect(abs(logit - Double(row[best])) < 1e-4)
    }
    #expect(
      try await gateway.post("/v1/completions", #"{"model":"fusionroute:router","prompt":"a","max_tokens":2}"#).status
        == 200)
    #expect(try await gateway.get("/health").status == 200)
    try await gateway.stop()
    await cluster.stop()
  }

  @Test("the request log has every request with what came of it, a line each, and neither keys nor other headers")
  func requestLog() async throws {
    let scratch = try Scratch("log")
    let keys = scratch.path("api-keys")
    // Not a word that random hexadecimal digits could spell.
    let key = try APIKeyFile.update(keys, create: true) { try $0.add("mallory") }
    let file = scratch.path("requests.jsonl")
    let headers = ["authorization": "Bearer \(key)"]
    let body = "{\n  \"prompt\": \"line\\nbreak\",\r\n  \"max_tokens\": 5, \"n\": 2\n}"
    var answers: [TestGateway.Answer] = []
    try await withGateway(configure: { ($0.requestLog, $0.apiKeys) = (file, keys) }) { gateway in
      answers.append(
        try await gateway.post("/v1/completions", body, headers: headers.merging(["x-request-id": "one"]) { $1 }))
      answers.append(
        try await gateway.post(
          "/v1/chat/completions",
          #"{"messages":[{"role":"user","content":"hi"}],"max_tokens":4,"seed":9,"stream":true}"#,
          headers: headers))
      _ = try await gateway.post("/v1/completions", #"{"prompt":"a","max_tokens":1,"n":0}"#, headers: headers)
    }
    let text = try String(contentsOfFile: file, encoding: .utf8)
    let lines = try text.split(separator: "\n").map {
      try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
    }
    #expect(lines.count == 2, "what was refused before it began is not in it")
    #expect(!text.contains(key) && !text.contains("mallory") && !text.lowercased().contains("bearer"))
    #expect(lines[0]["request_id"] as? String == "one")
    #expect(lines[0]["route"] as? String == "/v1/completions")
    #expect(lines[0]["seed"] as? Int == (try answers[0].json("fusionroute", "seed") as? Int))
    #expect((lines[0]["body"] as? [String: Any])?["prompt"] as? String == "line\nbreak")
    let logged = try #require(lines[0]["answers"] as? [[String: Any]])
    for index in 0..<2 {
      let tokens = try #require(try answers[0].json("choices", index, "fusionroute", "tokens") as? [[String: Any]])
      #expect(logged[index]["tokens"] as? [Int] == tokens.compactMap { $0["id"] as? Int })
      let text = try #require(try answers[0].string("choices", index, "text"))
      #expect(logged[index]["text_sha256"] as? String == SHA256Digest(hashing: text.utf8).hex)
    }
    #expect(lines[1]["seed"] as? Int == 9)
    #expect(lines[1]["error"] is NSNull)
    let mode = try FileManager.default.attributesOfItem(atPath: file)[.posixPermissions] as? Int
    #expect(mode == 0o600)
  }
}

/// A worker as a process of its own, killed at the latest when the test forgets it.
final class WorkerProcess: @unchecked Sendable {
  // Unchecked: Process is used from one task at a time.
  private let process = Process()

  init(expert: String, model: String, endpoint: String, scratch: Scratch, context: Int) throws {
    process.executableURL = TestBinaries.url("fusionroute")
    process.arguments = [
      "worker", "--expert", expert, "--model", model, "--coordinator", endpoint, "--context", "\(context)",
    ]
    process.environment = ProcessInfo.processInfo.environment.merging(["FUSIONROUTE_CACHE": scratch.path("cache")]) {
      $1
    }
    process.standardError = FileHandle.nullDevice
    process.standardInput = Pipe()
    try process.run()
  }

  func kill() { if process.isRunning { Foundation.kill(process.processIdentifier, SIGKILL) } }

  deinit { kill() }
}

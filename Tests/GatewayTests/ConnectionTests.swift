import Coordinator
import Core
import Foundation
import Testing

/// Clients that speak HTTP badly, slowly, or not at all.
@Suite(.serialized) struct ConnectionTests {
  static func post(_ body: String, path: String = "/v1/chat/completions", more: String = "") -> String {
    "POST \(path) HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\(more)Content-Length: \(body.utf8.count)"
      + "\r\n\r\n\(body)"
  }

  static let short = #"{"messages":[{"role":"user","content":"hi"}],"max_tokens":3}"#
  static let health = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"

  @Test("malformed and oversized heads are answered in OpenAI's shape and end the connection")
  func heads() async throws {
    try await withGateway { gateway in
      let long = String(repeating: "a", count: 20 << 10)
      let many = (0..<200).map { "X-\($0): a\r\n" }.joined()
      let cases: [(String, Int)] = [
        ("hello\r\n\r\n", 400),
        ("\u{0}\u{1}\u{2}\r\n\r\n", 400),
        ("GET /health HTTP/9.9\r\nHost: localhost\r\n\r\n", 400),
        ("GET /health HTTP/1.1\r\nHost localhost\r\n\r\n", 400),
        ("GET /health HTTP/1.1\r\nHost: localhost\r\nX: a\u{0}b\r\n\r\n", 400),
        ("GET /health HTTP/1.1\r\nHost: localhost\r\nX-Long: \(long)\r\n\r\n", 431),
        ("GET /health HTTP/1.1\r\nHost: localhost\r\n\(many)\r\n", 431),
        ("GET /health?\(String(repeating: long, count: 8)) HTTP/1.1\r\nHost: localhost\r\n\r\n", 431),
        ("POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400),
        ("POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        (
          "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
          400
        ),
      ]
      for (request, status) in cases {
        let connection = try RawConnection(port: gateway.port)
        connection.send(request)
        let answer = await connection.readToEnd()
        #expect(
          answer?.hasPrefix("HTTP/1.1 \(status) ") == true, "\(request.prefix(80)): \(answer?.prefix(80) ?? "open")")
        #expect(answer?.contains(#"{"error":{"message":"#) == true, "\(request.prefix(80))")
        #expect(try await gateway.get("/health").status == 200)
      }
    }
  }

  @Test("a head or a body that does not end is cut off, and so is a client that does not read its answers")
  func slow() async throws {
    try await withGateway(configure: { $0.clientTimeout = .milliseconds(300) }) { gateway in
      // One byte now and then keeps nothing alive: each part has its time.
      func drip(_ connection: RawConnection) async -> String? {
        let texts = connection.readingToEnd()
        while connection.send("a") { try? await Task.sleep(for: .milliseconds(20)) }
        return await texts.first { _ in true } ?? nil
      }
      let nothing = try RawConnection(port: gateway.port)
      #expect(await nothing.readToEnd() == "")
      let head = try RawConnection(port: gateway.port)
      head.send("GET /health HTTP/1.1\r\nX-Slow: ")
      #expect(await drip(head) == "")
      let body = try RawConnection(port: gateway.port)
      body.send(
        "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{"
      )
      let answer = await drip(body)
      #expect(answer?.hasPrefix("HTTP/1.1 408 ") == true && answer?.contains("request_timeout") == true)

      let deaf = try RawConnection(port: gateway.port, receiveBuffer: 4096)
      // Their answers are some tens of megabytes, more than the system keeps for a client that does not read.
      let requests = String(repeating: "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", count: 5000)
      #expect(deaf.send(requests))
      // Ours is the one that asks; it is closed too when it idles, perhaps just as it asks again.
      try await Self.eventually { await (try? Self.gauge("fusionroute_http_connections", gateway)) == 1 }
      // The first bytes after that may still be taken, by the system.
      try await Self.eventually { !deaf.send(requests) }
    }
  }

  @Test("bodies beyond the limit: refused by their length at once, else when they pass it, and the refusal is read")
  func large() async throws {
    try await withGateway(configure: { $0.maximumBody = 1 << 20 }) { gateway in
      let declared = try RawConnection(port: gateway.port)
      // Nothing of the body is sent.
      declared.send(
        "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 104857600\r\n\r\n"
      )
      #expect(await declared.read(until: "request_too_large"))
      #expect(declared.text.hasPrefix("HTTP/1.1 413 "))

      let chunked = try RawConnection(port: gateway.port)
      chunked.send(
        "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
      )
      let chunk = "100000\r\n" + String(repeating: " ", count: 1 << 20) + "\r\n"
      let sending = Task { await RawConnection.onThread { (0..<100).allSatisfy { _ in chunked.send(chunk) } } }
      #expect(await chunked.read(until: "request_too_large"))
      #expect(chunked.text.hasPrefix("HTTP/1.1 413 "))
      _ = await sending.value

      let whole = try await gateway.send(
        "POST", "/tokenize", headers: ["content-type": "application/json"],
        body: Array(#"{"content":"\#(String(repeating: "a ", count: 600 << 10))"}"#.utf8))
      #expect(whole.status == 413)
      #expect(try await gateway.get("/health").status == 200)
      #expect(try await Self.gauge("fusionroute_http_body_bytes", gateway) == 0)
    }
  }

  @Test("a client that asks before it sends is told to go on, or is refused without sending")
  func expectation() async throws {
    try await withGateway(configure: { $0.maximumBody = 1 << 20 }) { gateway in
      let body = #"{"content":"the"}"#
      let polite = try RawConnection(port: gateway.port)
      polite.send(
        "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
          + "Content-Length: \(body.utf8.count)\r\n\r\n")
      #expect(await polite.read(until: "HTTP/1.1 100 Continue\r\n\r\n"))
      polite.send(body)
      #expect(await polite.read(until: #""tokens":"#))
      let refused = try RawConnection(port: gateway.port)
      refused.send(
        "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
          + "Content-Length: 99999999\r\n\r\n")
      #expect(await refused.readToEnd()?.hasPrefix("HTTP/1.1 413 ") == true)
    }
  }

  @Test("a connection ends after the answer where its client says so, however it is spelt, and always with HTTP/1.0")
  func persistence() async throws {
    try await withGateway { gateway in
      for request in [
        "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: Close\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: TE, close\r\nTE: trailers\r\n\r\n",
        "GET /health HTTP/1.0\r\n\r\n", "GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
      ] {
        let connection = try RawConnection(port: gateway.port)
        connection.send(request)
        #expect(await connection.readToEnd()?.hasSuffix(#"{"status":"ok"}"#) == true, "\(request)")
      }
      // A stream, too, goes to the connection's end, without chunks.
      let old = try RawConnection(port: gateway.port)
      let stream = Self.post(#"{"prompt":"a","max_tokens":2,"stream":true}"#, path: "/v1/completions")
      old.send(stream.replacing("HTTP/1.1", with: "HTTP/1.0"))
      let answer = try #require(await old.readToEnd())
      #expect(answer.hasPrefix("HTTP/1.0 200 "), "\(answer)")
      #expect(answer.hasSuffix("data: [DONE]\n\n") && !answer.lowercased().contains("transfer-encoding"), "\(answer)")
    }
  }

  @Test("one connection carries many requests, answers and streams included, also when they come at once")
  func reuse() async throws {
    try await withGateway { gateway in
      let connection = try RawConnection(port: gateway.port)
      for _ in 0..<3 {
        connection.send(Self.post(Self.short))
        connection.send(Self.post(#"{"prompt":"a","max_tokens":2,"stream":true}"#, path: "/v1/completions"))
        connection.send("HEAD /ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
      }
      connection.send("GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
      #expect(await connection.read(until: #"{"status":"ok"}"#))
      #expect(connection.text.components(separatedBy: "HTTP/1.1 200 OK").count == 11)
      #expect(connection.text.components(separatedBy: "data: [DONE]").count == 4)
    }
  }

  @Test("HEAD is answered without a body also where it is refused, so that the next answer is found")
  func refusedHeads() async throws {
    try await withGateway { gateway in
      let connection = try RawConnection(port: gateway.port)
      for path in ["/nothing", "/v1/completions"] {
        connection.send("HEAD \(path) HTTP/1.1\r\nHost: localhost\r\n\r\n")
      }
      connection.send("HEAD /health HTTP/1.1\r\nHost: evil.example\r\n\r\n")
      connection.send("GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
      #expect(await connection.read(until: #"{"status":"ok"}"#))
      let answers = connection.text.components(separatedBy: "\r\n\r\n")
      let statuses = ["404", "405", "403", "200"].map { "HTTP/1.1 \($0) " }
      #expect(answers.count == 5 && zip(answers, statuses).allSatisfy { $0.hasPrefix($1) }, "\(connection.text)")
      #expect(!connection.text.contains("error"))
    }
  }

  @Test("connections beyond the limit are refused at once; later ones get in")
  func limit() async throws {
    try await withGateway(configure: { $0.maximumConnections = 3 }) { gateway in
      var held: [RawConnection] = []
      for _ in 0..<3 {
        let connection = try RawConnection(port: gateway.port)
        connection.send(Self.health)
        #expect(await connection.read(until: "ok"))
        held.append(connection)
      }
      let refused = try RawConnection(port: gateway.port)
      let answer = await refused.readToEnd()
      #expect(answer?.hasPrefix("HTTP/1.1 503 ") == true && answer?.contains("too_many_connections") == true)
      held.removeLast().disconnect()
      try await Self.eventually {
        let next = try RawConnection(port: gateway.port)
        next.send(Self.health)
        return await next.read(until: "HTTP/1.1 200")
      }
    }
  }

  @Test("a client that leaves takes its work with it, while it streams, waits for the whole, or waits in the queue")
  func disconnect() async throws {
    try await withGateway(context: 2048, slots: 1) { gateway in
      let long = #"{"prompt":"the","max_tokens":2000,"temperature":0,"logit_bias":{"2":-100,"260":-100},"stream":"#
      let status = { gateway.cluster.coordinator.status().requests }
      for isQueued in [false, true] {
        for streams in ["true", "false"] {
          for halves in [false, true] {
            let others = try (0..<(isQueued ? 1 : 0)).map { _ in try RawConnection(port: gateway.port) }
            for other in others {
              other.send(Self.post(long + "true}", path: "/v1/completions"))
              #expect(await other.read(until: "data: "))
            }
            let before = status().cancelled
            let connection = try RawConnection(port: gateway.port)
            connection.send(Self.post(long + streams + "}", path: "/v1/completions"))
            if isQueued {
              try await Self.eventually { status().waiting == 1 }
            } else if streams == "true" {
              #expect(await connection.read(until: "data: "))
            } else {
              try await Self.eventually { status().running == 1 }
            }
            if halves { connection.finishSending() } else { connection.disconnect() }
            try await Self.eventually { status().cancelled == before + 1 && status().waiting == 0 }
            if isQueued {
              #expect(status().running == 1, "the other one goes on")
              for other in others { other.disconnect() }
            }
            try await Self.eventually { status().running == 0 }
          }
        }
      }
      // Nothing of it is left, and the slot is free.
      try await Self.eventually { try await Self.gauge("fusionroute_answers_running", gateway) == 0 }
      #expect(try await Self.gauge("fusionroute_http_body_bytes", gateway) == 0)
      let metrics = try await gateway.get("/metrics").text
      #expect(metrics.contains(#"fusionroute_answers_total{outcome="client_gone"} 12"#), "\(metrics)")
      let evaluated = gateway.cluster.coordinator.status().router.evaluatedTokens
      #expect(try await gateway.post("/v1/chat/completions", Self.short).status == 200)
      // The prompt and three tokens: nobody else computes.
      #expect(gateway.cluster.coordinator.status().router.evaluatedTokens - evaluated < 60)
    }
  }

  @Test("clients that come and go at random moments leave nothing behind")
  func churn() async throws {
    try await withGateway(slots: 2) { gateway in
      let seed = UInt64.random(in: 0...UInt64.max)
      var random = SplitMix64(seed: seed)
      func descriptors() throws -> Int { try FileManager.default.contentsOfDirectory(atPath: "/dev/fd").count }
      _ = try await gateway.post("/v1/chat/completions", Self.short)
      let before = try descriptors()
      for _ in 0..<100 {
        let text = Self.post(
          #"{"prompt":"the","max_tokens":\#(Int.random(in: 1...100, using: &random)),"stream":true}"#,
          path: "/v1/completions")
        let connection = try RawConnection(port: gateway.port)
        let cut = Int.random(in: 0...text.utf8.count * 2, using: &random)
        connection.send(Array(text.utf8.prefix(cut)))
        try await Task.sleep(for: .microseconds(Int.random(in: 0...8000, using: &random)))
        connection.disconnect()
      }
      let status = { gateway.cluster.coordinator.status().requests }
      try await Self.eventually { status().running == 0 && status().waiting == 0 }
      try await Self.eventually { try await Self.gauge("fusionroute_http_connections", gateway) == 1 }
      #expect(try await Self.gauge("fusionroute_answers_running", gateway) == 0, "seed \(seed)")
      #expect(try await Self.gauge("fusionroute_http_body_bytes", gateway) == 0, "seed \(seed)")
      try await Self.eventually { try descriptors() <= before }
    }
  }

  // MARK: Help

  static func gauge(_ name: String, _ gateway: TestGateway) async throws -> Int? {
    let lines = try await gateway.get("/metrics").text.split(separator: "\n")
    return lines.first { $0.hasPrefix(name + " ") }.flatMap { Int($0.dropFirst(name.count + 1)) }
  }

  /// Waits for what must become true.
  static func eventually(
    sourceLocation: SourceLocation = #_sourceLocation, _ condition: () async throws -> Bool
  ) async throws {
    let end = ContinuousClock.now + .seconds(30)
    while try await !condition() {
      guard ContinuousClock.now < end else {
        Issue.record("it did not become true in 30 s", sourceLocation: sourceLocation)
        return
      }
      try await Task.sleep(for: .milliseconds(5))
    }
  }
}

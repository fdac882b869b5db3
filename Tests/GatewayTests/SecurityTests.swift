import Coordinator
import Core
import Foundation
import Gateway
import Logging
import TestSupport
import Testing

/// Who gets in.
@Suite(.serialized) struct SecurityTests {
  static let completion = #"{"prompt":"a","max_tokens":1}"#

  @Test(
    "with keys, only their holders get in; a new key counts at once, a revoked one no more, a broken file changes nothing"
  )
  func keys() async throws {
    let scratch = try Scratch("keys")
    let file = scratch.path("api-keys")
    let (first, second) = try APIKeyFile.update(file, create: true) { (try $0.add("ada"), try $0.add("bob")) }
    try await withGateway(configure: { $0.apiKeys = file }) { gateway in
      func status(_ key: String?, _ path: String = "/v1/models") async throws -> Int {
        try await gateway.get(path, headers: key.map { ["authorization": "Bearer \($0)"] } ?? [:]).status
      }
      for path in ["/v1/models", "/v1/models/fusionroute", "/metrics", "/fusionroute/status", "/nothing"] {
        let answer = try await gateway.get(path)
        #expect(answer.status == 401 && answer.headers["www-authenticate"] == "Bearer", "\(path)")
        #expect(try answer.string("error", "code") == "missing_api_key")
      }
      for path in ["/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize"] {
        #expect(try await gateway.post(path, Self.completion).status == 401, "\(path)")
      }
      for path in ["/health", "/ready", "/"] { #expect(try await gateway.get(path).status == 200, "\(path)") }
      #expect(try await status(first) == 200)
      #expect(try await status(second) == 200)
      for wrong in [
        "", "x", String(first.dropLast()), first + "x", first.uppercased(), "fr-" + String(repeating: "A", count: 43),
      ] {
        let answer = try await gateway.get("/v1/models", headers: ["authorization": "Bearer \(wrong)"])
        #expect(answer.status == 401)
        #expect(!answer.text.contains(first) && (wrong.count < 4 || !answer.text.contains(wrong)))
      }
      #expect(try await gateway.get("/v1/models", headers: ["authorization": "Basic \(first)"]).status == 401)
      #expect(try await gateway.get("/v1/models", headers: ["authorization": first]).status == 401)
      #expect(try await gateway.get("/v1/models", headers: ["authorization": "bearer  \(first) "]).status == 200)

      let third = try APIKeyFile.update(file, create: false) { list in
        try list.revoke("ada")
        return try list.add("cyd")
      }
      #expect(try await status(first) == 401)
      #expect(try await status(second) == 200)
      #expect(try await status(third) == 200)
      try Data("bob not-a-hash\n".utf8).write(to: URL(fileURLWithPath: file))
      #expect(try await status(third) == 200)
      try FileManager.default.removeItem(atPath: file)
      #expect(try await status(second) == 200)
    }
  }

  @Test("a service that cannot be safe does not start, and says why")
  func refusals() async throws {
    let scratch = try Scratch("refuse")
    func file(_ name: String, _ text: String) throws -> String {
      try Data(text.utf8).write(to: scratch.url.appendingPathComponent(name))
      return scratch.path(name)
    }
    let bad = try file("bad-keys", "# keys\nada 12\n")
    let noPEM = try file("no.pem", "hello")
    let (certificate, key) = try Self.certificate(in: scratch, name: "a")
    let (_, other) = try Self.certificate(in: scratch, name: "b")
    let open = try file("open-log", "")
    try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: open)
    let cases: [(String, @Sendable (inout GatewayConfiguration) -> Void)] = [
      ("0.0.0.0", { $0.host = "0.0.0.0" }),
      ("10.0.0.1", { $0.host = "10.0.0.1" }),
      ("line 2", { $0.apiKeys = bad }),
      (scratch.path("nowhere"), { $0.apiKeys = scratch.path("nowhere") }),
      ("both", { $0.certificate = certificate }),
      ("no.pem", { ($0.certificate, $0.privateKey) = (noPEM, key) }),
      ("no.pem", { ($0.certificate, $0.privateKey) = (certificate, noPEM) }),
      ("do not fit", { ($0.certificate, $0.privateKey) = (certificate, other) }),
      ("70000", { $0.port = 70000 }),
      ("chmod 600", { $0.requestLog = open }),
      ("request log", { $0.requestLog = scratch.path("no/such/folder") }),
    ]
    let models = try GatewayModels.get()
    try await withCluster(models, scratch: scratch) { cluster in
      var logger = Logger(label: "test")
      logger.logLevel = .critical
      for (word, change) in cases {
        var configuration = GatewayConfiguration(host: "127.0.0.1", port: 0)
        change(&configuration)
        let server = GatewayServer(configuration: configuration, coordinator: cluster.coordinator, logger: logger)
        do {
          try await server.run()
          Issue.record("it started in spite of \(word)")
        } catch let error as FusionRouteError {
          #expect(error.code == .badInput && error.description.contains(word), "\(error)")
        }
        // Who waits for the port hears the same.
        await #expect(throws: FusionRouteError.self) { try await server.waitUntilServing() }
      }
      // A port in use.
      let first = try await TestGateway(cluster) { _ in }
      var configuration = GatewayConfiguration(host: "127.0.0.1", port: 0)
      configuration.port = first.port
      do {
        try await GatewayServer(configuration: configuration, coordinator: cluster.coordinator, logger: logger).run()
        Issue.record("two services share a port")
      } catch let error as FusionRouteError {
        #expect(error.code == .unavailable && error.message.contains("\(first.port)"), "\(error)")
      }
      try await first.stop()
    }
  }

  /// A self-signed certificate for localhost and its key, made by OpenSSL.
  static func certificate(in scratch: Scratch, name: String) throws -> (certificate: String, key: String) {
    let (certificate, key) = (scratch.path(name + ".crt"), scratch.path(name + ".key"))
    let (status, _, errors) = try TestProcess.run(
      URL(fileURLWithPath: "/usr/bin/env"),
      [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out",
        certificate,
      ])
    guard status == 0 else { throw FusionRouteError.internal("openssl failed: \(errors)") }
    return (certificate, key)
  }

  @Test("with a certificate the service speaks TLS and nothing else")
  func tls() async throws {
    let scratch = try Scratch("tls")
    let (certificate, key) = try Self.certificate(in: scratch, name: "server")
    try await withGateway(configure: { ($0.certificate, $0.privateKey) = (certificate, key) }) { gateway in
      let answer = try await gateway.send(
        "POST", "/v1/completions", headers: ["content-type": "application/json"], body: Array(Self.completion.utf8),
        scheme: "https")
      #expect(answer.status == 200)
      // curl checks the certificate against the authority that we name: itself.
      let (status, output, errors) = try TestProcess.run(
        URL(fileURLWithPath: "/usr/bin/env"),
        [
          "curl", "-sS", "--cacert", certificate, "https://localhost:\(gateway.port)/health", "--resolve",
          "localhost:\(gateway.port):127.0.0.1",
        ])
      #expect(status == 0 && String(decoding: output, as: UTF8.self) == #"{"status":"ok"}"#, "\(errors)")
      let plain = try RawConnection(port: gateway.port)
      plain.send(ConnectionTests.health)
      #expect(await plain.readToEnd()?.contains("200 OK") != true)
      let old = try TestProcess.run(
        URL(fileURLWithPath: "/usr/bin/env"),
        ["curl", "-sS", "--tls-max", "1.1", "-k", "https://127.0.0.1:\(gateway.port)/health"])
      #expect(old.status != 0)
      #expect(
        try await gateway.send("GET", "/health", body: nil, scheme: "https").status == 200)
    }
  }

  @Test("pages of strangers get nothing: neither by their origin nor by a name that they bound to this machine")
  func browsers() async throws {
    try await withGateway(configure: { $0.allowedOrigins = ["https://chat.example"] }) { gateway in
      func headers(_ values: [String: String], path: String = "/v1/models") async throws -> TestGateway.Answer {
        try await gateway.get(path, headers: values)
      }
      for host in ["localhost", "localhost:8080", "127.0.0.1:1", "[::1]:80", "a.localhost", "LOCALHOST"] {
        #expect(try await headers(["host": host]).status == 200, "\(host)")
      }
      for host in [
        "evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil", "0.0.0.0", "[::2]", "10.0.0.1",
      ] {
        let answer = try await headers(["host": host])
        #expect(answer.status == 403, "\(host)")
        #expect(try answer.string("error", "code") == "host_not_allowed")
      }
      let own = "http://127.0.0.1:\(gateway.port)"
      #expect(try await headers(["origin": own]).status == 200)
      for origin in [
        "https://evil.example", "null", "http://127.0.0.1", "http://127.0.0.1:1", "https://chat.example.evil",
      ] {
        let answer = try await gateway.post("/v1/completions", Self.completion, headers: ["origin": origin])
        #expect(answer.status == 403, "\(origin)")
        #expect(answer.headers["access-control-allow-origin"] == nil)
      }
      let allowed = ["origin": "https://chat.example"]
      let answer = try await gateway.post("/v1/completions", Self.completion, headers: allowed)
      #expect(answer.status == 200 && answer.headers["access-control-allow-origin"] == "https://chat.example")
      #expect(answer.headers["vary"] == "Origin")
      let wrong = try await gateway.post("/v1/completions", "{}", headers: allowed)
      #expect(wrong.status == 400 && wrong.headers["access-control-allow-origin"] == "https://chat.example")
      // As those who call from elsewhere are told.
      for (path, status, code) in [
        ("/nothing", 404, "unknown_route"), ("/v1/completions", 405, "method_not_allowed"),
      ] {
        let wrong = try await headers(allowed, path: path)
        #expect(try wrong.status == status && wrong.string("error", "code") == code, "\(path): \(wrong.text)")
        #expect(wrong.headers["access-control-allow-origin"] == "https://chat.example", "\(path)")
      }
      let preflight = try await gateway.send(
        "OPTIONS", "/v1/chat/completions",
        headers: allowed.merging(["access-control-request-method": "POST"]) { $1 }, body: nil)
      #expect(
        preflight.status == 204 && preflight.headers["access-control-allow-headers"]?.contains("authorization") == true)
      let stranger = try await gateway.send(
        "OPTIONS", "/v1/chat/completions",
        headers: ["origin": "https://evil.example", "access-control-request-method": "POST"], body: nil)
      #expect(stranger.status == 403)
    }
  }

  @Test("a preflight of a page that may call admits the headers that it names, if they are a short list of names")
  func preflights() async throws {
    try await withGateway(configure: { $0.allowedOrigins = ["https://chat.example"] }) { gateway in
      func preflight(_ asked: String?, origin: String = "https://chat.example") async throws -> TestGateway.Answer {
        var headers = ["origin": origin, "access-control-request-method": "POST"]
        headers["access-control-request-headers"] = asked
        return try await gateway.send("OPTIONS", "/v1/chat/completions", headers: headers, body: nil)
      }
      func names(_ answer: TestGateway.Answer) -> Set<String> {
        let list = answer.headers["access-control-allow-headers"] ?? ""
        return Set(list.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces).lowercased() })
      }
      // What OpenAI's JavaScript client sends.
      let asked = [
        "authorization", "content-type", "openai-organization", "openai-project", "openai-beta", "x-stainless-lang",
        "x-stainless-package-version", "x-stainless-os", "x-stainless-arch", "x-stainless-runtime",
        "x-stainless-runtime-version", "x-stainless-retry-count", "x-stainless-timeout", "x-stainless-async",
        "x-stainless-poll-helper", "x-stainless-helper-method", "x-stainless-custom-poll-interval",
      ]
      for separator in [",", ", "] {
        let answer = try await preflight(asked.joined(separator: separator))
        #expect(answer.status == 204 && names(answer) == Set(asked), "\(answer.headers)")
        #expect(answer.headers["vary"] == "Origin, Access-Control-Request-Headers")
      }
      let usual = names(try await preflight(nil))
      #expect(usual.isSuperset(of: ["authorization", "content-type", "idempotency-key"]))
      let many = (0..<100).map { "x-\($0)" }.joined(separator: ",")
      for bad in ["x-a x-b", "x-a,,x-b", "x-a;x-b", "\"x-a\"", "é", many, String(repeating: "a", count: 4_000)] {
        #expect(names(try await preflight(bad)) == usual, "\(bad.prefix(40))")
      }
      let stranger = try await preflight("x-a", origin: "https://evil.example")
      #expect(stranger.status == 403 && stranger.headers["access-control-allow-headers"] == nil)
    }
  }

  @Test("the page may load nothing from elsewhere, and no answer is sniffed or cached")
  func headers() async throws {
    try await withGateway { gateway in
      let page = try await gateway.get("/")
      #expect(page.status == 200 && page.headers["content-type"]?.hasPrefix("text/html") == true)
      let policy = page.headers["content-security-policy"] ?? ""
      #expect(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"))
      for path in ["/", "/health", "/v1/models", "/nothing"] {
        let answer = try await gateway.get(path)
        #expect(answer.headers["x-content-type-options"] == "nosniff", "\(path)")
        #expect(answer.headers["server"] == "fusionroute")
      }
      #expect(try await gateway.get("/v1/models").headers["cache-control"] == "no-store")
    }
  }

  @Test("request ids and trace contexts: plain ones are kept, others made")
  func identifiers() async throws {
    try await withGateway { gateway in
      func id(_ given: String) async throws -> String? {
        try await gateway.get("/health", headers: ["x-request-id": given]).headers["x-request-id"]
      }
      #expect(try await id("my_request-7") == "my_request-7")
      for bad in ["", "a b", "ü", "a/b", String(repeating: "a", count: 65)] {
        let made = try await id(bad)
        #expect(made?.hasPrefix("req-") == true && made != bad, "\(bad)")
      }
      #expect(try await id("") != id(""))
      let answer = try await gateway.post("/v1/completions", Self.completion, headers: ["x-request-id": "seven"])
      #expect(try answer.string("id") == "cmpl-seven")
      #expect(try answer.string("fusionroute", "request_id") == "seven")
    }
  }
}

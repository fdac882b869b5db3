import Core
import Foundation
import Inference
import Testing

@testable import fusionroute

#if canImport(FoundationNetworking)
  import FoundationNetworking
#endif

/// `up` and `coordinator` as they begin and end.
@Suite(.serialized) struct ServiceLifeTests {
  let models: ToyModels

  init() throws { models = try ToyModels.shared.get() }

  static let http = "gateway: { shutdown_grace: 20s }"

  private func cluster(_ name: String, more: String = "", http: String = "127.0.0.1:*") throws -> String {
    try models.cluster(name, more: "listen: { workers: \"ipc://\(name).sock\", http: \"\(http)\" }\n" + more)
  }

  private func expectNoWorkers(_ name: String) async throws {
    for _ in 0..<300 where !Product.workers(dialling: "\(name).sock").isEmpty {
      try await Task.sleep(for: .milliseconds(10))
    }
    #expect(Product.workers(dialling: "\(name).sock").isEmpty)
  }

  @Test func upServesAndEndsInOrder() async throws {
    let service = try await RunningService.start(["up", "-c", try cluster("up")])
    try await service.waitUntilReady()
    #expect(service.process.outputSoFar == "page  \(service.url)/\nAPI   \(service.url)/v1\n")
    #expect(try await service.fetch("/health").status == 200)
    #expect(try await service.fetch("/ready").status == 200)
    let answer = try await service.fetch(
      "/v1/chat/completions", json: #"{"messages":[{"role":"user","content":"Hello"}],"max_tokens":5}"#)
    #expect(answer.status == 200 && answer.body.contains("\"content\":"), "\(answer)")
    let result = try await service.stop()
    #expect(result.code == 0 && !result.errors.contains("error"), "\(result.errors)")
    #expect(Product.workers(dialling: "up.sock").isEmpty)
    #expect(!FileManager.default.fileExists(atPath: models.path("up.sock")))
  }

  /// An answer under way at SIGTERM goes on to its end.
  @Test func streamsFinishWithinTheGrace() async throws {
    let service = try await RunningService.start(["up", "-c", try cluster("grace", more: Self.http)])
    try await service.waitUntilReady()
    let arguments = ["--max-tokens", "800"] + (try models.withoutEnd())
    let client = try Product.Running(["generate", "--url", service.url, "--prompt", "Tell me"] + arguments)
    try await client.wait("the first text") { !client.outputSoFar.isEmpty }
    let result = try await service.stop()
    let answer = try await client.result()
    #expect(answer.code == 0 && result.code == 0, "\(answer.errors) \(result.errors)")
    let alone = try await Product.run(["run", "-c", try models.cluster("grace2"), "--prompt", "Tell me"] + arguments)
    #expect(answer.output == alone.output)
  }

  @Test func aSecondSignalEndsItAtOnce() async throws {
    let service = try await RunningService.start(["up", "-c", try cluster("twice", more: Self.http)])
    try await service.waitUntilReady()
    let client = try Product.Running(
      ["generate", "--url", service.url, "--prompt", "Tell me", "--max-tokens", "4000"] + (try models.withoutEnd()))
    try await client.wait("the first text") { !client.outputSoFar.isEmpty }
    service.process.send(SIGINT)
    try await service.process.wait("the first signal") { service.process.errorsSoFar.contains("shutting down") }
    // Sooner it would be taken for an echo of the first.
    try await Task.sleep(for: Control.echo * 2)
    service.process.send(SIGINT)
    #expect(try await service.process.result().code == 130)
    let answer = try await client.result()
    #expect(answer.code == 69 && answer.errors.contains("broke the answer off"), "\(answer.errors)")
    try await expectNoWorkers("twice")
  }

  @Test func echoesOfASignal() {
    let (control, now) = (Control(), ContinuousClock.now)
    #expect(control.received(SIGTERM, at: now) == .first)
    #expect(control.received(SIGTERM, at: now + .milliseconds(5)) == .echo)
    #expect(control.received(SIGINT, at: now + .milliseconds(199)) == .echo)
    #expect(control.received(SIGTERM, at: now + .milliseconds(200)) == .another)
    #expect(control.signal == SIGTERM)
  }

  @Test func upWithoutAFile() async throws {
    let service = try await RunningService.start(
      ["up", "--generated", "--listen", "127.0.0.1:*"], environment: ["FUSIONROUTE_CACHE": models.path("cache")])
    try await service.waitUntilReady()
    let answer = try await Product.run(
      ["generate", "--url", service.url, "--prompt", "x", "--raw", "--max-tokens", "4"] + (try models.withoutEnd()))
    #expect(answer.code == 0 && !answer.output.isEmpty, "\(answer.errors)")
    #expect(try await service.stop().code == 0)
  }

  @Test func nothingOutlivesAKilledUp() async throws {
    let service = try await RunningService.start(["up", "-c", try cluster("upkilled")])
    try await service.waitUntilReady()
    #expect(Product.workers(dialling: "upkilled.sock").count == 3)
    service.process.send(SIGKILL)
    _ = try await service.process.result()
    try await expectNoWorkers("upkilled")
  }

  /// Before any model is loaded, in one sentence.
  @Test func aPortInUse() async throws {
    let service = try await RunningService.start(["up", "-c", try cluster("first")])
    let address = service.url.dropFirst("http://".count)
    for command in ["up", "coordinator"] {
      let second = try await Product.run([command, "-c", try cluster("second", http: String(address))])
      #expect(second.code == 69 && second.output.isEmpty)
      #expect(
        second.errors == "error: the HTTP service cannot listen on \(address): Address already in use; is another "
          + "program using the port?\n")
    }
    _ = try await service.stop()
  }

  @Test func aModelThatDoesNotLoad() async throws {
    let whole = try Data(contentsOf: URL(fileURLWithPath: models.path("ant.gguf")))
    try whole.prefix(whole.count / 2).write(to: URL(fileURLWithPath: models.path("half.gguf")))
    let file = try models.cluster(
      "half", expert: "half.gguf", more: "listen: { workers: \"ipc://half.sock\", http: \"127.0.0.1:*\" }")
    let result = try await Product.run(["up", "-c", file])
    let last = result.errors.split(separator: "\n").last ?? ""
    #expect(result.code == 65 && last.hasPrefix("error: ") && last.contains("half.gguf"), "\(result.errors)")
    try await expectNoWorkers("half")
  }

  /// The coordinator waits for nobody, and says whom it lacks.
  @Test func coordinatorAndWorkers() async throws {
    let file = try cluster("apart")
    let service = try await RunningService.start(["coordinator", "-c", file])
    #expect(service.process.outputSoFar.isEmpty)
    let before = try await service.fetch("/ready")
    #expect(before.status == 503)
    for name in ToyModels.experts { #expect(before.body.contains(name), "\(before.body)") }
    #expect(try await service.fetch("/health").status == 200)
    let workers = try Product.Running(["workers", "-c", file])
    try await service.waitUntilReady()
    #expect(try await service.fetch("/ready").status == 200)
    let answer = try await Product.run(["generate", "--url", service.url, "--prompt", "Hello", "--max-tokens", "4"])
    #expect(answer.code == 0 && !answer.output.isEmpty, "\(answer.errors)")
    workers.send(SIGTERM)
    #expect(try await workers.result().code == 0)
    #expect(try await service.fetch("/ready").status == 503)
    #expect(try await service.stop().code == 0)
  }

  /// A coordinator that no worker came to says at its end nothing that was not so.
  @Test func neverReady() async throws {
    let service = try await RunningService.start(["coordinator", "-c", try cluster("never")])
    let result = try await service.stop()
    #expect(result.code == 0 && !result.errors.contains("ready: "), "\(result.errors)")
  }

  /// Every request and its tokens are in the trace, under the ids that the client sent, also after SIGKILL.
  @Test func traces() async throws {
    let path = models.path("trace.json")
    let service = try await RunningService.start(["up", "-c", try cluster("trace"), "--trace", path])
    try await service.waitUntilReady()
    let trace = "0af7651916cd43dd8448eb211c80319c"
    var request = URLRequest(url: try #require(URL(string: service.url + "/v1/completions")))
    request.httpMethod = "POST"
    request.httpBody = Data(#"{"prompt":"Hello","max_tokens":6,"temperature":0}"#.utf8)
    request.setValue("application/json", forHTTPHeaderField: "Content-Type")
    request.setValue("00-\(trace)-b7ad6b7169203331-01", forHTTPHeaderField: "traceparent")
    request.setValue("my-request", forHTTPHeaderField: "x-request-id")
    let (body, _) = try await URLSession.shared.data(for: request)
    let tokens = String(decoding: body, as: UTF8.self).matches(of: /"degraded":/).count
    #expect(tokens > 0)
    try await service.process.wait("the request's span") {
      (try? String(contentsOfFile: path, encoding: .utf8))?.contains("\"request\"") == true
    }
    service.process.send(SIGKILL)
    _ = try await service.process.result()
    let events = try TraceFileTests.events(String(contentsOfFile: path, encoding: .utf8))
    let slices = events.filter { $0["pid"] as? Int == 1 && $0["ph"] as? String == "X" }
    let names = slices.compactMap { $0["name"] as? String }
    #expect(names.count { $0 == "token" || $0 == "prefill" } == tokens, "\(names)")
    #expect(names.last == "request" && names.contains("queue"))
    #expect(slices.allSatisfy { ($0["args"] as? [String: Any])?["trace_id"] as? String == trace })
    let rows = events.compactMap { ($0["args"] as? [String: Any])?["name"] as? String }
    for row in ["my-request", "router", "expert ant", "expert bee", "expert cat"] { #expect(rows.contains(row)) }
  }

  /// What dashboard and alerts ask for is what a service tells.
  @Test func metricsOfTheDashboard() async throws {
    let service = try await RunningService.start(
      ["up", "-c", try cluster("metrics", more: "gateway: { journal: metrics.db }")])
    let metrics = try await service.fetch("/metrics").body
    let known = Set(metrics.matches(of: #/# TYPE ([a-z_]+) /#).map { String($0.1) })
    let deploy = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../../Deploy")
    for file in ["grafana/fusionroute.json", "prometheus/alerts.yml"] {
      let text = try String(contentsOf: deploy.appendingPathComponent(file), encoding: .utf8)
      let asked = Set(
        text.matches(of: /\b((?:fusionroute|process)_[a-z_]+)\b/)
          .map { String($0.1).replacing(/_bucket$/, with: "") })
      #expect(asked.count > 2 && asked.subtracting(known).isEmpty, "\(file): \(asked.subtracting(known))")
    }
    let dashboard = try Data(contentsOf: deploy.appendingPathComponent("grafana/fusionroute.json"))
    #expect(throws: Never.self) { try JSONSerialization.jsonObject(with: dashboard) }
    _ = try await service.stop()
  }

  /// Hosts with their replicas, and a worker that is turned away.
  @Test func metricsOfHostsAndTheDoor() async throws {
    let service = try await RunningService.start(["up", "-c", try cluster("door")])
    try await service.waitUntilReady()
    let host = ProcessInfo.processInfo.hostName
    let before = try await service.fetch("/metrics").body
    #expect(before.contains(#"fusionroute_host_replicas{host="\#(host)",state="serving"} 3"#), "\(before)")
    #expect(before.contains("fusionroute_workers_refused_total 0\n") && !before.contains("fusionroute_batch"))
    let worker = try Product.Running(
      [
        "worker", "--expert", "ant", "--model", models.path("bee.gguf"), "--coordinator",
        "ipc://\(models.path("door.sock"))",
      ])
    var told = ""
    for _ in 0..<1_500 where !told.contains(/fusionroute_workers_refused_total [1-9]/) {
      try await Task.sleep(for: .milliseconds(20))
      told = try await service.fetch("/metrics").body
    }
    #expect(told.contains(/fusionroute_workers_refused_total [1-9]/), "\(worker.errorsSoFar)")
    #expect(told.contains(#"fusionroute_host_replicas{host="\#(host)",state="serving"} 3"#))
    worker.send(SIGKILL)
    _ = try await worker.result()
    _ = try await service.stop()
  }

  @Test func badClusterFiles() async throws {
    let open = try await Product.run(["up", "-c", try cluster("open", http: "0.0.0.0:8080")])
    #expect(open.code == 65 && open.errors.contains("gateway.api_keys"), "\(open.errors)")
    let listen = try await Product.run(["up", "-c", try cluster("open2"), "--listen", "0.0.0.0:0"])
    #expect(listen.code == 65 && listen.errors.contains("API keys"), "\(listen.errors)")
    let missing = try await Product.run(["up", "-c", try cluster("nokeys", more: "gateway: { api_keys: none }")])
    #expect(missing.code == 65 && missing.errors.contains("the file of API keys does not exist"), "\(missing.errors)")
    let endpoint = try await Product.run(
      ["coordinator", "-c", try models.cluster("nowhere", more: "listen: { http: \"127.0.0.1:*\" }")])
    #expect(endpoint.code == 65 && endpoint.errors.contains("listen.workers"), "\(endpoint.errors)")
    #expect(try await Product.run(["up", "--listen", "nonsense"]).code == 64)
    #expect(try await Product.run(["up", "-c", "x", "--generated"]).code == 64)
  }

  /// Every line on stderr, the workers' too, is an object.
  @Test func logsForMachines() async throws {
    let service = try await RunningService.start(["up", "-c", try cluster("jsonlog"), "--log-format", "json"])
    try await service.waitUntilReady()
    _ = try await service.fetch("/v1/completions", json: #"{"prompt":"Hello","max_tokens":3}"#)
    let result = try await service.stop()
    #expect(result.code == 0)
    let lines = result.errors.split(separator: "\n")
    let objects = try lines.map {
      try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any], "\($0)")
    }
    for object in objects {
      for key in ["ts", "level", "label", "message"] { #expect(object[key] is String, "\(object)") }
    }
    #expect(Set(objects.compactMap { $0["worker"] as? String }).isSuperset(of: ["ant.0", "bee.0", "cat.0"]))
    #expect(objects.contains { $0["worker"] != nil && $0["message"] as? String == "registered" })
    // What ends it is an object too.
    let failed = try await Product.run(["up", "-c", "/no/such.yaml", "--log-format", "json"])
    let error = try JSONSerialization.jsonObject(with: Data(failed.errors.utf8)) as? [String: String]
    #expect(failed.code == 65 && error?["level"] == "error" && error?["code"] == "bad-input", "\(failed.errors)")
  }
}

extension ToyModels {
  /// So that answers do not end before their maximum.
  func withoutEnd() throws -> [String] {
    let vocabulary = try Model.load(path: path("router.gguf")).vocabulary
    return (0..<Token(vocabulary.size)).filter { vocabulary.isEndOfGeneration($0) }
      .flatMap { ["--logit-bias", "\($0)=-inf"] }
  }
}

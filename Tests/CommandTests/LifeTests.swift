import Core
import Foundation
import Inference
import Testing

@testable import fusionroute

/// How clusters end, and what is left of them.
@Suite(.serialized) struct LifeTests {
  let models: ToyModels
  private let long: [String]

  init() throws {
    models = try ToyModels.shared.get()
    let vocabulary = try Model.load(path: models.path("router.gguf")).vocabulary
    let ends = (0..<Token(vocabulary.size)).filter { vocabulary.isEndOfGeneration($0) }
    long = ["--max-tokens", "3900"] + ends.flatMap { ["--logit-bias", "\($0)=-inf"] }
  }

  private func expectNoWorkers(_ name: String) async throws {
    for _ in 0..<300 where !Product.workers(dialling: "\(name).sock").isEmpty {
      try await Task.sleep(for: .milliseconds(10))
    }
    #expect(Product.workers(dialling: "\(name).sock").isEmpty)
  }

  @Test(arguments: [SIGINT, SIGTERM, SIGHUP]) func signalsEndItInOrder(_ signal: Int32) async throws {
    let name = "signal\(signal)"
    let running = try Product.Running(["run", "-c", try models.cluster(name), "--prompt", "Tell me"] + long)
    try await running.wait("the first text") { !running.outputSoFar.isEmpty }
    #expect(Product.workers(dialling: "\(name).sock").count == 3)
    running.send(signal)
    let result = try await running.result()
    #expect(result.code == 130)
    #expect(result.output.hasSuffix("\n") && result.output.count > 1)
    #expect(result.errors == "interrupted\n")
    #expect(Product.workers(dialling: "\(name).sock").isEmpty)
  }

  @Test func anInterruptedAnswerIsStillOneObject() async throws {
    let running = try Product.Running(
      ["run", "-c", try models.cluster("partial"), "--format", "json"] + long,
      input: "{\"prompt\":\"a\",\"max_tokens\":3}\nb\n")
    try await running.wait("the first answer") { running.outputSoFar.contains("\n") }
    try await Task.sleep(for: .milliseconds(300))
    running.send(SIGINT)
    let result = try await running.result()
    #expect(result.code == 130)
    let answers = try AnswerObject.list(result.output)
    #expect(answers.map(\.finish_reason) == ["length", "error"])
    #expect(answers.last?.error?.code == "interrupted")
    #expect(answers.last?.tokens.isEmpty == false)
  }

  @Test func nothingOutlivesAKilledParent() async throws {
    let running = try Product.Running(["run", "-c", try models.cluster("killed"), "--prompt", "Tell me"] + long)
    try await running.wait("the first text") { !running.outputSoFar.isEmpty }
    #expect(Product.workers(dialling: "killed.sock").count == 3)
    running.send(SIGKILL)
    _ = try await running.result()
    try await expectNoWorkers("killed")
  }

  @Test func nothingOutlivesAParentKilledWhileStarting() async throws {
    for delay in [20, 60, 120, 250] {
      let running = try Product.Running(["run", "-c", try models.cluster("young"), "--prompt", "Tell me"] + long)
      try await Task.sleep(for: .milliseconds(delay))
      running.send(SIGKILL)
      _ = try await running.result()
      try await expectNoWorkers("young")
    }
    // Those may have come before there was any worker: here the first has just begun, or is loading its model.
    for delay in [0, 30] {
      let running = try Product.Running(["run", "-c", try models.cluster("young"), "--prompt", "Tell me"] + long)
      try await running.wait("the first worker") { !Product.workers(dialling: "young.sock").isEmpty }
      try await Task.sleep(for: .milliseconds(delay))
      #expect(running.isRunning)
      running.send(SIGKILL)
      _ = try await running.result()
      try await expectNoWorkers("young")
    }
  }

  @Test func aClosedPipeEndsIt() async throws {
    let running = try Product.Running(
      [
        "-c", "\"$@\" | head -c 5; exit 0", "sh", Product.path, "run", "-c", try models.cluster("pipe"), "--prompt",
        "x",
      ] + long,
      executable: "/bin/sh")
    let result = try await running.result()
    #expect(result.output.utf8.count == 5)
    #expect(result.errors.contains("stdout was closed"))
    try await expectNoWorkers("pipe")
  }

  /// A replica that dies in mid-answer is replaced, and the text stays the same.
  @Test func aKilledWorkerChangesNothing() async throws {
    // Without hedges, which count as failovers too.
    let file = try models.cluster(
      "failover", more: "supervision: { back_off: 50ms }\nfaults: { hedge_share: 0 }", replicas: 2)
    let arguments = ["run", "-c", file, "--format", "json", "--max-tokens", "600"] + long.dropFirst(2)
    // Both are answered at once: when the first is there, the second is in its middle.
    let prompts = "{\"prompt\":\"a\",\"max_tokens\":60}\nTell me\n"
    let calm = try await Product.run(arguments, input: prompts)
    #expect(calm.code == 0, "\(calm.errors)")
    let expected = try AnswerObject.list(calm.output)
    #expect(expected.map(\.tokens.count) == [60, 600])
    let running = try Product.Running(arguments, input: prompts)
    try await running.wait("the first answer") { running.outputSoFar.contains("\n") }
    let victims = ToyModels.experts.map { Product.workers(dialling: "failover.sock", of: $0).sorted() }
    try #require(victims.allSatisfy { $0.count == 2 }, "\(victims)")
    // Which replica the answer is at is not told, so all go: one of each expert, and the others once that was noticed.
    for replicas in victims { kill(replicas[0], SIGKILL) }
    try await running.wait("the end of three workers") {
      running.errorsSoFar.components(separatedBy: "worker ended").count > 3
    }
    for replicas in victims { kill(replicas[1], SIGKILL) }
    #expect(running.outputSoFar.split(separator: "\n").count == 1, "the answer had ended before its replicas")
    let result = try await running.result()
    #expect(result.code == 0, "\(result.errors)")
    let answers = try AnswerObject.list(result.output)
    #expect(answers.map(\.finish_reason) == ["length", "length"])
    #expect(answers.map(\.text) == expected.map(\.text))
    #expect(answers.map { $0.tokens.map(\.id) } == expected.map { $0.tokens.map(\.id) })
    #expect(answers.last?.failovers ?? 0 >= 1, "no replica in use died: \(result.errors)")
  }

  @Test func aPortInUse() async throws {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(descriptor) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = in_addr_t(0x7F00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let isBound = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, length) == 0 && listen(descriptor, 1) == 0 && getsockname(descriptor, $0, &length) == 0
      }
    }
    try #require(isBound)
    let endpoint = "tcp://127.0.0.1:\(UInt16(bigEndian: address.sin_port))"
    let file = try models.cluster("port", more: "listen: { workers: \"\(endpoint)\" }")
    let result = try await Product.run(["run", "-c", file, "--prompt", "x"])
    #expect(result.code == 69 && result.errors.contains(endpoint), "\(result.errors)")
  }

  @Test func noWorkerComes() async throws {
    let file = try models.cluster("alone", more: "start_wait: 500ms")
    let result = try await Product.run(["run", "-c", file, "--attach", "--prompt", "x"])
    #expect(result.code == 69 && result.errors.contains("\"ant\", \"bee\", \"cat\""), "\(result.errors)")
  }

  @Test func freePorts() async throws {
    let file = try models.cluster("free", more: "listen: { workers: \"tcp://127.0.0.1:*\" }")
    let result = try await Product.run(["run", "-c", file, "--prompt", "x", "--max-tokens", "4"])
    #expect(result.code == 0, "\(result.errors)")
  }
}

/// Workers that are started apart from the coordinator.
@Suite(.serialized) struct AttachTests {
  let models: ToyModels

  init() throws { models = try ToyModels.shared.get() }

  /// Two hosts on this machine, keys and all.
  @Test func workersOfTwoHostsWithKeys() async throws {
    let keys = try await Product.run(["keys", models.path("keys"), "--worker", "east", "--worker", "west"])
    #expect(keys.code == 0, "\(keys.errors)")
    #expect(try await Product.run(["keys", models.path("keys"), "--worker", "east"]).code == 65)
    let more = """
      listen: { workers: "ipc://attach.sock" }
      hosts: [{ name: east, address: localhost, threads: 2 }, { name: west, address: 127.0.0.1 }]
      security: { keys: keys }
      """
    let file = try models.cluster("attach", more: more)
    let local = try await Product.run(["run", "-c", file, "--prompt", "Hello", "--max-tokens", "20"])
    #expect(local.code == 0, "\(local.errors)")
    let hosts = try ["east", "west"].map { try Product.Running(["workers", "-c", file, "--host", $0]) }
    let attached = try await Product.run(["run", "-c", file, "--attach", "--prompt", "Hello", "--max-tokens", "20"])
    #expect(attached.code == 0 && attached.output == local.output, "\(attached.errors)")
    #expect(Product.workers(dialling: "attach.sock").count == 3, "workers outlive one run")
    // A worker that is killed comes back.
    let before = Set(Product.workers(dialling: "attach.sock"))
    if let victim = before.first { kill(victim, SIGKILL) }
    let again = try await Product.run(["run", "-c", file, "--attach", "--prompt", "Hello", "--max-tokens", "20"])
    #expect(again.code == 0 && again.output == local.output, "\(again.errors)")
    #expect(Set(Product.workers(dialling: "attach.sock")) != before)
    hosts[0].send(SIGTERM)
    #expect(try await hosts[0].result().code == 0)
    hosts[1].send(SIGKILL)
    _ = try await hosts[1].result()
    for _ in 0..<300 where !Product.workers(dialling: "attach.sock").isEmpty {
      try await Task.sleep(for: .milliseconds(10))
    }
    #expect(Product.workers(dialling: "attach.sock").isEmpty)
  }

  @Test func mistakesOfWorkers() async throws {
    let file = try models.cluster(
      "hosts",
      more: """
        listen: { workers: "ipc://hosts.sock" }
        hosts: [{ name: east, address: localhost, threads: 1 }, { name: west, address: 127.0.0.1 }]
        """)
    let unnamed = try await Product.run(["workers", "-c", file])
    #expect(unnamed.code == 64 && unnamed.errors.contains("--host east"), "\(unnamed.errors)")
    let unknown = try await Product.run(["workers", "-c", file, "--host", "eats"])
    #expect(unknown.code == 65 && unknown.errors.contains("did you mean \"east\"?"), "\(unknown.errors)")
    // Contexts of several threads need cores of their own; those of one thread may share.
    let wide = try models.cluster(
      "wide-host",
      more: """
        listen: { workers: "ipc://hosts.sock" }
        hosts: [{ name: east, address: localhost, threads: 1 }, { name: west, address: 127.0.0.1 }]
        """)
    try String(contentsOfFile: wide, encoding: .utf8)
      .replacing("ant: { model: ant.gguf,", with: "ant: { model: ant.gguf, threads: 2, host: east,")
      .write(toFile: wide, atomically: true, encoding: .utf8)
    let crowded = try await Product.run(["workers", "-c", wide, "--host", "east"])
    #expect(crowded.code == 65 && crowded.errors.contains("2 threads"), "\(crowded.errors)")
    let remote = try await Product.run([
      "worker", "--expert", "ant", "--model", models.path("ant.gguf"), "--coordinator", "tcp://192.0.2.1:5570",
    ])
    #expect(remote.code == 65 && remote.errors.contains("--keys"), "\(remote.errors)")
  }

  @Test func hopelessWorkersEndTheirSupervisor() async throws {
    try Data("junk".utf8).write(to: URL(fileURLWithPath: models.path("junk.gguf")))
    let text = """
      router: { model: router.gguf, head: head.gguf }
      experts: { ant: { model: junk.gguf } }
      listen: { workers: "ipc://junk.sock" }
      """
    try text.write(toFile: models.path("junk.yaml"), atomically: true, encoding: .utf8)
    let result = try await Product.run(["workers", "-c", models.path("junk.yaml")])
    #expect(result.code == 65 && result.errors.contains("junk.gguf"), "\(result.errors)")
  }

  @Test func anOrphanEndsByItself() async throws {
    let result = try await Product.run([
      "worker", "--expert", "ant", "--model", models.path("ant.gguf"), "--coordinator",
      "ipc://\(models.path("nobody.sock"))", "--orphan-after", "1s",
    ])
    #expect(result.code == 69 && result.errors.contains("no coordinator has been heard from"), "\(result.errors)")
  }
}

import Core
import Foundation
import Testing

@testable import fusionroute

/// `plan`, `up` and `down` with other hosts, and `workers` in the background.
@Suite(.serialized) struct FleetCommandTests {
  let models: ToyModels

  init() throws { models = try ToyModels.shared.get() }

  /// A folder of its own with an `ssh` that runs the command here, as another host would: with notes of its own.
  private func stage(_ name: String) throws -> (environment: [String: String], log: String) {
    let folder = models.path("stage-\(name)")
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    try """
    #!/bin/sh
    echo "$@" >>"\(folder)/ssh.log"
    for last; do :; done
    FUSIONROUTE_STATE="\(folder)/far" exec sh -c "$last"
    """.write(toFile: "\(folder)/ssh", atomically: true, encoding: .utf8)
    try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: "\(folder)/ssh")
    let path = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin"
    return (["PATH": "\(folder):\(path)", "FUSIONROUTE_STATE": "\(folder)/near"], "\(folder)/ssh.log")
  }

  /// A host, and workers that do not wait long for anybody to take over.
  private static let far = "supervision: { grace: 500ms }\nhosts: [{ name: far, address: localhost }]\n"

  private static func until(_ what: String, _ condition: () -> Bool) async throws {
    for _ in 0..<1500 where !condition() { try await Task.sleep(for: .milliseconds(20)) }
    #expect(condition(), "\(what)")
  }

  /// One that has ended may be in the table of processes still: whoever inherited it has not asked how it ended.
  private static func hasEnded(_ pid: Int32) -> Bool {
    kill(pid, 0) != 0 || (try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8))?.contains(") Z ") == true
  }

  private static func url(_ up: Product.Running) async throws -> String {
    try await up.wait("the address") { up.outputSoFar.contains("API") }
    let line = up.outputSoFar.split(separator: "\n").first { $0.hasPrefix("page") } ?? ""
    return String(line.dropFirst(4)).trimmingCharacters(in: .whitespaces)
  }

  @Test func plansAreShown() async throws {
    let file = try models.cluster(
      "plan",
      more: """
        listen: { workers: "ipc://plan.sock" }
        hosts:
          - { name: here, launcher: local, threads: 2 }
          - { name: far, address: localhost, launcher: ssh, threads: 8, memory: 8GiB }
        """, context: 256)
    let text = try await Product.run(["plan", "-c", file])
    #expect(text.code == 0, "\(text.errors)")
    for part in ["3 replicas on 2 hosts", "ant.0", "far", "ssh", "local", "of 8 GiB"] {
      #expect(text.output.contains(part), "\(part) in \(text.output)")
    }
    let json = try await Product.run(["plan", "-c", file, "--format", "json"])
    let object = try #require(try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: Any])
    #expect(object["fits"] as? Bool == true)
    let rows = try #require(object["replicas"] as? [[String: Any]])
    #expect(rows.compactMap { $0["expert"] as? String } == ["ant", "bee", "cat"])
    #expect(rows.allSatisfy { ($0["bytes"] as? Int ?? 0) > 1 << 20 && $0["why"] is String })
    #expect(try await Product.run(["plan", "-c", file, "--render", "slurm"]).code == 64)
    let none = try await Product.run(["plan", "-c", file, "--render", "slurm", models.path("none")])
    #expect(none.code == 65 && none.errors.contains("launcher: slurm"), "\(none.errors)")
  }

  @Test func whatDoesNotFitIsNamed() async throws {
    let file = try models.cluster(
      "small",
      more: """
        listen: { workers: "ipc://small.sock" }
        hosts: [{ name: far, address: localhost, launcher: ssh, memory: 1MiB }]
        """)
    let text = try await Product.run(["plan", "-c", file])
    #expect(text.code == 69, "\(text.errors)")
    #expect(
      text.errors.contains("replica 0 of the expert \"ant\" fits no host")
        && text.errors.contains("on \"far\" it needs")
        && text.errors.contains("(1048576 bytes) are left"), "\(text.errors)")
    let json = try await Product.run(["plan", "-c", file, "--format", "json"])
    let object = try #require(try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: Any])
    let hosts = try #require(object["hosts"] as? [[String: Any]])
    #expect(object["fits"] as? Bool == false && object["expert"] as? String == "ant")
    #expect(hosts[0]["free_bytes"] as? Int == 1 << 20 && hosts[0]["needed_bytes"] as? Int ?? 0 > 1 << 20)
    #expect(try await Product.run(["up", "-c", file]).code == 69)
  }

  @Test func workersInTheBackground() async throws {
    let more = "listen: { workers: \"ipc://back.sock\" }\n" + Self.far
    let file = try models.cluster("back", more: more, context: 256)
    let environment = ["FUSIONROUTE_STATE": models.path("state-back")]
    func workers(_ arguments: String...) async throws -> Product.Result {
      try await Product.run(["workers", "-c", file, "--host", "far"] + arguments, environment: environment)
    }
    let first = try await workers("--replicas", "ant=2", "--detach")
    #expect(first.code == 0 && first.output.hasPrefix("started "), "\(first.errors)")
    let pid = try #require(Int32(first.output.split(whereSeparator: \.isWhitespace).last ?? ""))
    #expect(kill(pid, 0) == 0)
    try await Self.until("two workers run") { Product.workers(dialling: "back.sock").count == 2 }
    let second = try await workers("--replicas", "ant=2", "--detach")
    #expect(second.output == "running \(pid)\n", "\(second)")
    // Other numbers are changed without a restart: the replica that stays is the same process.
    let before = Set(Product.workers(dialling: "back.sock"))
    let adjusted = try await workers("--replicas", "ant=1", "--replicas", "bee=1", "--detach")
    #expect(adjusted.output == "adjusted \(pid)\n", "\(adjusted)")
    try await Self.until("one worker stays and another comes") {
      let now = Set(Product.workers(dialling: "back.sock"))
      return now.count == 2 && now.intersection(before).count == 1
    }
    let unknown = try await workers("--replicas", "elk=1", "--detach")
    #expect(unknown.code == 69 && unknown.errors.contains("names no expert \"elk\""), "\(unknown.errors)")
    // Other settings take its place.
    let other = try await workers("--replicas", "bee=1", "--log-level", "debug", "--detach")
    #expect(other.output.hasPrefix("replaced "), "\(other)")
    try await Self.until("one worker runs") { Product.workers(dialling: "back.sock").count == 1 }
    try await Self.until("the first one has ended") { Self.hasEnded(pid) }
    #expect(try await workers("--stop").output == "stopped\n")
    #expect(Product.workers(dialling: "back.sock").isEmpty)
    #expect(try await workers("--stop").output == "not running\n")
    // What it would say in the foreground is what the starter is told.
    let wrong = try await workers("--replicas", "elk=1", "--detach")
    #expect(wrong.code == 65 && wrong.errors.contains("names no expert \"elk\""), "\(wrong.errors)")
    #expect(try await workers("--stop").output == "not running\n")
    #expect(try await workers("--replicas", "ant=0", "--detach").code == 64)
    #expect(try await workers("--replicas", "ant=1", "--replicas", "ant=2").code == 64)
  }

  /// `down` over ssh stops a host whose cluster file cannot be read any more.
  @Test func stopsWhateverBecameOfTheClusterFile() async throws {
    let changes: [(String, String?)] = [("edited", "experts: ["), ("removed", nil)]
    for (name, text) in changes {
      let more = "listen: { workers: \"ipc://\(name).sock\" }\n" + Self.far
      let file = try models.cluster(name, more: more, context: 256)
      let environment = ["FUSIONROUTE_STATE": models.path("state-\(name)")]
      let arguments = ["workers", "-c", file, "--host", "far"]
      let started = try await Product.run(
        arguments + ["--replicas", "ant=1", "--detach"], environment: environment)
      let pid = try #require(Int32(started.output.split(whereSeparator: \.isWhitespace).last ?? ""), "\(started)")
      try await Self.until("the worker runs") { Product.workers(dialling: "\(name).sock").count == 1 }
      if let text {
        try text.write(toFile: file, atomically: true, encoding: .utf8)
      } else {
        try FileManager.default.removeItem(atPath: file)
      }
      let stopped = try await Product.run(arguments + ["--stop"], environment: environment)
      #expect(stopped.code == 0 && stopped.output == "stopped\n", "\(name): \(stopped.errors)")
      if stopped.code != 0 { kill(pid, SIGKILL) }
      try await Self.until("it ends") { Self.hasEnded(pid) && Product.workers(dialling: "\(name).sock").isEmpty }
    }
  }

  @Test func startsTheSameOnceAtATime() async throws {
    let more = "listen: { workers: \"ipc://once.sock\" }\n" + Self.far
    let file = try models.cluster("once", more: more, context: 256)
    let environment = ["FUSIONROUTE_STATE": models.path("state-once")]
    let arguments = ["workers", "-c", file, "--host", "far", "--replicas", "ant=1"]
    let starts = try (0..<4).map { _ in try Product.Running(arguments + ["--detach"], environment: environment) }
    var pids: Set<Substring> = []
    for start in starts {
      let result = try await start.result()
      #expect(result.code == 0, "\(result.errors)")
      pids.insert(result.output.split(whereSeparator: \.isWhitespace).last ?? "")
    }
    #expect(pids.count == 1, "\(pids)")
    try await Self.until("one worker runs") { Product.workers(dialling: "once.sock").count == 1 }
    #expect(try await Product.run(arguments + ["--stop"], environment: environment).output == "stopped\n")
  }

  @Test func upAndDownOverSSH() async throws {
    let (environment, log) = try stage("ssh")
    let more = """
      listen: { http: "127.0.0.1:*", workers: "ipc://fleet.sock" }
      supervision: { grace: 500ms }
      hosts:
        - { name: here, launcher: local }
        - { name: far, address: localhost, launcher: ssh }
      """
    let file = try models.cluster("fleet", more: more, context: 512)
    let up = try Product.Running(["up", "-c", file], environment: environment)
    let url = try await Self.url(up)
    let service = ["generate", "--url", url, "--prompt", "Hello", "--max-tokens", "12", "--temperature", "0"]
    try await Self.until("all three workers run") { Product.workers(dialling: "fleet.sock").count == 3 }
    let answer = try await Product.run(service)
    #expect(answer.code == 0, "\(answer.errors)\n\(up.errorsSoFar)")
    let alone = try models.cluster("fleet-alone", context: 512)
    let local = try await Product.run(
      ["run", "-c", alone, "--prompt", "Hello", "--max-tokens", "12", "--temperature", "0"])
    #expect(local.code == 0 && local.output == answer.output, "\(local.errors)")
    #expect(up.errorsSoFar.contains("host started"), "\(up.errorsSoFar)")

    let second = try await Product.run(["up", "-c", file], environment: environment)
    #expect(second.code == 69 && second.errors.contains("is up already"), "\(second.errors)")

    // Killed, it leaves the far workers and the note of them.
    up.send(SIGKILL)
    _ = try await up.result()
    try await Self.until("its own workers ended") { Product.workers(dialling: "fleet.sock").count < 3 }
    #expect(!Product.workers(dialling: "fleet.sock").isEmpty)
    let down = try await Product.run(["down", "-c", file], environment: environment)
    #expect(down.code == 0, "\(down.errors)")
    #expect(Product.workers(dialling: "fleet.sock").isEmpty)
    let again = try await Product.run(["down", "-c", file], environment: environment)
    #expect(again.code == 0 && again.errors.contains("nothing of this cluster is up"), "\(again.errors)")
    let mistyped = try await Product.run(["down", "-c", file + "x"], environment: environment)
    #expect(mistyped.code == 65 && mistyped.errors.contains("there is no such file"), "\(mistyped)")
    let lines = try String(contentsOfFile: log, encoding: .utf8).split(separator: "\n")
    #expect(lines.filter { $0.hasSuffix("--detach") }.count == 1 && lines.filter { $0.hasSuffix("--stop") }.count == 1)
  }

  /// Replicas go to this machine and to another one, and leave them, while the answer stays the same.
  @Test func scalesOverHosts() async throws {
    let (environment, log) = try stage("scale")
    let more = """
      listen: { http: "127.0.0.1:*", workers: "ipc://scaled.sock" }
      supervision: { grace: 2s }
      hosts:
        - { name: here, launcher: local }
        - { name: far, address: localhost, launcher: ssh }
      """
    let file = try models.cluster("scaled", more: more, context: 256)
    var text = try String(contentsOfFile: file, encoding: .utf8)
    for (expert, host) in [("ant", "[here, far]"), ("bee", "far"), ("cat", "far")] {
      text = text.replacing("model: \(expert).gguf,", with: "model: \(expert).gguf, host: \(host),")
    }
    try text.write(toFile: file, atomically: true, encoding: .utf8)
    let up = try Product.Running(["up", "-c", file], environment: environment)
    let url = try await Self.url(up)
    func scale(_ expert: String, _ count: Int) async throws -> Product.Result {
      try await Product.run(["scale", "--url", url, "\(expert)=\(count)"])
    }
    func serving(_ expert: String) async throws -> Int {
      let status = try await Product.run(["status", "--url", url, "--format", "json"])
      let object = try JSONSerialization.jsonObject(with: Data(status.output.utf8)) as? [String: Any]
      let experts = object?["experts"] as? [[String: Any]] ?? []
      let replicas = experts.first { $0["name"] as? String == expert }?["replicas"] as? [[String: Any]] ?? []
      return replicas.filter { $0["state"] as? String == "serving" }.count
    }
    func until(_ expert: String, _ count: Int) async throws {
      for _ in 0..<1_000 {
        if try await serving(expert) == count { return }
        try await Task.sleep(for: .milliseconds(20))
      }
      Issue.record("\(expert) has not \(count) replicas\n\(up.errorsSoFar)")
    }
    try await until("ant", 1)
    try await until("bee", 1)
    // One here; the other machine has none of it so far.
    let two = try await scale("ant", 2)
    #expect(two.code == 0 && two.output == "ant on far (ssh): 0 to 1 replica\n", "\(two.output) \(two.errors)")
    try await until("ant", 2)
    let four = try await scale("ant", 4)
    #expect(
      four.code == 0 && four.output == "ant.1 starts\nant on far (ssh): 1 to 2 replicas\n",
      "\(four.output) \(four.errors)")
    try await until("ant", 4)
    #expect(try await scale("ant", 4).output == "ant has 4 already\n")
    let one = try await scale("ant", 1)
    #expect(one.code == 0 && one.output.contains("ant on far (ssh): 2 to "), "\(one)")
    try await until("ant", 1)
    let none = try await scale("ant", 0)
    #expect(none.code == 0, "\(none)")
    try await until("ant", 0)
    #expect(try await scale("ant", 2).code == 0)
    try await until("ant", 2)
    // A host that is out of reach is passed over as long as another can take the replica.
    try FileManager.default.moveItem(atPath: log.replacing("ssh.log", with: "ssh"), toPath: log + ".away")
    try "#!/bin/sh\necho 'no route to host' >&2\nexit 255\n".write(
      toFile: log.replacing("ssh.log", with: "ssh"), atomically: true, encoding: .utf8)
    try FileManager.default.setAttributes(
      [.posixPermissions: 0o755], ofItemAtPath: log.replacing("ssh.log", with: "ssh"))
    let around = try await scale("ant", 5)
    #expect(around.code == 0 && !around.output.contains("far"), "\(around)")
    try await until("ant", 5)
    try FileManager.default.removeItem(atPath: log.replacing("ssh.log", with: "ssh"))
    try FileManager.default.moveItem(atPath: log + ".away", toPath: log.replacing("ssh.log", with: "ssh"))
    up.send(SIGTERM)
    #expect(try await up.result().code == 0)
    #expect(Product.workers(dialling: "scaled.sock").isEmpty)
  }

  @Test func downEndsUpAndItsHosts() async throws {
    let (environment, _) = try stage("down")
    let more = """
      listen: { http: "127.0.0.1:*", workers: "ipc://ends.sock" }
      supervision: { grace: 500ms }
      hosts: [{ name: far, address: localhost, launcher: ssh }]
      """
    let file = try models.cluster("ends", more: more, context: 256)
    let up = try Product.Running(["up", "-c", file], environment: environment)
    _ = try await Self.url(up)
    try await Self.until("the workers run") { Product.workers(dialling: "ends.sock").count == 3 }
    let down = try await Product.run(["down", "-c", file], environment: environment)
    #expect(down.code == 0, "\(down.errors)")
    #expect(try await up.result().code == 0)
    #expect(Product.workers(dialling: "ends.sock").isEmpty)
  }

  @Test func aHostThatCannotBeReachedIsNamed() async throws {
    let folder = models.path("stage-broken")
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    try "#!/bin/sh\necho 'ssh: connect to host localhost port 22: Connection refused' >&2\nexit 255\n"
      .write(toFile: "\(folder)/ssh", atomically: true, encoding: .utf8)
    try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: "\(folder)/ssh")
    let path = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin"
    let file = try models.cluster(
      "broken",
      more: """
        listen: { http: "127.0.0.1:*", workers: "ipc://broken.sock" }
        hosts: [{ name: far, address: localhost, launcher: ssh }]
        """, context: 256)
    let environment = ["PATH": "\(folder):\(path)", "FUSIONROUTE_STATE": "\(folder)/state"]
    let up = try await Product.run(["up", "-c", file], environment: environment)
    #expect(up.code == 69, "\(up.errors)")
    #expect(up.errors.contains("the host \"far\": `ssh ") && up.errors.contains("Connection refused"), "\(up.errors)")
  }
}

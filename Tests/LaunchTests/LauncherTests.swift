import Core
import Foundation
import Synchronization
import Testing
import Yams

@testable import Launch

/// Orders and launchers without a cluster.
enum Orders {
  static func order(
    _ name: String, _ launcher: ClusterFile.Launcher,
    _ replicas: [HostOrder.Replicas] = [.init(expert: "math", count: 2, bytes: 3 << 30)],
    bytes: UInt64 = 3 << 30, cluster: String = "/srv/c/cluster.yaml",
    _ change: (inout ClusterFile.Host) -> Void = { _ in }
  ) -> HostOrder {
    var host = ClusterFile.Host(name: name, address: "10.0.0.11", launcher: launcher)
    change(&host)
    return HostOrder(host: host, replicas: replicas, bytes: bytes, program: "/usr/bin/fusionroute", cluster: cluster)
  }
}

/// Plays Slurm or a far shell: notes commands, answers from a closure.
private final class Stage: Sendable {
  private let noted = Mutex<[HostCommand]>([])
  private let answer: @Sendable (HostCommand) throws -> CommandResult

  init(_ answer: @escaping @Sendable (HostCommand) throws -> CommandResult) { self.answer = answer }

  var commands: [HostCommand] { noted.withLock { $0 } }
  var run: CommandRunner {
    { command in
      self.noted.withLock { $0.append(command) }
      return try self.answer(command)
    }
  }
}

private func ok(_ output: String = "") -> CommandResult { CommandResult(exit: .code(0), output: output, errors: "") }

@Suite struct SSHLauncherTests {
  @Test func commandLines() {
    let plain = SSHLauncher.startCommand(Orders.order("gpu1", .ssh))
    #expect(
      plain.line
        == "ssh -T -o 'BatchMode=yes' -o 'ConnectTimeout=10' -o 'ServerAliveInterval=5' -o 'ServerAliveCountMax=3' "
        + "-o 'ForwardAgent=no' -o 'ForwardX11=no' -o 'ClearAllForwardings=yes' -o 'PermitLocalCommand=no' -- 10.0.0.11 "
        + "'/usr/bin/fusionroute workers -c /srv/c/cluster.yaml --host gpu1 --replicas '\\''math=2'\\'' --log-level info --detach'"
    )
    let order = Orders.order("gpu1", .ssh) { host in
      host.program = "/opt/it's here/fusionroute"
      host.clusterPath = "/data/$x/c.yaml"
      host.ssh.user = "ai"
      host.ssh.port = 2222
      host.ssh.identity = "/root/.ssh/id"
      host.ssh.knownHosts = "/root/known hosts"
    }
    let stop = SSHLauncher.stopCommand(order)
    #expect(
      stop.line.contains(
        "-o 'StrictHostKeyChecking=yes' -o 'UserKnownHostsFile=\"/root/known hosts\"' -o 'IdentitiesOnly=yes' "
          + "-i /root/.ssh/id -l ai -p 2222 -- 10.0.0.11 "))
    #expect(
      Array(stop.arguments.suffix(3)) == [
        "--", "10.0.0.11",
        "'/opt/it'\\''s here/fusionroute' workers -c '/data/$x/c.yaml' --host gpu1 --stop",
      ])
  }

  /// Through a real shell to a real program whose path a shell would take apart.
  @Test func argumentsArriveAsTheyAre() async throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
      "it's $(a) `b` \"c\" \(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let program = folder.appendingPathComponent("fusion route").path
    try "#!/bin/sh\nprintf '%s\\n' \"$@\" >\"$0.arguments\"\necho started 4711\n"
      .write(toFile: program, atomically: true, encoding: .utf8)
    try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: program)
    let order = Orders.order("gpu1", .ssh) { $0.program = program }
    let shell: CommandRunner = { command in
      try await SystemCommands.run(HostCommand("sh", ["-c", command.arguments.last ?? ""]))
    }
    var record = LaunchRecord(launcher: .ssh, orders: [order], name: "n")
    #expect(try await SSHLauncher(run: shell).start(&record) == .started("process 4711"))
    let arguments = try String(contentsOfFile: program + ".arguments", encoding: .utf8)
    #expect(
      arguments.split(separator: "\n") == [
        "workers", "-c", "/srv/c/cluster.yaml", "--host", "gpu1", "--replicas", "math=2", "--log-level", "info",
        "--detach",
      ])
  }

  @Test func failuresNameHostAndCommand() async throws {
    let stage = Stage { _ in CommandResult(exit: .code(255), output: "", errors: "Permission denied (publickey).\n") }
    var record = LaunchRecord(launcher: .ssh, orders: [Orders.order("gpu1", .ssh)], name: "n")
    do {
      _ = try await SSHLauncher(run: stage.run).start(&record)
      Issue.record("it was started")
    } catch let error as FusionRouteError {
      #expect(error.code == .unavailable)
      #expect(error.message.hasPrefix("the host \"gpu1\": `ssh -T "), "\(error)")
      #expect(error.message.hasSuffix("ended with exit code 255: Permission denied (publickey)."), "\(error)")
    }
    #expect(record.phase == .starting)
  }

  @Test func aSecondStartFindsTheFirst() async throws {
    var record = LaunchRecord(launcher: .ssh, orders: [Orders.order("gpu1", .ssh)], name: "n")
    let outcome = try await SSHLauncher(run: Stage { _ in ok("motd of the day\nrunning 7\n") }.run).start(&record)
    #expect(outcome == .running("process 7"))
    do {
      _ = try await SSHLauncher(run: Stage { _ in ok("hello\n") }.run).start(&record)
      Issue.record("anything was taken for an answer")
    } catch let error as FusionRouteError { #expect(error.message.contains("did not say what it started")) }
  }
}

@Suite struct SlurmLauncherTests {
  @Test func script() async throws {
    let orders = [
      Orders.order("n1", .slurm, [.init(expert: "math", count: 1, threads: 2), .init(expert: "code", count: 1)]) {
        $0.threads = 8
        $0.memory = 16 << 30
        $0.slurm.partition = "gpu"
        $0.slurm.account = "lab"
        $0.slurm.options = ["--exclusive", "--time=1-00:00:00"]
      },
      Orders.order("n 2'", .slurm) { $0.memory = 16 << 30 },
    ]
    let text = SlurmScript.text(orders, name: "fusionroute-x")
    for line in [
      "#!/bin/sh", "#SBATCH --job-name=fusionroute-x", "#SBATCH --array=0-1", "#SBATCH --cpus-per-task=8",
      "#SBATCH --mem=16384M", "#SBATCH --partition=gpu", "#SBATCH --account=lab", "#SBATCH --exclusive",
      "#SBATCH --time=1-00:00:00", "cd -- /srv/c || exit 69",
      "0) exec /usr/bin/fusionroute workers -c /srv/c/cluster.yaml --host n1 --replicas 'math=1' --replicas 'code=1' "
        + "--log-level info ;;",
    ] { #expect(text.split(separator: "\n").contains(Substring(line)), "\(line) in\n\(text)") }
    #expect(text.contains("--host 'n 2'\\'''"))
    // A shell understands it, and takes the branch of its task.
    let echo = text.replacing("exec ", with: "printf '%s|' ").replacing("cd -- /srv/c", with: "cd -- /")
    let result = try await SystemCommands.run(
      HostCommand("sh", ["-s"], input: "SLURM_ARRAY_TASK_ID=1\n" + echo))
    #expect(
      result.output
        == "/usr/bin/fusionroute|workers|-c|/srv/c/cluster.yaml|--host|n 2'|--replicas|math=2|--log-level|info|",
      "\(result)")
    // All directives come before the first command, where sbatch stops reading them.
    let lines = text.split(separator: "\n")
    let last = try #require(lines.lastIndex { $0.hasPrefix("#SBATCH") })
    #expect(lines[...last].allSatisfy { $0.hasPrefix("#") })
  }

  @Test func tasksOfOneArrayAreAlike() {
    let a = Orders.order("a", .slurm)
    let b = Orders.order("b", .slurm)
    let large = Orders.order("c", .slurm) { $0.memory = 1 << 40 }
    let other = Orders.order("d", .slurm) { $0.slurm.partition = "p" }
    #expect(SlurmScript.groups([a, large, b, other]).map { $0.map(\.host.name) } == [["a", "b"], ["c"], ["d"]])
    #expect(!SlurmScript.text([Orders.order("a", .slurm, bytes: 0)], name: "n").contains("--mem"))
  }

  @Test func submitsOnceAndCancels() async throws {
    let jobs = Mutex<Set<String>>([])
    let stage = Stage { command in
      switch command.program {
      case "sbatch":
        jobs.withLock { _ = $0.insert("12") }
        return ok("12;cluster\n")
      case "scancel":
        jobs.withLock { _ = $0.remove(command.arguments.last ?? "") }
        return ok()
      default: return ok(jobs.withLock { $0.sorted().map { $0 + "\n" + $0 + "\n" }.joined() })
      }
    }
    let launcher = SlurmLauncher(run: stage.run)
    var record = LaunchRecord(launcher: .slurm, orders: [Orders.order("n1", .slurm)], name: "fusionroute-abc-n1")
    #expect(try await launcher.start(&record) == .started("job 12"))
    #expect(record.job == "12" && record.phase == .running)
    #expect(try await launcher.start(&record) == .running("job 12"))
    try await launcher.stop(record)
    #expect(jobs.withLock { $0.isEmpty })
    #expect(stage.commands.filter { $0.program == "sbatch" }.count == 1)
    #expect(stage.commands.filter { $0.program == "scancel" }.map(\.arguments) == [["--", "12"]])
    #expect(stage.commands[0].line == "squeue --noheader '--format=%F %j' --me")
  }
}

@Suite struct FleetTests {
  private func withState(_ body: (String) async throws -> Void) async throws {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("fleet-\(UUID().uuidString).json").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    try await body(path)
  }

  private static func answer(_ command: HostCommand) -> CommandResult {
    ok(command.arguments.last?.contains("--stop") == true ? "stopped\n" : "started 5\n")
  }

  @Test func whatIsStartedIsNotedAndStopped() async throws {
    try await withState { path in
      let stage = Stage { Self.answer($0) }
      let orders = [Orders.order("a", .ssh), Orders.order("b", .ssh), Orders.order("c", .manual)]
      let fleet = try Fleet(path: path, cluster: "/srv/c/cluster.yaml", run: stage.run, report: { _ in })
      #expect(try await fleet.start(orders).isEmpty)
      #expect(stage.commands.count == 2)
      // Another process, which knows the file alone.
      let later = try Fleet(path: path, cluster: "/srv/c/cluster.yaml", run: stage.run, report: { _ in })
      #expect(await later.records.flatMap(\.hosts) == ["a", "b"])
      #expect(await later.records.allSatisfy { $0.phase == .running })
      #expect(await later.stop().isEmpty)
      #expect(!FileManager.default.fileExists(atPath: path))
      #expect(stage.commands.suffix(2).allSatisfy { $0.arguments.last?.hasSuffix("--stop") == true })
    }
  }

  @Test func aCrashInTheMiddleLeavesATrace() async throws {
    try await withState { path in
      let seen = Mutex<[String]>([])
      // What the file says while the command runs is what a crash would leave.
      let stage = Stage { command in
        let state = try LaunchState.load(path: path, cluster: "c")
        seen.withLock { $0 += state.records.map { "\($0.hosts[0]) \($0.phase)" } }
        throw FusionRouteError.unavailable("no network")
      }
      let fleet = try Fleet(path: path, cluster: "c", run: stage.run, report: { _ in })
      #expect(try await fleet.start([Orders.order("a", .ssh)]).count == 1)
      #expect(seen.withLock { $0 } == ["a starting"])
      #expect(await fleet.records.count == 1)
      // A stop that fails keeps it too.
      #expect(await fleet.stop().count == 1)
      #expect(try LaunchState.load(path: path, cluster: "c").records.count == 1)
    }
  }

  @Test func hostsThatAreNoLongerWantedAreStopped() async throws {
    try await withState { path in
      let stage = Stage { Self.answer($0) }
      let fleet = try Fleet(path: path, cluster: "c", run: stage.run, report: { _ in })
      _ = try await fleet.start([Orders.order("a", .ssh), Orders.order("b", .ssh)])
      _ = try await fleet.start([Orders.order("b", .ssh)])
      #expect(await fleet.records.flatMap(\.hosts) == ["b"])
      #expect(stage.commands.contains { $0.arguments.last?.hasSuffix("--host a --stop") == true })
      // The same host at another address is another machine.
      _ = try await fleet.start([Orders.order("b", .ssh) { $0.address = "10.0.0.99" }])
      #expect(stage.commands.suffix(2).map { $0.arguments.suffix(2).first } == ["10.0.0.11", "10.0.0.99"])
    }
  }

  @Test func damagedNotes() async throws {
    try await withState { path in
      for text in ["", "{", "[]", "{\"version\":1}", "{\"version\":99,\"cluster\":\"c\",\"records\":[]}", "\u{0}"] {
        try text.write(toFile: path, atomically: true, encoding: .utf8)
        #expect(throws: FusionRouteError.self, "\(text)") { try LaunchState.load(path: path, cluster: "c") }
      }
    }
  }
}

import Core
import Foundation
import Synchronization
import Testing
import Yams

@testable import Launch

/// A Slurm that knows jobs and their tasks, and what each task runs.
private final class StandInSlurm: Sendable {
  struct Job {
    var name: String
    /// The command line of each task that runs.
    var tasks: [Int: String]
  }

  private struct State {
    var jobs: [String: Job] = [:]
    var next = 100
  }

  private let state = Mutex(State())

  /// Replicas of an expert on a host, over all tasks.
  func count(_ expert: String, _ host: String) -> Int {
    state.withLock { state in
      state.jobs.values.flatMap(\.tasks.values).filter { $0.contains("--host \(host) ") }.reduce(0) { sum, line in
        let words = line.split(separator: " ").map { $0.filter { $0 != "'" } }
        let counts = words.filter { $0.hasPrefix("\(expert)=") }.compactMap { Int($0.dropFirst(expert.count + 1)) }
        return sum + counts.reduce(0, +)
      }
    }
  }

  var jobs: [String: [Int]] { state.withLock { $0.jobs.mapValues { $0.tasks.keys.sorted() } } }
  var names: [String] { state.withLock { $0.jobs.values.filter { !$0.tasks.isEmpty }.map(\.name).sorted() } }

  var run: CommandRunner {
    { [self] command in
      CommandResult(exit: .code(0), output: state.withLock { Self.answer(command, &$0) }, errors: "")
    }
  }

  private static func answer(_ command: HostCommand, _ state: inout State) -> String {
    switch command.program {
    case "sbatch":
      let lines = command.input.split(separator: "\n").map(String.init)
      func option(_ name: String) -> String {
        lines.first { $0.hasPrefix("#SBATCH --\(name)=") }?.split(separator: "=", maxSplits: 1).last.map(String.init)
          ?? ""
      }
      let last = Int(option("array").split(separator: "-").last ?? "") ?? 0
      var tasks: [Int: String] = [:]
      for line in lines {
        guard let index = Int(line.prefix { $0 != ")" }), line.contains(") exec "), index <= last else { continue }
        tasks[index] = line
      }
      state.next += 1
      state.jobs["\(state.next)"] = Job(name: option("job-name"), tasks: tasks)
      return "\(state.next)\n"
    case "scancel":
      for word in command.arguments where word != "--" {
        let parts = word.split(separator: "_").map(String.init)
        if parts.count == 2, let task = Int(parts[1]) {
          state.jobs[parts[0]]?.tasks[task] = nil
        } else {
          state.jobs[word] = nil
        }
      }
      return ""
    default:
      let wanted = command.arguments.first { $0.hasPrefix("--name=") }?.dropFirst("--name=".count)
      return state.jobs.filter { wanted == nil || $0.value.name == wanted ?? "" }.flatMap { job in
        job.value.tasks.map { _ in "\(job.key) \(job.value.name)\n" }
      }.joined()
    }
  }
}

@Suite struct SlurmScaleTests {
  private static let hosts = ["n1", "n2"]

  private static func orders() -> [HostOrder] {
    hosts.map { name in
      Orders.order(name, .slurm, [.init(expert: "math", count: 2), .init(expert: "code", count: 1)]) {
        $0.threads = 4
        $0.memory = 8 << 30
      }
    }
  }

  private static func started(_ slurm: StandInSlurm) async throws -> LaunchRecord {
    var record = LaunchRecord(launcher: .slurm, orders: orders(), name: "fusionroute-abc-n1")
    _ = try await SlurmLauncher(run: slurm.run).start(&record)
    return record
  }

  /// Whatever numbers are asked for, one after the other, that many run, no other expert's change, and `stop` finds all.
  @Test(arguments: [1, 2, 3]) func anyNumbersOneAfterTheOther(_ seed: UInt64) async throws {
    print("slurm seed", seed)
    var generator = SplitMix64(seed: seed)
    let slurm = StandInSlurm()
    var record = try await Self.started(slurm)
    var wanted: [String: Int] = [:]
    for host in Self.hosts {
      wanted["math \(host)"] = 2
      wanted["code \(host)"] = 1
    }
    for round in 0..<40 {
      let expert = Bool.random(using: &generator) ? "math" : "code"
      let host = Self.hosts[Int.random(in: 0..<2, using: &generator)]
      let count = Int.random(in: 0...4, using: &generator)
      try await SlurmLauncher(run: slurm.run).setReplicas(.init(expert: expert, count: count), on: host, in: &record)
      wanted["\(expert) \(host)"] = count
      for host in Self.hosts {
        for expert in ["math", "code"] {
          #expect(
            slurm.count(expert, host) == wanted["\(expert) \(host)"], "seed \(seed), round \(round): \(expert) \(host)")
          #expect(record.count(of: expert, on: host) == wanted["\(expert) \(host)"])
        }
      }
    }
    // From the notes of another process.
    let noted = try JSONDecoder().decode(LaunchRecord.self, from: try JSONEncoder().encode(record))
    #expect(noted == record)
    try await SlurmLauncher(run: slurm.run).stop(noted)
    #expect(slurm.names.isEmpty)
  }

  @Test func oneMoreAsksForItsOwnShareOnly() async throws {
    let slurm = StandInSlurm()
    let inputs = Mutex<[String]>([])
    let run: CommandRunner = { command in
      if command.program == "sbatch" { inputs.withLock { $0.append(command.input) } }
      return try await slurm.run(command)
    }
    var record = try await Self.started(slurm)
    try await SlurmLauncher(run: run).setReplicas(
      .init(expert: "math", count: 5, bytes: 3 << 30, threads: 2), on: "n2", in: &record)
    let text = try #require(inputs.withLock { $0.first })
    for line in [
      "#SBATCH --job-name=fusionroute-abc-n1+1", "#SBATCH --array=0-2", "#SBATCH --cpus-per-task=2",
      "#SBATCH --mem=3072M",
    ] { #expect(text.split(separator: "\n").contains(Substring(line)), "\(line) in\n\(text)") }
    #expect(text.contains("--host n2 --replicas 'math=1' --log-level info"))
    // The first to go are the last that came.
    try await SlurmLauncher(run: run).setReplicas(.init(expert: "math", count: 3), on: "n2", in: &record)
    #expect(slurm.jobs == ["101": [0, 1], "102": [0]])
  }

  /// The task that runs fewer comes first; where there is no room for it, nothing changes.
  @Test func aTaskIsReplacedOnlyByOneThatRuns() {
    let both = Self.orders()[0]
    let base = SlurmTasks(addition: nil, order: both, tasks: [0])
    var single = both
    single.replicas = [.init(expert: "math", count: 1)]
    let added = SlurmTasks(addition: 0, order: single, tasks: [0, 1])
    #expect(
      SlurmReduction(of: "math", by: 1, among: [base, added]).steps
        == [.cancel(.init(addition: 0, order: single, tasks: [1]))])
    var smaller = both
    smaller.replicas[0].count = 1
    #expect(
      SlurmReduction(of: "math", by: 3, among: [base, added]).steps == [.cancel(added), .replace(base, by: smaller)])
    smaller.replicas = [.init(expert: "math", count: 2)]
    #expect(SlurmReduction(of: "code", by: 1, among: [base, added]).steps == [.replace(base, by: smaller)])
  }

  /// The cluster file's numbers hold again at the next start.
  @Test func theNextStartIsWhole() async throws {
    let slurm = StandInSlurm()
    var record = try await Self.started(slurm)
    try await SlurmLauncher(run: slurm.run).setReplicas(.init(expert: "math", count: 3), on: "n1", in: &record)
    #expect(try await SlurmLauncher(run: slurm.run).start(&record) == .running("job 101"))
    #expect(slurm.names == ["fusionroute-abc-n1"] && record.slurm == nil)
    // One of its own tasks is gone: another job takes its place.
    try await SlurmLauncher(run: slurm.run).setReplicas(.init(expert: "code", count: 0), on: "n1", in: &record)
    #expect(slurm.count("code", "n1") == 0)
    guard case .started = try await SlurmLauncher(run: slurm.run).start(&record) else {
      return #expect(Bool(false), "the first job was taken for whole")
    }
    #expect(slurm.count("code", "n1") == 1 && slurm.count("math", "n1") == 2 && slurm.count("math", "n2") == 2)
    // What a lost note does not name is found by its name.
    try await SlurmLauncher(run: slurm.run).setReplicas(.init(expert: "math", count: 4), on: "n1", in: &record)
    record.slurm = nil
    try await SlurmLauncher(run: slurm.run).stop(record)
    #expect(slurm.names.isEmpty)
  }

  /// So they do when another `up` plans anew: it knows from the notes that the job is not whole.
  @Test func theNextUpIsWhole() async throws {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("slurm-\(UUID().uuidString).json").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    let slurm = StandInSlurm()
    let first = try Fleet(path: path, cluster: "c", run: slurm.run, report: { _ in })
    #expect(try await first.start(Self.orders()).isEmpty)
    let none = Fleet.Change(order: Orders.order("n1", .slurm, []), replicas: .init(expert: "math", count: 0))
    #expect(try await first.apply([none]).isEmpty)
    #expect(slurm.count("math", "n1") == 0 && slurm.count("code", "n1") == 1)
    let later = try Fleet(path: path, cluster: "c", run: slurm.run, report: { _ in })
    #expect(try await later.start(Self.orders()).isEmpty)
    for host in Self.hosts {
      #expect(slurm.count("math", host) == 2 && slurm.count("code", host) == 1, "\(host)")
      #expect(await later.count(of: "math", on: host) == 2)
    }
    // One that is whole is left alone.
    let jobs = slurm.jobs
    #expect(try await later.start(Self.orders()).isEmpty)
    #expect(slurm.jobs == jobs)
  }
}

@Suite struct KubernetesScaleTests {
  private static func commands(
    _ expert: String, _ count: Int, isNew: Bool, maximum: Int?, text: String = KubernetesTests.text
  ) throws -> [HostCommand] {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("scale-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let file = folder.appendingPathComponent("cluster.yaml").path
    try text.write(toFile: file, atomically: true, encoding: .utf8)
    var order = KubernetesTests.order
    order.cluster = file
    order.host.kubernetes.maximumReplicas = maximum
    let replicas = HostOrder.Replicas(expert: expert, count: count)
    order.set(replicas)
    return try KubernetesLauncher.scaleCommands(order, replicas, isNew: isNew)
  }

  @Test func aDeploymentIsScaled() throws {
    #expect(
      try Self.commands("math", 4, isNew: false, maximum: nil).map(\.line)
        == ["kubectl --namespace ai scale deployment/fusionroute-pool-math '--replicas=4'"])
    #expect(
      try Self.commands("math", 0, isNew: false, maximum: 5).map(\.line)
        == ["kubectl --namespace ai scale deployment/fusionroute-pool-math '--replicas=0'"])
  }

  /// An autoscaler's least number is what it would otherwise go back to.
  @Test func anAutoscalerIsTold() throws {
    let commands = try Self.commands("math", 7, isNew: false, maximum: 5)
    #expect(commands.map { $0.arguments[2] } == ["patch", "scale"])
    let patch = try #require(commands[0].arguments.last?.dropFirst("--patch=".count))
    let object = try #require(
      try JSONSerialization.jsonObject(with: Data(patch.utf8)) as? [String: [String: Int]])
    #expect(object == ["spec": ["minReplicas": 7, "maxReplicas": 7]])
    #expect(commands[0].arguments[3] == "horizontalpodautoscaler/fusionroute-pool-math")
  }

  @Test func anExpertThatHadNoneIsApplied() throws {
    let commands = try Self.commands("Code_1", 3, isNew: true, maximum: nil)
    #expect(commands.map { $0.arguments[2] } == ["apply"])
    let objects = try compose_all(yaml: commands[0].input).map { $0 }
    let name = KubernetesLabels(KubernetesTests.order).deployment("Code_1")
    let deployment = objects.first { $0["kind"]?.string == "Deployment" && $0["metadata"]?["name"]?.string == name }
    #expect(deployment?["spec"]?["replicas"]?.int == 3)
    #expect(try Self.commands("Code_1", 3, isNew: true, maximum: 5).map { $0.arguments[2] } == ["apply", "scale"])
  }
}

@Suite struct FleetScaleTests {
  private static func change(_ host: String, _ expert: String, _ count: Int) -> Fleet.Change {
    Fleet.Change(order: Orders.order(host, .ssh, []), replicas: .init(expert: expert, count: count))
  }

  private func withFleet(
    _ answer: @escaping @Sendable (HostCommand) throws -> CommandResult,
    _ body: (Fleet, String, @Sendable () -> [HostCommand]) async throws -> Void
  ) async throws {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("fleet-\(UUID().uuidString).json").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    let commands = Mutex<[HostCommand]>([])
    let fleet = try Fleet(
      path: path, cluster: "c",
      run: { command in
        commands.withLock { $0.append(command) }
        return try answer(command)
      }, report: { _ in })
    try await body(fleet, path) { commands.withLock { $0 } }
  }

  private static func ok(_ command: HostCommand) -> CommandResult {
    let text = command.arguments.last?.contains("--stop") == true ? "stopped\n" : "started 5\n"
    return CommandResult(exit: .code(0), output: text, errors: "")
  }

  @Test func hostsAreChangedStartedAndEmptied() async throws {
    try await withFleet({ Self.ok($0) }) { fleet, path, commands in
      _ = try await fleet.start([Orders.order("a", .ssh)])
      #expect(await fleet.count(of: "math", on: "a") == 2)
      #expect(await fleet.count(of: "math", on: "b") == 0)
      // One that runs, and one that has nothing yet.
      #expect(try await fleet.apply([Self.change("a", "math", 3), Self.change("b", "law", 1)]).isEmpty)
      let lines = commands().suffix(2).compactMap(\.arguments.last)
      #expect(lines.contains { $0.contains("--host a --replicas 'math=3'") }, "\(lines)")
      #expect(lines.contains { $0.contains("--host b --replicas 'law=1'") }, "\(lines)")
      let noted = try LaunchState.load(path: path, cluster: "c").records
      #expect(noted.map { $0.orders[0].replicas.map(\.count) } == [[3], [1]])
      #expect(try await fleet.apply([Self.change("a", "math", 0)]).isEmpty)
      #expect(commands().last?.arguments.last?.hasSuffix("--host a --stop") == true)
      #expect(try await fleet.apply([Self.change("a", "math", 1)]).isEmpty)
      #expect(await fleet.count(of: "math", on: "a") == 1)
      #expect(await fleet.stop().isEmpty)
      await #expect(throws: FusionRouteError.self) { try await fleet.apply([Self.change("a", "math", 1)]) }
    }
  }

  /// A host that fails is named and stays as it was; the others change. It is noted first, for `down`.
  @Test func aHostThatFails() async throws {
    let isBroken = Mutex(true)
    try await withFleet({ command in
      guard isBroken.withLock({ $0 }), command.arguments.contains("10.0.0.66") else { return Self.ok(command) }
      throw FusionRouteError.unavailable("no route")
    }) { fleet, path, _ in
      var bad = Self.change("b", "math", 1)
      bad.order.host.address = "10.0.0.66"
      let failures = try await fleet.apply([Self.change("a", "math", 1), bad])
      #expect(failures.keys.sorted() == ["b"] && failures["b"]?.message.contains("\"b\"") == true)
      #expect(await fleet.count(of: "math", on: "a") == 1)
      #expect(await fleet.count(of: "math", on: "b") == 0)
      #expect(try LaunchState.load(path: path, cluster: "c").records.flatMap(\.hosts) == ["a", "b"])
      isBroken.withLock { $0 = false }
      #expect(try await fleet.apply([bad]).isEmpty)
      #expect(await fleet.count(of: "math", on: "b") == 1)
    }
  }

  @Test func notesOfEarlierVersionsAreRead() throws {
    let record = LaunchRecord(launcher: .slurm, orders: [Orders.order("a", .slurm)], name: "n", job: "7")
    var object = try #require(
      try JSONSerialization.jsonObject(with: try JSONEncoder().encode(record)) as? [String: Any])
    object["slurm"] = nil
    let read = try JSONDecoder().decode(
      LaunchRecord.self, from: try JSONSerialization.data(withJSONObject: object))
    #expect(read == record && read.count(of: "math", on: "a") == 2)
  }
}

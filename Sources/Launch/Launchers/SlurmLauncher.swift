internal import Core

/// Starts workers as array jobs of Slurm. Which machine a task runs on is Slurm's to decide.
public struct SlurmLauncher: HostLauncher {
  /// How often and how long a cancelled job is looked for.
  private static let polls = 240
  /// How often a job that takes another's place is looked for until it runs.
  private static let startPolls = 120
  private static let pollInterval = Duration.milliseconds(500)
  /// Between a record's name and the number of a job that was added to it; no name of a host has it.
  private static let mark: Character = "+"

  private let run: CommandRunner

  public init(run: @escaping CommandRunner) { self.run = run }

  public func start(_ record: inout LaunchRecord) async throws -> LaunchOutcome {
    // A start that was cut short may have submitted it.
    let found = try await jobs(of: record)
    // What `scale` has added or taken away: the cluster file's numbers hold again.
    let isWhole = record.slurm?.cancelled.isEmpty ?? true
    let jobs = found.filter { isWhole && $0.name == record.name }
    try await cancel(found.filter { job in !jobs.contains(job) }.map(\.number), of: record)
    record.slurm = nil
    if let job = jobs.first {
      record.job = job.number
      record.phase = .running
      return .running("job \(job.number)")
    }
    let job = try await submit(record.orders, name: record.name, for: record.hosts)
    record.job = job
    record.phase = .running
    return .started("job \(job)")
  }

  public func stop(_ record: LaunchRecord) async throws {
    try await cancel(try await jobs(of: record).map(\.number), of: record)
  }

  /// The size of a job is fixed: more replicas are a job more, of one task for each; fewer are tasks cancelled.
  public func setReplicas(
    _ replicas: HostOrder.Replicas, on host: String, in record: inout LaunchRecord
  ) async throws {
    guard let order = record.order(of: host) else {
      throw FusionRouteError.badInput("nothing was started on the host \"\(host)\"")
    }
    let now = record.count(of: replicas.expert, on: host)
    if replicas.count > now {
      try await add(replicas, replicas.count - now, like: order, to: &record)
    } else {
      let reduction = SlurmReduction(of: replicas.expert, by: now - replicas.count, among: record.tasks(of: host))
      for step in reduction.steps {
        switch step {
        case .cancel(let unit): try await cancel(unit, of: host, in: &record)
        case .replace(let unit, let smaller):
          try await replace(unit, by: smaller, in: &record)
          try await cancel(unit, of: host, in: &record)
        }
      }
    }
  }

  // MARK: Changes

  /// - Parameter order: of the host that it is added to.
  private func add(
    _ replicas: HostOrder.Replicas, _ count: Int, like order: HostOrder, to record: inout LaunchRecord
  ) async throws {
    var one = order
    // Each task asks for what one replica takes, not for the entry's share of a machine.
    one.host.threads = nil
    one.host.memory = nil
    one.replicas = [replicas]
    one.replicas[0].count = 1
    one.bytes = replicas.bytes
    try await add(one, tasks: count, to: &record)
  }

  @discardableResult
  private func add(_ order: HostOrder, tasks: Int, to record: inout LaunchRecord) async throws -> String {
    var changes = record.slurm ?? SlurmChanges()
    let numbers = changes.additions.compactMap { $0.name.split(separator: Self.mark).last.flatMap { Int($0) } }
    let name = "\(record.name)\(Self.mark)\((numbers.max() ?? 0) + 1)"
    let orders = [HostOrder](repeating: order, count: tasks)
    let job = try await submit(orders, name: name, for: [order.host.name])
    changes.additions.append(.init(name: name, job: job, order: order, tasks: Array(0..<tasks)))
    record.slurm = changes
    return name
  }

  /// Puts `smaller` in the place of a task, which goes on until the other runs.
  private func replace(_ unit: SlurmTasks, by smaller: HostOrder, in record: inout LaunchRecord) async throws {
    let before = record
    let name = try await add(smaller, tasks: 1, to: &record)
    for _ in 0..<Self.startPolls {
      let result = try await succeed(Self.runningCommand(name), for: [smaller.host.name], run)
      if result.output.split(whereSeparator: \.isWhitespace).contains(where: { Self.isJob(String($0)) }) { return }
      try await Task.sleep(for: Self.pollInterval)
    }
    if let job = record.slurm?.additions.last?.job {
      _ = try await succeed(HostCommand("scancel", ["--", job]), for: [smaller.host.name], run)
    }
    record = before
    throw FusionRouteError.unavailable(
      "the host \"\(smaller.host.name)\": Slurm did not start the job \(name), which was to run fewer replicas in the place "
        + "of another, within a minute, so nothing was changed: see squeue, or use `fusionroute down` and `up`")
  }

  private func cancel(_ unit: SlurmTasks, of host: String, in record: inout LaunchRecord) async throws {
    guard let job = unit.addition.map({ record.slurm?.additions[$0].job }) ?? record.job else {
      throw FusionRouteError.internal("a Slurm record without a job")
    }
    let tasks = unit.tasks.map { "\(job)_\($0)" }
    _ = try await succeed(HostCommand("scancel", ["--"] + tasks), for: [host], run)
    var changes = record.slurm ?? SlurmChanges()
    if let index = unit.addition {
      changes.additions[index].tasks.removeAll { unit.tasks.contains($0) }
    } else {
      changes.cancelled.append(host)
    }
    record.slurm = changes
  }

  /// Cancels jobs and returns when nothing of the record is left of them.
  private func cancel(_ jobs: [String], of record: LaunchRecord) async throws {
    guard !jobs.isEmpty else { return }
    var cancelled: Set<String> = []
    for _ in 0..<Self.polls {
      let left = try await self.jobs(of: record).map(\.number).filter(jobs.contains)
      guard !left.isEmpty else { return }
      for job in left where cancelled.insert(job).inserted {
        _ = try await succeed(HostCommand("scancel", ["--", job]), for: record.hosts, run)
      }
      try await Task.sleep(for: Self.pollInterval)
    }
    throw FusionRouteError.unavailable(
      "Slurm's job \(record.job ?? record.name) has not ended within two minutes of `scancel`; see squeue")
  }

  // MARK: Commands

  static func submitCommand(_ orders: [HostOrder], name: String) -> HostCommand {
    HostCommand(
      "sbatch", ["--parsable", "--chdir=\(SlurmScript.folder(orders))"], input: SlurmScript.text(orders, name: name))
  }

  /// Numbers and names of this user's jobs. All of them: a name with a `+` cannot be asked for by its beginning.
  static let queryCommand = HostCommand("squeue", ["--noheader", "--format=%F %j", "--me"])

  static func runningCommand(_ name: String) -> HostCommand {
    HostCommand("squeue", ["--noheader", "--format=%F", "--me", "--states=running", "--name=\(name)"])
  }

  /// The job's number.
  private func submit(_ orders: [HostOrder], name: String, for hosts: [String]) async throws -> String {
    let command = Self.submitCommand(orders, name: name)
    let result = try await succeed(command, for: hosts, run)
    // `12` or `12;cluster`.
    let words = result.output.split(whereSeparator: \.isNewline).last?.split(separator: ";") ?? []
    guard let job = words.first.map(String.init), Self.isJob(job) else {
      throw FusionRouteError.unavailable(
        "`\(command.line)` did not name the job that it submitted: \(result.output)")
    }
    return job
  }

  private struct Job: Hashable {
    var number: String
    var name: String
  }

  /// The record's jobs that are not over, the oldest first; the tasks of an array count as one.
  private func jobs(of record: LaunchRecord) async throws -> [Job] {
    let result = try await succeed(Self.queryCommand, for: record.hosts, run)
    let found = result.output.split(whereSeparator: \.isNewline).compactMap { line -> Job? in
      let words = line.split(separator: " ", maxSplits: 1).map(String.init)
      guard words.count == 2, Self.isJob(words[0]) else { return nil }
      let name = words[1]
      guard name == record.name || name.hasPrefix(record.name + String(Self.mark)) else { return nil }
      return Job(number: words[0], name: name)
    }
    return Set(found).sorted { (Int($0.number) ?? 0) < (Int($1.number) ?? 0) }
  }

  private static func isJob(_ text: String) -> Bool {
    !text.isEmpty && text.utf8.count <= 20 && text.utf8.allSatisfy { (48...57).contains($0) }
  }
}

internal import Core

/// Starts workers as array jobs of Slurm. Which machine a task runs on is Slurm's to decide.
public struct SlurmLauncher: HostLauncher {
  /// How often and how long a cancelled job is looked for.
  private static let polls = 240
  private static let pollInterval = Duration.milliseconds(500)

  private let run: CommandRunner

  public init(run: @escaping CommandRunner) { self.run = run }

  public func start(_ record: inout LaunchRecord) async throws -> LaunchOutcome {
    // A start that was cut short may have submitted it.
    let jobs = try await jobs(of: record)
    if let job = jobs.first {
      record.job = job
      record.phase = .running
      return .running("job \(job)")
    }
    let result = try await succeed(Self.submitCommand(record), for: record.hosts, run)
    // `12` or `12;cluster`.
    let words = result.output.split(whereSeparator: \.isNewline).last?.split(separator: ";") ?? []
    guard let job = words.first.map(String.init), Self.isJob(job) else {
      throw FusionRouteError.unavailable(
        "`\(Self.submitCommand(record).line)` did not name the job that it submitted: \(result.output)")
    }
    record.job = job
    record.phase = .running
    return .started("job \(job)")
  }

  public func stop(_ record: LaunchRecord) async throws {
    var cancelled: Set<String> = []
    for _ in 0..<Self.polls {
      let left = try await jobs(of: record)
      guard !left.isEmpty else { return }
      for job in left where cancelled.insert(job).inserted {
        _ = try await succeed(HostCommand("scancel", ["--", job]), for: record.hosts, run)
      }
      try await Task.sleep(for: Self.pollInterval)
    }
    throw FusionRouteError.unavailable(
      "Slurm's job \(record.job ?? record.name) has not ended within two minutes of `scancel`; see squeue")
  }

  public func setReplicas(
    of expert: String, on host: String, to count: Int, in record: inout LaunchRecord
  ) async throws {
    throw FusionRouteError.usage(
      "the replicas on the host \"\(host)\" run as a Slurm job, whose size is fixed: change the cluster file and run "
        + "`fusionroute down` and `fusionroute up`, or add an entry under \"hosts\"")
  }

  // MARK: Commands

  static func submitCommand(_ record: LaunchRecord) -> HostCommand {
    HostCommand(
      "sbatch", ["--parsable", "--chdir=\(SlurmScript.folder(record.orders))"],
      input: SlurmScript.text(record.orders, name: record.name))
  }

  static func queryCommand(_ record: LaunchRecord) -> HostCommand {
    HostCommand("squeue", ["--noheader", "--format=%A", "--me", "--name=\(record.name)"])
  }

  /// The jobs with the record's name that are not over; the tasks of an array have numbers of their own.
  private func jobs(of record: LaunchRecord) async throws -> [String] {
    let result = try await succeed(Self.queryCommand(record), for: record.hosts, run)
    let found = result.output.split(whereSeparator: \.isWhitespace).map(String.init).filter(Self.isJob)
    return Set(found).sorted { (Int($0) ?? 0) < (Int($1) ?? 0) }
  }

  private static func isJob(_ text: String) -> Bool {
    !text.isEmpty && text.utf8.count <= 20 && text.utf8.allSatisfy { (48...57).contains($0) }
  }
}

internal import Core

/// What was started together: the replicas of one host by ssh, the tasks of one Slurm job, or the objects of one
/// Kubernetes namespace. Holds all that is needed to stop it, whatever becomes of the cluster file.
public struct LaunchRecord: Sendable, Equatable, Codable {
  public enum Phase: String, Sendable, Codable {
    /// Noted before anything is done, so that a crash in the middle leaves no trace unknown.
    case starting
    case running
  }

  public var launcher: ClusterFile.Launcher
  public var orders: [HostOrder]
  /// The job's name or the objects' label; no other record of this user has it.
  public var name: String
  /// Slurm's number of the job, once it is known.
  public var job: String?
  /// What Slurm runs besides that job, or no longer; nil: the job is as it was submitted.
  public var slurm: SlurmChanges?
  public var phase: Phase

  public init(
    launcher: ClusterFile.Launcher, orders: [HostOrder], name: String, job: String? = nil, phase: Phase = .starting
  ) {
    self.launcher = launcher
    self.orders = orders
    self.name = name
    self.job = job
    self.phase = phase
  }

  public var hosts: [String] { orders.map(\.host.name) }
}

/// What a launcher reports of a start.
public enum LaunchOutcome: Sendable, Equatable {
  /// What was started, for a person: `process 4711`, `job 12`.
  case started(String)
  /// It ran already.
  case running(String)

  public var detail: String {
    switch self {
    case .started(let detail), .running(let detail): detail
    }
  }
}

/// One way of starting `fusionroute workers` elsewhere.
///
/// A launcher decides on commands and reads their answers; a ``CommandRunner`` runs them. Each call may be repeated: what
/// runs already is not started twice, and what is gone already is stopped.
public protocol HostLauncher: Sendable {
  /// Starts a record's replicas and notes in it what stopping needs. Throws `unavailable` naming host and command.
  func start(_ record: inout LaunchRecord) async throws -> LaunchOutcome

  /// Stops them and returns when they are gone. Throws `unavailable` naming host and command.
  func stop(_ record: LaunchRecord) async throws

  /// Sets how many replicas of an expert run on one of the record's hosts, and notes it in the record: also what was
  /// done before it throws.
  ///
  /// - Parameter replicas: the expert, the number wanted, and what one of them takes.
  func setReplicas(_ replicas: HostOrder.Replicas, on host: String, in record: inout LaunchRecord) async throws
}

extension HostLauncher {
  /// A command that failed, as a sentence that names the hosts and the command.
  func failure(_ hosts: [String], _ command: HostCommand, _ result: CommandResult) -> FusionRouteError {
    let names = hosts.map { "\"\($0)\"" }.joined(separator: ", ")
    return .unavailable(
      "\(hosts.count == 1 ? "the host" : "the hosts") \(names): `\(command.line)` ended with \(result.exit): "
        + (result.complaint ?? "it said nothing"))
  }

  /// Runs a command that must succeed. Throws `unavailable` naming the hosts and the command.
  ///
  /// - Parameter isFine: whether a result that is no success will do.
  func succeed(
    _ command: HostCommand, for hosts: [String], _ run: CommandRunner,
    unless isFine: @Sendable (CommandResult) -> Bool = { _ in false }
  ) async throws -> CommandResult {
    let result: CommandResult
    do { result = try await run(command) } catch let error as FusionRouteError {
      throw FusionRouteError(
        error.code, "the host \(hosts.map { "\"\($0)\"" }.joined(separator: ", ")): \(error.message)",
        cause: error.cause)
    }
    guard result.exit == .code(0) || isFine(result) else { throw failure(hosts, command, result) }
    return result
  }
}

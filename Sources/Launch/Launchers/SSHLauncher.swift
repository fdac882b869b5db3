internal import Core

/// Starts workers over the system's ssh. The command there is `fusionroute workers … --detach`, which keeps a lock, so
/// that a second start finds the first one's process.
public struct SSHLauncher: HostLauncher {
  private let run: CommandRunner

  public init(run: @escaping CommandRunner) { self.run = run }

  public func start(_ record: inout LaunchRecord) async throws -> LaunchOutcome {
    guard let order = record.orders.first else { throw FusionRouteError.internal("an ssh record without a host") }
    let result = try await succeed(Self.startCommand(order), for: record.hosts, run)
    // The last line: a login script may have written others before.
    let words = result.output.split(whereSeparator: \.isNewline).last?.split(separator: " ") ?? []
    guard words.count >= 2, let verb = words.first, let pid = Int32(words[1]) else {
      throw FusionRouteError.unavailable(
        "the host \"\(order.host.name)\": `\(Self.startCommand(order).line)` did not say what it started; is its "
          + "fusionroute of another version?")
    }
    record.phase = .running
    return verb == "running" ? .running("process \(pid)") : .started("process \(pid)")
  }

  public func stop(_ record: LaunchRecord) async throws {
    for order in record.orders { _ = try await succeed(Self.stopCommand(order), for: [order.host.name], run) }
  }

  public func setReplicas(
    _ replicas: HostOrder.Replicas, on host: String, in record: inout LaunchRecord
  ) async throws {
    guard let index = record.orders.firstIndex(where: { $0.host.name == host }) else {
      throw FusionRouteError.badInput("nothing was started on the host \"\(host)\"")
    }
    var order = record.orders[index]
    order.set(replicas)
    if order.replicas.isEmpty {
      _ = try await succeed(Self.stopCommand(order), for: [host], run)
    } else {
      // A process that runs changes its number of replicas.
      _ = try await succeed(Self.startCommand(order), for: [host], run)
    }
    record.orders[index] = order
  }

  // MARK: Commands

  static func startCommand(_ order: HostOrder) -> HostCommand {
    ssh(order.host, order.workers + ["--detach"], limit: .seconds(120))
  }

  static func stopCommand(_ order: HostOrder) -> HostCommand {
    let program = order.host.program ?? order.program
    let cluster = order.host.clusterPath ?? order.cluster
    return ssh(
      order.host, [program, "workers", "-c", cluster, "--host", order.host.name, "--stop"],
      limit: .seconds(60 + order.graceSeconds))
  }

  /// ssh that never asks anything and forwards nothing. The command is one argument, quoted for the shell there.
  private static func ssh(_ host: ClusterFile.Host, _ words: [String], limit: Duration) -> HostCommand {
    var arguments = [
      "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=5", "-o",
      "ServerAliveCountMax=3", "-o", "ForwardAgent=no", "-o", "ForwardX11=no", "-o", "ClearAllForwardings=yes", "-o",
      "PermitLocalCommand=no",
    ]
    if let path = host.ssh.knownHosts {
      arguments += ["-o", "StrictHostKeyChecking=yes", "-o", "UserKnownHostsFile=\"\(path)\""]
    }
    if let path = host.ssh.identity { arguments += ["-o", "IdentitiesOnly=yes", "-i", path] }
    if let user = host.ssh.user { arguments += ["-l", user] }
    if let port = host.ssh.port { arguments += ["-p", "\(port)"] }
    return HostCommand("ssh", arguments + ["--", host.address, Quoting.shell(words)], limit: limit)
  }
}

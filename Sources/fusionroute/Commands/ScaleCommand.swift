internal import ArgumentParser
internal import Core
internal import Foundation

struct ScaleCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "scale",
    abstract: "Change how many replicas of an expert a running service has.",
    discussion: """
      Starts or stops replicas of a service that starts its workers (`fusionroute up`), on this machine and on others by \
      their launcher (ssh, Slurm, Kubernetes). The number is of all of them together; replicas on hosts that others start \
      (launcher: manual) are not counted. New ones go where `plan` would put them and take work as soon as they have \
      registered; those that leave drain first: no request fails. The cluster file is not changed: its numbers hold again \
      at the next start.
      """)

  @Argument(help: ArgumentHelp("EXPERT=NUMBER, one or more.", valueName: "expert=number"))
  var experts: [ReplicaCount]

  @OptionGroup(title: "Service") var address: ClusterAddress
  @OptionGroup(title: "Output") var output: OutputOptions

  func validate() throws {
    var seen: Set<String> = []
    if let twice = experts.first(where: { !seen.insert($0.expert).inserted }) {
      throw ValidationError("The expert \"\(twice.expert)\" is named twice.")
    }
  }

  private struct Order: Encodable {
    var expert: String
    var replicas: Int
  }

  func run() async throws {
    _ = output.bootstrap(default: .error)
    let service = try address.resolved()
    try await withInterruption { [self] in
      try await ServiceClient.with(service) { client in
        for wanted in experts {
          let body = Array(try JSONEncoder().encode(Order(expert: wanted.expert, replicas: wanted.count)))
          let change = try client.decode(try await client.post("/fusionroute/scale", body), as: ReplicaChange.self)
          let lines =
            change.started.map { "\($0) starts" } + change.stopped.map { "\($0) drains" }
            + change.hosts.map {
              "\(wanted.expert) on \($0.name) (\($0.launcher)): \($0.from) to \($0.to) replica\($0.to == 1 ? "" : "s")"
            }
            + (change == ReplicaChange() ? ["\(wanted.expert) has \(wanted.count) already"] : [])
          try FileHandle.standardOutput.write(contentsOf: Data((lines.joined(separator: "\n") + "\n").utf8))
        }
      }
    }
  }
}

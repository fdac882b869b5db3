internal import ArgumentParser
internal import Coordinator
internal import Core
internal import Foundation

struct DrainCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "drain",
    abstract: "Have replicas finish what they have and leave, without a failed request.",
    discussion: """
      The replicas get no new sequences, those that run on them go on with other replicas of the expert, and their \
      processes end with 0. Whoever supervises them may start them again, which is how a replica is replaced: one with \
      new settings, or on a host that was updated. `fusionroute status` shows their names.

      Ends with 69 if an expert would be left without a replica and --force is not given, and if the replicas have not \
      left within --timeout.
      """)

  @Argument(help: ArgumentHelp("Names of replicas, such as replica-3.", valueName: "replica"))
  var replicas: [String] = []

  @Option(help: ArgumentHelp("Every replica on this host.", valueName: "name"))
  var host: String?

  @Option(help: ArgumentHelp("Every replica of this expert.", valueName: "name"))
  var expert: String?

  @Flag(help: "Also if an expert is left without a replica: its requests then wait for another (expert_wait).")
  var force = false

  @Option(help: ArgumentHelp("How long to wait until they have left; 0s: not at all.", valueName: "duration"))
  var timeout: DurationArgument = .init(.seconds(60))

  @OptionGroup(title: "Service") var address: ClusterAddress
  @OptionGroup(title: "Output") var output: OutputOptions

  func validate() throws {
    let ways = (replicas.isEmpty ? 0 : 1) + (host == nil ? 0 : 1) + (expert == nil ? 0 : 1)
    guard ways == 1 else { throw ValidationError("Say what to drain by one of these: replicas, --host or --expert.") }
  }

  private struct Order: Encodable {
    var replica: String?
    var host: String?
    var expert: String?
    var force: Bool
  }

  private struct Answer: Decodable { var draining: [DrainingReplica] }

  func run() async throws {
    _ = output.bootstrap(default: .error)
    let orders =
      replicas.isEmpty
      ? [Order(host: host, expert: expert, force: force)] : replicas.map { Order(replica: $0, force: force) }
    let service = try address.resolved()
    try await withInterruption { [self] in
      try await ServiceClient.with(service) { client in
        var left: Set<String> = []
        for order in orders {
          let body = Array(try JSONEncoder().encode(order))
          let answer = try client.decode(try await client.post("/fusionroute/drain", body), as: Answer.self)
          for replica in answer.draining {
            left.insert(replica.id)
            try print("\(replica.id) of \(replica.expert) on \(replica.host) (\(replica.pid)) drains")
          }
        }
        if timeout.duration > .zero { try await wait(for: left, client) }
      }
    }
  }

  private func wait(for draining: Set<String>, _ client: ServiceClient) async throws {
    let deadline = ContinuousClock.now + timeout.duration
    var left = draining
    while true {
      let status = try await client.get("/fusionroute/status", as: CoordinatorStatus.self)
      let present = Set(status.experts.flatMap { $0.replicas.map(\.id) })
      for id in left.subtracting(present).sorted() { try print("\(id) has left") }
      left.formIntersection(present)
      if left.isEmpty { return }
      guard ContinuousClock.now < deadline else {
        throw FusionRouteError.unavailable(
          "\(left.sorted().joined(separator: ", ")) still there after \(timeout.duration): their sequences have no other "
            + "replica to go to")
      }
      try await Task.sleep(for: .milliseconds(100))
    }
  }

  private func print(_ line: String) throws {
    try FileHandle.standardOutput.write(contentsOf: Data((line + "\n").utf8))
  }
}

import Coordinator
import Core
import Foundation
import Launch
import Logging
import Testing

@testable import fusionroute

/// `scale` and `drain` on a service with real worker processes.
@Suite(.serialized) struct ScalingTests {
  let models: ToyModels

  init() throws { models = try ToyModels.shared.get() }

  private func cluster(_ name: String, more: String = "") throws -> String {
    try models.cluster(
      name,
      more: "listen: { workers: \"ipc://\(name).sock\", http: \"127.0.0.1:*\" }\n"
        + "supervision: { restarts: 1000, back_off: 10ms }\n" + more)
  }

  private func status(_ service: RunningService) async throws -> CoordinatorStatus {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try decoder.decode(
      CoordinatorStatus.self, from: Data(try await service.fetch("/fusionroute/status").body.utf8))
  }

  private func serving(_ service: RunningService, _ expert: String) async throws -> [CoordinatorStatus.Replica] {
    try await status(service).experts.first { $0.name == expert }?.replicas.filter { $0.state == "serving" } ?? []
  }

  private func until(_ what: String, _ condition: () async throws -> Bool) async throws {
    for _ in 0..<3_000 {
      if try await condition() { return }
      try await Task.sleep(for: .milliseconds(10))
    }
    Issue.record("\(what) did not happen")
  }

  /// Asks the same of the service again and again, and compares, until `work` is done.
  private func undisturbed(_ service: RunningService, while work: () async throws -> Void) async throws {
    let requests = (0..<3).map {
      #"{"prompt":"tell me \#($0)","max_tokens":120,"temperature":\#($0 == 0 ? 0 : 0.9),"seed":\#($0)}"#
    }
    func text(_ body: String) throws -> String {
      struct Answer: Decodable {
        struct Choice: Decodable { var text: String }
        var choices: [Choice]
      }
      return try JSONDecoder().decode(Answer.self, from: Data(body.utf8)).choices.first?.text ?? ""
    }
    var expected: [String] = []
    for request in requests {
      expected.append(try text(try await service.fetch("/v1/completions", json: request).body))
    }
    #expect(expected.allSatisfy { !$0.isEmpty })
    try await withThrowingTaskGroup(of: Int.self) { group in
      let isOver = OverFlag()
      for (request, expected) in zip(requests, expected) {
        group.addTask {
          var count = 0
          repeat {
            let answer = try await service.fetch("/v1/completions", json: request)
            #expect(answer.status == 200, "\(answer.body)")
            let told = answer.status == 200 ? try text(answer.body) : expected
            #expect(told == expected)
            count += 1
          } while !isOver.value
          return count
        }
      }
      do { try await work() } catch {
        isOver.value = true
        throw error
      }
      isOver.value = true
      let answers = try await group.reduce(0, +)
      #expect(answers >= 3)
    }
    #expect(try await status(service).requests.failed == 0)
  }

  @Test func scalesUpAndDownWithoutAFailedRequest() async throws {
    let service = try await RunningService.start(["up", "-c", try cluster("scaleup")])
    try await service.waitUntilReady()
    let expert = ToyModels.experts[0]
    try await undisturbed(service) {
      let up = try await Product.run(["scale", "--url", service.url, "\(expert)=3"])
      #expect(up.code == 0 && up.output == "\(expert).1 starts\n\(expert).2 starts\n", "\(up.output) \(up.errors)")
      try await until("three replicas") { try await serving(service, expert).count == 3 }
      #expect(Product.workers(dialling: "scaleup.sock").count == 5)
      let down = try await Product.run(["scale", "--url", service.url, "\(expert)=1"])
      #expect(down.code == 0 && down.output == "\(expert).2 drains\n\(expert).1 drains\n", "\(down.errors)")
      try await until("one replica") { try await serving(service, expert).count == 1 }
      try await until("its processes' end") { Product.workers(dialling: "scaleup.sock").count == 3 }
    }
    let same = try await Product.run(["scale", "--url", service.url, "\(expert)=1"])
    #expect(same.code == 0 && same.output == "\(expert) has 1 already\n")
    let unknown = try await Product.run(["scale", "--url", service.url, "dog=1"])
    #expect(unknown.code == 65 && unknown.errors.contains("\"dog\""), "\(unknown.code) \(unknown.errors)")
    for wrong in ["ant", "ant=", "=1", "ant=-1", "ant=x"] {
      #expect(try await Product.run(["scale", "--url", service.url, wrong]).code == 64, "\(wrong)")
    }
    let twice = try await Product.run(["scale", "--url", service.url, "\(expert)=1", "\(expert)=2"])
    #expect(twice.code == 64 && twice.errors.contains("\"\(expert)\" is named twice"), "\(twice)")
    #expect(try await serving(service, expert).count == 1)
    #expect(try await service.stop().code == 0)
  }

  /// Each replica is drained in turn, and its supervisor starts another in its place.
  @Test func rollingReplacementWithoutAFailedRequest() async throws {
    let service = try await RunningService.start(["up", "-c", try cluster("rolling", more: "expert_wait: 60s\n")])
    try await service.waitUntilReady()
    let expert = ToyModels.experts[0]
    _ = try await Product.run(["scale", "--url", service.url, "\(expert)=2"])
    try await until("two replicas") { try await serving(service, expert).count == 2 }
    let before = try await serving(service, expert)
    try await undisturbed(service) {
      for replica in before {
        let drained = try await Product.run(["drain", "--url", service.url, replica.id])
        #expect(drained.code == 0, "\(drained.errors)")
        #expect(drained.output.contains("\(replica.id) has left"), "\(drained.output)")
        try await until("its successor") { try await serving(service, expert).count == 2 }
      }
    }
    let after = try await serving(service, expert)
    #expect(Set(after.map(\.pid)).isDisjoint(with: before.map(\.pid)))
    // The last one of an expert stays, unless it is forced.
    let last = try await Product.run(["drain", "--url", service.url, "--expert", ToyModels.experts[1]])
    #expect(last.code == 69 && last.errors.contains("would be left without a replica"), "\(last.code) \(last.errors)")
    let nobody = try await Product.run(["drain", "--url", service.url, "replica-999"])
    #expect(nobody.code != 0 && nobody.errors.contains("no replica"), "\(nobody.errors)")
    try await undisturbed(service) {
      let forced = try await Product.run(["drain", "--url", service.url, "--expert", ToyModels.experts[1], "--force"])
      #expect(forced.code == 0, "\(forced.errors)")
      try await until("its successor") { try await serving(service, ToyModels.experts[1]).count == 1 }
    }
    #expect(try await Product.run(["drain", "--url", service.url]).code == 64)
    #expect(try await service.stop().code == 0)
  }
}

@Suite struct HostWorkersTests {
  /// One that could not be started is missing still, so that the next change tries it again.
  @Test func aReplicaThatDidNotStartIsNotCounted() async throws {
    let models = try ToyModels.shared.get()
    let file = try ClusterFile.load(path: try models.cluster("unstarted", context: 256))
    let workers = try HostWorkers(
      of: file, host: nil, dialling: "ipc://\(models.path("unstarted.sock"))", keyName: nil,
      log: LogSettings(level: .critical, format: .text, logger: Logger(label: "test")))
    // From now on nothing can be started.
    await workers.stop()
    for _ in 0..<2 {
      let error = #expect(throws: FusionRouteError.self) {
        try workers.adjust(to: [ReplicaCount(expert: ToyModels.experts[0], count: 1)])
      }
      #expect(error?.message.contains("are being stopped") == true, "\(String(describing: error))")
    }
  }
}

/// Set once.
private final class OverFlag: @unchecked Sendable {
  // Unchecked: every access holds the lock.
  private let lock = NSLock()
  private var isOver = false

  var value: Bool {
    get { lock.withLock { isOver } }
    set { lock.withLock { isOver = newValue } }
  }
}

import Core
import Foundation
import Synchronization
import Testing
import Yams

@testable import Launch

/// A namespace of Kubernetes, as far as the commands here change it.
private final class StandInKubernetes: Sendable {
  struct Object: Sendable {
    /// In lower case.
    var kind: String
    var labels: [String: String] = [:]
    /// Of a Deployment.
    var replicas: Int?
  }

  /// By kind and name: `deployment/a`.
  private let state = Mutex<[String: Object]>([:])
  /// What every `scale` is answered with, if it is refused.
  private let refusal: String?

  init(refusing refusal: String? = nil) { self.refusal = refusal }

  var objects: [String: Object] { state.withLock { $0 } }

  var run: CommandRunner {
    { [self] command in try state.withLock { try Self.answer(command, refusal, &$0) } }
  }

  private static func answer(
    _ command: HostCommand, _ refusal: String?, _ objects: inout [String: Object]
  ) throws -> CommandResult {
    func option(_ name: String) -> String? {
      command.arguments.first { $0.hasPrefix("--\(name)=") }.map { String($0.dropFirst(name.count + 3)) }
    }
    func failed(_ errors: String) -> CommandResult { CommandResult(exit: .code(1), output: "", errors: errors) }
    switch command.arguments[2] {
    case "apply":
      let nodes = try compose_all(yaml: command.input).map { $0 }
      for node in nodes {
        var object = Object(kind: (node["kind"]?.string ?? "").lowercased())
        if let labels = node["metadata"]?["labels"]?.mapping {
          for (key, value) in labels { object.labels[key.string ?? ""] = value.string }
        }
        let key = "\(object.kind)/\(node["metadata"]?["name"]?.string ?? "")"
        if object.kind == "deployment" {
          // What is not given stays as it is, and begins at one.
          object.replicas = node["spec"]?["replicas"]?.int ?? objects[key]?.replicas ?? 1
        }
        objects[key] = object
      }
    case "scale":
      if let refusal { return failed(refusal) }
      let key = command.arguments[3]
      guard let now = objects[key]?.replicas else { return failed("Error from server (NotFound): no \(key)\n") }
      if let current = option("current-replicas"), current != "\(now)" {
        return failed("error: Expected replicas to be \(current), was \(now)\n")
      }
      objects[key]?.replicas = option("replicas").flatMap { Int($0) }
    case "delete":
      let kinds = command.arguments[3].split(separator: ",").map(String.init)
      let selector = option("selector") ?? ""
      objects = objects.filter { !kinds.contains($0.value.kind) || !matches($0.value.labels, selector) }
    default: return failed("error: unknown command \(command.line)\n")
    }
    return CommandResult(exit: .code(0), output: "", errors: "")
  }

  /// Of selectors `a=b` and `a notin (b,c)`; the second one takes in who lacks the label, as Kubernetes does.
  private static func matches(_ labels: [String: String], _ selector: String) -> Bool {
    selector.matches(of: #/([^,= ]+)(?:=([^,]+)| notin \(([^)]+)\))/#).allSatisfy { match in
      let value = labels[String(match.output.1)]
      if let wanted = match.output.2 { return value == String(wanted) }
      return !(match.output.3 ?? "").split(separator: ",").contains { String($0) == value }
    }
  }
}

/// What `up` does where an earlier one has left a cluster behind.
@Suite struct KubernetesSecondUpTests {
  private func withFleet(
    refusing refusal: String? = nil, _ body: (Fleet, StandInKubernetes, HostOrder) async throws -> Void
  ) async throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("second-up-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let file = folder.appendingPathComponent("cluster.yaml").path
    try KubernetesTests.text.write(toFile: file, atomically: true, encoding: .utf8)
    var order = KubernetesTests.order
    order.cluster = file
    let kubernetes = StandInKubernetes(refusing: refusal)
    let fleet = try Fleet(
      path: folder.appendingPathComponent("up.json").path, cluster: file, run: kubernetes.run, report: { _ in })
    try await body(fleet, kubernetes, order)
  }

  private static func kubectl(_ arguments: [String], input: String = "") -> HostCommand {
    HostCommand("kubectl", ["--namespace", "ai"] + arguments, input: input)
  }

  @Test func expertsThatNoLongerBelongThereAreDeleted() async throws {
    try await withFleet { fleet, kubernetes, order in
      #expect(try await fleet.start([order]).isEmpty)
      // A coordinator that was rendered and applied by hand has the same label.
      let coordinator = try #require(
        try KubernetesTests.manifests().files([order]).first { $0.name == "coordinator.yaml" })
      _ = try await kubernetes.run(Self.kubectl(["apply", "--filename", "-"], input: coordinator.text))
      let before = Set(kubernetes.objects.keys)
      #expect(before.contains("deployment/fusionroute-coordinator"))
      var smaller = order
      smaller.replicas.removeAll { $0.expert == "Code_1" }
      #expect(try await fleet.start([smaller]).isEmpty)
      let name = KubernetesLabels(order).deployment("Code_1")
      let left = Set(kubernetes.objects.keys)
      #expect(before.subtracting(left) == ["deployment/\(name)", "horizontalpodautoscaler/\(name)"])
      #expect(left.isSubset(of: before))
    }
  }

  /// An autoscaler leaves a Deployment at none for ever; at any other number it is the autoscaler's to size.
  @Test func whatWasScaledToNoneComesBack() async throws {
    try await withFleet { fleet, kubernetes, order in
      let name = "deployment/\(KubernetesLabels(order).deployment("math"))"
      #expect(try await fleet.start([order]).isEmpty)
      var empty = order
      empty.replicas = []
      let none = Fleet.Change(order: empty, replicas: .init(expert: "math", count: 0))
      #expect(try await fleet.apply([none]).isEmpty)
      #expect(kubernetes.objects[name]?.replicas == 0)
      #expect(try await fleet.start([order]).isEmpty)
      #expect(kubernetes.objects[name]?.replicas == 2)
      #expect(await fleet.count(of: "math", on: "pool") == 2)
      _ = try await kubernetes.run(Self.kubectl(["scale", name, "--replicas=4"]))
      #expect(try await fleet.start([order]).isEmpty)
      #expect(kubernetes.objects[name]?.replicas == 4)
    }
  }

  /// Only that the Deployment is not at none is no failure.
  @Test func otherRefusalsAreErrors() async throws {
    try await withFleet(refusing: "Error from server (Forbidden): deployments.apps is forbidden\n") { fleet, _, order in
      let failures = try await fleet.start([order])
      #expect(failures.count == 1 && failures.first?.code == .unavailable)
      #expect(failures.first?.message.contains("the host \"pool\": `kubectl --namespace ai scale ") == true)
      #expect(failures.first?.message.contains("Forbidden") == true)
    }
  }
}

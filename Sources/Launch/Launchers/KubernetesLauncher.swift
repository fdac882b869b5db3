internal import Core
internal import Foundation

/// Starts workers as Deployments, by kubectl. Which machine a pod runs on is Kubernetes' to decide.
public struct KubernetesLauncher: HostLauncher {
  private let run: CommandRunner

  public init(run: @escaping CommandRunner) { self.run = run }

  public func start(_ record: inout LaunchRecord) async throws -> LaunchOutcome {
    var objects: [String] = []
    for order in record.orders {
      let result = try await succeed(try Self.applyCommand(order), for: [order.host.name], run)
      objects += result.output.split(whereSeparator: \.isNewline).map(String.init)
    }
    record.phase = .running
    // kubectl says of each object what it did.
    let isUnchanged = !objects.isEmpty && objects.allSatisfy { $0.hasSuffix("unchanged") }
    let count = "\(objects.count) object\(objects.count == 1 ? "" : "s")"
    return isUnchanged ? .running(count) : .started(count)
  }

  public func stop(_ record: LaunchRecord) async throws {
    for order in record.orders { _ = try await succeed(Self.deleteCommand(order), for: [order.host.name], run) }
  }

  public func setReplicas(
    of expert: String, on host: String, to count: Int, in record: inout LaunchRecord
  ) async throws {
    guard let index = record.orders.firstIndex(where: { $0.host.name == host }),
      record.orders[index].replicas.contains(where: { $0.expert == expert })
    else {
      throw FusionRouteError.badInput("the host \"\(host)\" has no Deployment of the expert \"\(expert)\"")
    }
    let order = record.orders[index]
    let name = KubernetesLabels(order).deployment(expert)
    _ = try await succeed(
      Self.kubectl(order, ["scale", "deployment/\(name)", "--replicas=\(count)"]), for: [host], run)
    record.orders[index].set(expert, to: count)
  }

  // MARK: Commands

  static func applyCommand(_ order: HostOrder) throws -> HostCommand {
    let cluster = try ClusterFile.load(path: order.cluster)
    let text: String
    do { text = try String(contentsOfFile: order.cluster, encoding: .utf8) } catch {
      throw FusionRouteError.badInput("the cluster file \(order.cluster) cannot be read")
    }
    let directory = URL(fileURLWithPath: order.cluster).deletingLastPathComponent().standardizedFileURL.path
    let manifests = try KubernetesManifests(cluster, text: text, directory: directory)
    return kubectl(order, ["apply", "--filename", "-"], input: manifests.workers(order))
  }

  static func deleteCommand(_ order: HostOrder) -> HostCommand {
    let instance = KubernetesLabels.instance(cluster: order.cluster, host: order.host.name)
    return kubectl(
      order,
      [
        "delete", "deployment,horizontalpodautoscaler,poddisruptionbudget,configmap", "--ignore-not-found", "--wait",
        "--timeout=110s", "--selector=app.kubernetes.io/instance=\(instance)",
      ])
  }

  private static func kubectl(_ order: HostOrder, _ arguments: [String], input: String = "") -> HostCommand {
    HostCommand("kubectl", ["--namespace", order.host.kubernetes.namespace] + arguments, input: input)
  }
}

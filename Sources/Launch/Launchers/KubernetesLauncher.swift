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
      // `apply` leaves alone what it is not given.
      _ = try await succeed(Self.pruneCommand(order), for: [order.host.name], run)
      for command in Self.wakeCommands(order) {
        _ = try await succeed(command, for: [order.host.name], run) { $0.errors.contains(Self.unmetCondition) }
      }
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
    _ replicas: HostOrder.Replicas, on host: String, in record: inout LaunchRecord
  ) async throws {
    guard let index = record.orders.firstIndex(where: { $0.host.name == host }) else {
      throw FusionRouteError.badInput("nothing was started on the host \"\(host)\"")
    }
    let isNew = record.orders[index].count(of: replicas.expert) == 0
    var order = record.orders[index]
    order.set(replicas)
    for command in try Self.scaleCommands(order, replicas, isNew: isNew) {
      _ = try await succeed(command, for: [host], run)
    }
    record.orders[index] = order
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

  /// - Parameters:
  ///   - order: with the number wanted.
  ///   - isNew: the expert had no replica there, so its Deployment may be missing or of another time.
  static func scaleCommands(
    _ order: HostOrder, _ replicas: HostOrder.Replicas, isNew: Bool
  ) throws -> [HostCommand] {
    let name = KubernetesLabels(order).deployment(replicas.expert)
    let scale = kubectl(order, ["scale", "deployment/\(name)", "--replicas=\(replicas.count)"])
    let maximum = order.host.kubernetes.maximumReplicas.map { max($0, replicas.count) }
    // An autoscaler rests while its Deployment is at none.
    guard replicas.count > 0 else { return [scale] }
    if isNew { return [try applyCommand(order)] + (maximum == nil ? [] : [scale]) }
    guard let maximum else { return [scale] }
    // It would undo a number below its least one.
    let patch = #"{"spec":{"minReplicas":\#(replicas.count),"maxReplicas":\#(maximum)}}"#
    return [kubectl(order, ["patch", "horizontalpodautoscaler/\(name)", "--type=merge", "--patch=\(patch)"]), scale]
  }

  /// What kubectl says where `--current-replicas=0` does not hold.
  private static let unmetCondition = "Expected replicas to be 0"

  /// Bring Deployments back that `scale` has set to none: there an autoscaler rests, and what is applied leaves the
  /// number to the autoscaler.
  static func wakeCommands(_ order: HostOrder) -> [HostCommand] {
    guard order.host.kubernetes.maximumReplicas != nil else { return [] }
    return order.replicas.map {
      let name = KubernetesLabels(order).deployment($0.expert)
      return kubectl(order, ["scale", "deployment/\(name)", "--current-replicas=0", "--replicas=\($0.count)"])
    }
  }

  /// Deletes the objects of experts that the order does not have. A coordinator that was rendered for the same host has
  /// the same label and stays; the ConfigMap has no component, which `notin` takes in, so its kind is left out.
  static func pruneCommand(_ order: HostOrder) -> HostCommand {
    let labels = KubernetesLabels(order)
    let kept = (order.replicas.map(\.expert) + ["coordinator"]).map { KubernetesLabels.label($0) }
    return kubectl(
      order,
      [
        "delete", "deployment,horizontalpodautoscaler,poddisruptionbudget", "--ignore-not-found", "--wait",
        "--timeout=110s",
        "--selector=app.kubernetes.io/instance=\(labels.instance),app.kubernetes.io/component notin "
          + "(\(kept.joined(separator: ",")))",
      ])
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

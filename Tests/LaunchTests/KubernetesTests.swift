import Core
import Foundation
import Synchronization
import Testing
import Yams

@testable import Launch

@Suite struct KubernetesTests {
  static let text = """
    router: { model: models/router.gguf, head: models/head.gguf }
    experts:
      math: { model: models/math.gguf, replicas: 2, threads: 2, slots: 8 }
      Code_1: { model: models/code.gguf }
    hosts:
      - name: pool
        launcher: kubernetes
        kubernetes: { namespace: ai, image: "registry.example/fusionroute:1.0", maximum_replicas: 5 }
    listen: { http: "*:8443", workers: "tcp://*:5570", advertise: "tcp://fusionroute-coordinator:5570" }
    gateway: { api_keys: gateway/api-keys, tls_certificate: gateway/chain.pem, tls_key: gateway/key.pem }
    security: { keys: keys }

    """

  static let order = HostOrder(
    host: {
      var host = ClusterFile.Host(name: "pool", address: "", launcher: .kubernetes)
      host.kubernetes.namespace = "ai"
      host.kubernetes.image = "registry.example/fusionroute:1.0"
      host.kubernetes.maximumReplicas = 5
      return host
    }(),
    replicas: [
      .init(expert: "math", count: 2, bytes: 1 << 30, threads: 2), .init(expert: "Code_1", count: 1, bytes: 1 << 29),
    ], bytes: 1 << 30, program: "/usr/bin/fusionroute", cluster: "/srv/cluster/cluster.yaml")

  static func manifests(_ text: String = text) throws -> KubernetesManifests {
    try KubernetesManifests(
      ClusterFileTests.parse(text), text: text, directory: "/srv/cluster",
      router: .init(threads: 1, weights: .init(file: "r", bytes: 1 << 20), ownBytes: 1 << 20))
  }

  static func objects(_ text: String = text) throws -> [Node] {
    try manifests(text).files([order]).flatMap { try compose_all(yaml: $0.text).map { $0 } }
  }

  private static func find(_ kind: String, _ name: String, in objects: [Node]) throws -> Node {
    try #require(
      objects.first { $0["kind"]?.string == kind && $0["metadata"]?["name"]?.string == name },
      "no \(kind) \(name) among \(objects.compactMap { $0["metadata"]?["name"]?.string })")
  }

  @Test func aDeploymentForEachExpert() throws {
    let objects = try Self.objects()
    let math = try Self.find("Deployment", "fusionroute-pool-math", in: objects)
    #expect(math["metadata"]?["namespace"]?.string == "ai")
    // The autoscaler's to decide.
    #expect(math["spec"]?["replicas"] == nil)
    let pod = try #require(math["spec"]?["template"]?["spec"])
    let container = try #require(pod["containers"]?[0])
    #expect(
      container["args"]?.sequence?.compactMap(\.string) == [
        "workers", "-c", "/cluster/cluster.yaml", "--host", "pool", "--replicas", "math=1", "--log-level", "info",
        "--log-format", "json",
      ])
    // A quarter more than the forecast, and 128 MiB.
    #expect(container["resources"]?["requests"]?["memory"]?.string == "1408Mi")
    #expect(container["resources"]?["requests"]?["cpu"]?.string == "2")
    #expect(container["resources"]?["limits"] == container["resources"]?["requests"])
    #expect(container["securityContext"]?["readOnlyRootFilesystem"]?.bool == true)
    #expect(container["securityContext"]?["capabilities"]?["drop"]?[0]?.string == "ALL")
    #expect(pod["securityContext"]?["runAsNonRoot"]?.bool == true)
    #expect(pod["automountServiceAccountToken"]?.bool == false)
    let mounts = container["volumeMounts"]?.sequence?.compactMap { $0["mountPath"]?.string }
    #expect(mounts == ["/cluster/cluster.yaml", "/cluster/models", "/cluster/keys", "/tmp"])
    let autoscaler = try Self.find("HorizontalPodAutoscaler", "fusionroute-pool-math", in: objects)
    #expect(autoscaler["spec"]?["minReplicas"]?.int == 2 && autoscaler["spec"]?["maxReplicas"]?.int == 5)
    let metric = autoscaler["spec"]?["metrics"]?[0]?["external"]
    #expect(metric?["metric"]?["name"]?.string == "fusionroute_expert_queued")
    #expect(metric?["target"]?["averageValue"]?.string == "8")
    #expect(autoscaler["spec"]?["scaleTargetRef"]?["name"]?.string == "fusionroute-pool-math")
    _ = try Self.find("PodDisruptionBudget", "fusionroute-pool-math", in: objects)
    let code = KubernetesLabels(Self.order).deployment("Code_1")
    #expect(code.hasPrefix("fusionroute-pool-code-1-"))
    _ = try Self.find("Deployment", code, in: objects)
  }

  @Test func theCoordinatorAndItsServices() throws {
    let objects = try Self.objects()
    let coordinator = try Self.find("Deployment", "fusionroute-coordinator", in: objects)
    let container = try #require(coordinator["spec"]?["template"]?["spec"]?["containers"]?[0])
    #expect(container["livenessProbe"]?["httpGet"]?["path"]?.string == "/health")
    #expect(container["readinessProbe"]?["httpGet"]?["path"]?.string == "/ready")
    #expect(container["readinessProbe"]?["httpGet"]?["scheme"]?.string == "HTTPS")
    #expect(container["ports"]?.sequence?.compactMap { $0["containerPort"]?.int } == [8443, 5570])
    let http = try Self.find("Service", "fusionroute", in: objects)
    #expect(http["spec"]?["ports"]?[0]?["port"]?.int == 8443)
    let workers = try Self.find("Service", "fusionroute-coordinator", in: objects)
    #expect(workers["spec"]?["publishNotReadyAddresses"]?.bool == true, "workers dial before it is ready")
    #expect(http["spec"]?["selector"] == workers["spec"]?["selector"])
    #expect(coordinator["spec"]?["selector"]?["matchLabels"] == http["spec"]?["selector"])
  }

  /// What a pod mounts is there, and every label selector selects its own pods only.
  @Test func volumesAndSelectorsFit() throws {
    let objects = try Self.objects()
    var selectors: [Node] = []
    for object in objects where object["kind"]?.string == "Deployment" {
      let pod = try #require(object["spec"]?["template"]?["spec"])
      let volumes = Set(pod["volumes"]?.sequence?.compactMap { $0["name"]?.string } ?? [])
      let containers =
        (pod["containers"]?.sequence.map { Array($0) } ?? [])
        + (pod["initContainers"]?.sequence.map { Array($0) } ?? [])
      for container in containers {
        for mount in container["volumeMounts"]?.sequence ?? [] {
          #expect(volumes.contains(mount["name"]?.string ?? ""), "\(mount)")
        }
      }
      let selector = try #require(object["spec"]?["selector"]?["matchLabels"])
      #expect(!selectors.contains(selector))
      selectors.append(selector)
      let labels = try #require(object["spec"]?["template"]?["metadata"]?["labels"]?.mapping)
      for (key, value) in try #require(selector.mapping) { #expect(labels[key] == value) }
    }
    #expect(selectors.count == 3)
    let map = try Self.find("ConfigMap", "fusionroute-pool-cluster", in: objects)
    #expect(map["data"]?["cluster.yaml"]?.string == Self.text)
  }

  @Test func withoutAServiceNameTheCoordinatorIsElsewhere() throws {
    let text = Self.text.replacing("tcp://fusionroute-coordinator:5570", with: "tcp://10.0.0.1:5570")
    let files = try Self.manifests(text).files([Self.order])
    #expect(files.map(\.name) == ["cluster.yaml", "expert-math.yaml", "expert-Code_1.yaml"])
    #expect(try Self.manifests().files([Self.order]).map(\.name).contains("coordinator.yaml"))
    // Nor is it a container's matter what that one writes.
    let writing = text.replacing("{ api_keys", with: "{ journal: j.db, request_log: r.jsonl, trace: t.json, api_keys")
    #expect(try Self.manifests(writing).files([Self.order]).count == 3)
  }

  @Test(arguments: [
    ("models/math.gguf", "/elsewhere/math.gguf", "/elsewhere/math.gguf in a directory beside"),
    ("models/math.gguf", "math.gguf", "in a directory beside the cluster file"),
    ("models/math.gguf", "other/math.gguf", "one volume with all models"),
    ("keys: keys", "keys: models/keys", "directory of their own"),
    ("gateway/api-keys", "models/api-keys", "another directory than the models"),
    ("{ api_keys", "{ request_log: r.jsonl, api_keys", "\"gateway.request_log\" cannot be written in a container"),
    ("{ api_keys", "{ journal: journal.db, api_keys", "\"gateway.journal\" cannot be written in a container"),
  ]) func filesThatCannotBeMounted(_ from: String, _ to: String, _ sentence: String) throws {
    do {
      _ = try Self.manifests(Self.text.replacing(from, with: to))
      Issue.record("\(to) was accepted")
    } catch let error as FusionRouteError {
      #expect(error.code == .badInput && error.message.contains(sentence), "\(error)")
      #expect(error.message.hasPrefix("cluster.yaml:"), "\(error)")
    }
  }

  @Test func commandsForSecrets() throws {
    let commands = try Self.manifests().secretCommands([Self.order])
    #expect(
      commands.contains(
        "kubectl create --namespace ai secret generic fusionroute-worker-keys '--from-file=keys/coordinator.pub' "
          + "'--from-file=keys/workers/pool.pub' '--from-file=keys/workers/pool.key'"))
    #expect(commands.contains("kubectl create --namespace ai configmap fusionroute-allowed '--from-file=keys/allowed'"))
    #expect(commands.contains("kubectl create --namespace ai secret generic fusionroute-gateway '--from-file=gateway'"))
  }

  /// What `up` applies carries the label that `down` deletes by, and leaves the coordinator out: that is `up` itself.
  @Test func upAppliesWhatDownDeletes() async throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("kubernetes-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let file = folder.appendingPathComponent("cluster.yaml").path
    try Self.text.write(toFile: file, atomically: true, encoding: .utf8)
    var order = Self.order
    order.cluster = file
    let commands = Mutex<[HostCommand]>([])
    let launcher = KubernetesLauncher { command in
      commands.withLock { $0.append(command) }
      return CommandResult(exit: .code(0), output: "deployment.apps/x configured\nconfigmap/y unchanged\n", errors: "")
    }
    var record = LaunchRecord(launcher: .kubernetes, orders: [order], name: "n")
    #expect(try await launcher.start(&record) == .started("2 objects"))
    try await launcher.stop(record)
    let (apply, delete) = commands.withLock { ($0[0], $0[$0.count - 1]) }
    #expect(apply.line == "kubectl --namespace ai apply --filename -")
    let objects = try compose_all(yaml: apply.input).map { $0 }
    #expect(
      objects.compactMap { $0["kind"]?.string }.sorted() == [
        "ConfigMap", "Deployment", "Deployment", "HorizontalPodAutoscaler", "HorizontalPodAutoscaler",
        "PodDisruptionBudget",
      ])
    let labels = Set(objects.compactMap { $0["metadata"]?["labels"]?["app.kubernetes.io/instance"]?.string })
    let label = try #require(labels.first)
    #expect(labels.count == 1 && delete.arguments.contains("--selector=app.kubernetes.io/instance=\(label)"))
    for kind in Set(objects.compactMap { $0["kind"]?.string?.lowercased() }) {
      #expect(delete.arguments.contains { $0.contains(kind) }, "down leaves objects of the kind \(kind)")
    }
  }
}

internal import Core
internal import Foundation

/// Kubernetes' objects for a cluster file: a Deployment for each expert and, where the cluster file says that workers
/// dial the Service ``coordinatorName``, the coordinator too.
public struct KubernetesManifests: Sendable {
  public static let coordinatorName = "fusionroute-coordinator"
  /// The user that the image runs as.
  static let user = 10_001
  /// Bytes of a process besides what is forecast for its model.
  static let processBytes: UInt64 = 128 << 20

  let cluster: ClusterFile
  /// The text of the cluster file.
  let text: String
  let paths: KubernetesPaths
  /// What the router takes.
  let router: PlacementProblem.Demand?

  /// Throws `badInput` if a file that the cluster names cannot be brought into a container.
  public init(_ cluster: ClusterFile, text: String, directory: String, router: PlacementProblem.Demand? = nil) throws {
    self.cluster = cluster
    self.text = text
    self.router = router
    paths = try KubernetesPaths(cluster, directory: directory)
  }

  /// A file of manifests.
  public struct File: Sendable, Equatable {
    /// Relative to the directory that they are written to.
    public var name: String
    public var text: String

    public init(name: String, text: String) {
      self.name = name
      self.text = text
    }
  }

  /// All files for the orders of the launcher `kubernetes`, each namespace in a folder of its own if there are several.
  ///
  /// - Parameter cluster: absolute path of the cluster file, for the labels.
  public func files(_ orders: [HostOrder]) -> [File] {
    orders.flatMap { order in
      let folder = orders.count > 1 ? "\(order.host.name)/" : ""
      let labels = KubernetesLabels(order)
      var files = [File(name: "\(folder)cluster.yaml", text: YAMLText.documents([configMap(order, labels)]))]
      if runsCoordinator, order == orders.first {
        files.append(File(name: "\(folder)coordinator.yaml", text: YAMLText.documents(coordinator(order, labels))))
      }
      files += order.replicas.map {
        File(name: "\(folder)expert-\($0.expert).yaml", text: YAMLText.documents(expert($0, order, labels)))
      }
      return files
    }
  }

  /// What `up` applies: all but the coordinator, which is `up` itself.
  func workers(_ order: HostOrder) -> String {
    let labels = KubernetesLabels(order)
    return YAMLText.documents(
      [configMap(order, labels)] + order.replicas.flatMap { expert($0, order, labels) })
  }

  /// Whether the coordinator runs there too.
  public var runsCoordinator: Bool { Self.runsCoordinator(cluster) }

  static func runsCoordinator(_ cluster: ClusterFile) -> Bool {
    guard case .tcp(let host, _) = cluster.listen.advertise else { return false }
    return host == coordinatorName || host.hasPrefix(coordinatorName + ".")
  }

  /// Commands that make the Secrets which the manifests name.
  public func secretCommands(_ orders: [HostOrder]) -> [String] {
    orders.flatMap { order -> [String] in
      let host = order.host.name
      let create = ["kubectl", "create", "--namespace", order.host.kubernetes.namespace]
      var commands: [[String]] = []
      if let keys = paths.keys {
        commands.append(
          create + [
            "secret", "generic", "fusionroute-worker-keys", "--from-file=\(keys)/coordinator.pub",
            "--from-file=\(keys)/workers/\(host).pub", "--from-file=\(keys)/workers/\(host).key",
          ])
        if runsCoordinator, order == orders.first {
          commands.append(
            create + [
              "secret", "generic", "fusionroute-coordinator-keys", "--from-file=\(keys)/coordinator.pub",
              "--from-file=\(keys)/coordinator.key",
            ])
          commands.append(create + ["configmap", "fusionroute-allowed", "--from-file=\(keys)/allowed"])
        }
      }
      if runsCoordinator, order == orders.first {
        commands += paths.gateway.map {
          create + ["secret", "generic", KubernetesLabels.label("fusionroute-\($0)"), "--from-file=\($0)"]
        }
      }
      return commands.map { Quoting.shell($0) }
    }
  }

  // MARK: Objects

  /// Names the file's contents, so that a change rolls the pods.
  var checksum: String { "sha256-" + SHA256Digest(hashing: Array(text.utf8)).hex.prefix(16) }

  private func metadata(
    _ name: String, _ order: HostOrder, _ labels: KubernetesLabels, component: String? = nil
  ) -> YAMLText {
    .object([
      "name": .text(name), "namespace": .text(order.host.kubernetes.namespace), "labels": labels.all(component),
    ])
  }

  private func configMap(_ order: HostOrder, _ labels: KubernetesLabels) -> YAMLText {
    .object([
      "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(labels.configMap, order, labels),
      "data": .object(["cluster.yaml": .text(text)]),
    ])
  }

  private func expert(
    _ replicas: HostOrder.Replicas, _ order: HostOrder, _ labels: KubernetesLabels
  ) -> [YAMLText] {
    let name = labels.deployment(replicas.expert)
    var one = order
    one.replicas = [HostOrder.Replicas(expert: replicas.expert, count: 1)]
    let container = YAMLText.object([
      "name": "worker", "image": .text(order.host.kubernetes.image),
      "args": .texts(
        one.workersArguments(clusterPath: "\(KubernetesPaths.root)/cluster.yaml") + ["--log-format", "json"]),
      "resources": resources(threads: replicas.threads, bytes: replicas.bytes), "securityContext": Self.confined,
      "volumeMounts": .list(mounts(keys: paths.keys != nil, coordinator: false)),
    ])
    let volumes = volumes(labels, order, keys: "fusionroute-worker-keys", coordinator: false)
    let initial = paths.keys.map { keys in
      keyContainer(
        order,
        """
        umask 077 && mkdir -p /keys/workers && cp /secret/coordinator.pub /keys/ && \
        cp /secret/\(order.host.name).pub /secret/\(order.host.name).key /keys/workers/
        """)
    }
    let maximum = order.host.kubernetes.maximumReplicas.map { max($0, replicas.count) }
    var objects = [
      deployment(
        metadata(name, order, labels, component: replicas.expert), replicas: maximum == nil ? replicas.count : nil,
        strategy: .object([
          "type": "RollingUpdate", "rollingUpdate": .object(["maxUnavailable": 0, "maxSurge": 1]),
        ]),
        labels: labels, component: replicas.expert,
        pod: pod(
          container, initial: initial, volumes: volumes, grace: Int(order.graceSeconds.rounded(.up)) + 10,
          spread: labels.selector(replicas.expert)))
    ]
    if let maximum {
      objects.append(
        autoscaler(name, replicas, maximum: maximum, metadata(name, order, labels, component: replicas.expert)))
    }
    if replicas.count > 1 {
      objects.append(
        .object([
          "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
          "metadata": metadata(name, order, labels, component: replicas.expert),
          "spec": .object([
            "maxUnavailable": 1, "selector": .object(["matchLabels": labels.selector(replicas.expert)]),
          ]),
        ]))
    }
    return objects
  }

  /// As many replicas as keep the requests that wait for the expert below one per slot, on average.
  private func autoscaler(
    _ name: String, _ replicas: HostOrder.Replicas, maximum: Int, _ metadata: YAMLText
  ) -> YAMLText {
    let slots = cluster.expert(named: replicas.expert)?.engine.slots ?? 1
    return .object([
      "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata,
      "spec": .object([
        "scaleTargetRef": .object(["apiVersion": "apps/v1", "kind": "Deployment", "name": .text(name)]),
        "minReplicas": .integer(replicas.count), "maxReplicas": .integer(maximum),
        "behavior": .object([
          // A replica that goes loses its cache: wait for five quiet minutes.
          "scaleDown": .object(["stabilizationWindowSeconds": 300])
        ]),
        "metrics": [
          .object([
            "type": "External",
            "external": .object([
              "metric": .object([
                "name": "fusionroute_expert_queued",
                "selector": .object(["matchLabels": .object(["expert": .text(replicas.expert)])]),
              ]),
              "target": .object(["type": "AverageValue", "averageValue": .text("\(slots)")]),
            ]),
          ])
        ],
      ]),
    ])
  }

  private func coordinator(_ order: HostOrder, _ labels: KubernetesLabels) -> [YAMLText] {
    let name = Self.coordinatorName
    let http = Endpoint.hostAndPort(cluster.listen.http)?.port ?? 8080
    let workers: Int
    if case .tcp(_, let port) = cluster.listen.workers { workers = port } else { workers = 5570 }
    let probe = { (path: String, period: Int, failures: Int) -> YAMLText in
      .object([
        "httpGet": .object([
          "path": .text(path), "port": "http",
          "scheme": cluster.gateway.certificate == nil ? "HTTP" : "HTTPS",
        ]), "periodSeconds": .integer(period), "failureThreshold": .integer(failures),
      ])
    }
    let ports: [(String, Int)] = [("http", http), ("workers", workers)]
    let demand = router
    let container = YAMLText.object([
      "name": "coordinator", "image": .text(order.host.kubernetes.image),
      "args": .texts(["coordinator", "-c", "\(KubernetesPaths.root)/cluster.yaml", "--log-format", "json"]),
      "ports": .list(ports.map { .object(["name": .text($0.0), "containerPort": .integer($0.1)]) }),
      // Reading a large model takes a while; afterwards a process that does not answer is ended.
      "startupProbe": probe("/health", 5, 120), "livenessProbe": probe("/health", 10, 3),
      "readinessProbe": probe("/ready", 5, 1),
      "resources": resources(threads: (demand?.threads ?? 1) + 1, bytes: demand?.bytes ?? 0),
      "securityContext": Self.confined, "volumeMounts": .list(mounts(keys: paths.keys != nil, coordinator: true)),
    ])
    let initial = paths.keys.map { _ in
      keyContainer(
        order, "umask 077 && mkdir -p /keys/allowed && cp /secret/coordinator.pub /secret/coordinator.key /keys/")
    }
    let grace = Int(cluster.gateway.shutdownGrace.inSeconds.rounded(.up)) + 20
    func service(_ name: String, _ port: (String, Int), unready: Bool) -> YAMLText {
      .object([
        "apiVersion": "v1", "kind": "Service", "metadata": metadata(name, order, labels, component: "coordinator"),
        "spec": .object([
          "selector": labels.selector("coordinator"), "publishNotReadyAddresses": unready ? true : nil,
          "ports": [
            .object(["name": .text(port.0), "port": .integer(port.1), "targetPort": .text(port.0)])
          ],
        ]),
      ])
    }
    return [
      deployment(
        metadata(name, order, labels, component: "coordinator"), replicas: 1, strategy: .object(["type": "Recreate"]),
        labels: labels, component: "coordinator",
        pod: pod(
          container, initial: initial,
          volumes: volumes(labels, order, keys: "fusionroute-coordinator-keys", coordinator: true), grace: grace,
          spread: nil)),
      service("fusionroute", ports[0], unready: false),
      // Workers dial a coordinator that is not ready: it is not before they have.
      service(name, ports[1], unready: true),
    ]
  }
}

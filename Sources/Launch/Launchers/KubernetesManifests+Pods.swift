internal import Core

/// The parts that the coordinator's and the experts' pods share.
extension KubernetesManifests {
  /// No privileges and no writing outside the volumes.
  static let confined = YAMLText.object([
    "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
    "capabilities": .object(["drop": ["ALL"]]),
  ])

  func deployment(
    _ metadata: YAMLText, replicas: Int?, strategy: YAMLText, labels: KubernetesLabels, component: String, pod: YAMLText
  ) -> YAMLText {
    .object([
      "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
      "spec": .object([
        // Left to the autoscaler where there is one.
        "replicas": replicas.map { .integer($0) },
        "selector": .object(["matchLabels": labels.selector(component)]), "strategy": strategy,
        "template": .object([
          "metadata": .object([
            "labels": labels.all(component),
            "annotations": .object(["fusionroute/cluster-file": .text(checksum)]),
          ]), "spec": pod,
        ]),
      ]),
    ])
  }

  func pod(
    _ container: YAMLText, initial: YAMLText?, volumes: [YAMLText], grace: Int, spread: YAMLText?
  ) -> YAMLText {
    .object([
      "automountServiceAccountToken": false, "enableServiceLinks": false,
      "terminationGracePeriodSeconds": .integer(grace),
      "securityContext": .object([
        "runAsNonRoot": true, "runAsUser": .integer(Self.user), "runAsGroup": .integer(Self.user),
        "fsGroup": .integer(Self.user), "seccompProfile": .object(["type": "RuntimeDefault"]),
      ]),
      "topologySpreadConstraints": spread.map {
        [
          .object([
            "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": .object(["matchLabels": $0]),
          ])
        ]
      }, "initContainers": initial.map { [$0] }, "containers": [container], "volumes": .list(volumes),
    ])
  }

  /// Copies keys out of a Secret, whose files the group can read, which a secret key must not be.
  func keyContainer(_ order: HostOrder, _ script: String) -> YAMLText {
    .object([
      "name": "keys", "image": .text(order.host.kubernetes.image), "command": .texts(["/bin/sh", "-c", script]),
      "resources": .object([
        "requests": .object(["cpu": "10m", "memory": "16Mi"]), "limits": .object(["cpu": "100m", "memory": "16Mi"]),
      ]), "securityContext": Self.confined,
      "volumeMounts": [
        .object(["name": "secret", "mountPath": "/secret", "readOnly": true]),
        .object(["name": "keys", "mountPath": "/keys"]),
      ],
    ])
  }

  /// Requests that equal the limits: the pod is then of the class Guaranteed, and a kubelet with static CPU management
  /// gives contexts of several threads cores of their own.
  ///
  /// - Parameter bytes: 0: not known, and then not asked for.
  func resources(threads: Int, bytes: UInt64) -> YAMLText {
    let needed = bytes.addingSaturated(bytes / 4).addingSaturated(Self.processBytes)
    let both = YAMLText.object([
      "cpu": .text("\(threads)"),
      "memory": bytes > 0 ? .text("\((needed.addingSaturated((1 << 20) - 1)) >> 20)Mi") : nil,
    ])
    return .object(["requests": both, "limits": both])
  }

  func mounts(keys: Bool, coordinator: Bool) -> [YAMLText] {
    let root = KubernetesPaths.root
    func mount(_ name: String, _ path: String, subPath: String? = nil) -> YAMLText {
      .object([
        "name": .text(name), "mountPath": .text("\(root)/\(path)"), "subPath": subPath.map { .text($0) },
        "readOnly": true,
      ])
    }
    var mounts = [mount("cluster", "cluster.yaml", subPath: "cluster.yaml"), mount("models", paths.models)]
    if let keys = paths.keys {
      mounts.append(mount("keys", keys))
      if coordinator { mounts.append(mount("allowed", "\(keys)/allowed")) }
    }
    if coordinator { mounts += paths.gateway.map { mount(Self.volumeName($0), $0) } }
    mounts.append(.object(["name": "scratch", "mountPath": "/tmp"]))
    return mounts
  }

  func volumes(_ labels: KubernetesLabels, _ order: HostOrder, keys: String, coordinator: Bool) -> [YAMLText] {
    func secret(_ volume: String, _ name: String) -> YAMLText {
      .object(["name": .text(volume), "secret": .object(["secretName": .text(name), "defaultMode": 0o440])])
    }
    var volumes: [YAMLText] = [
      .object(["name": "cluster", "configMap": .object(["name": .text(labels.configMap)])]),
      .object([
        "name": "models",
        "persistentVolumeClaim": .object(["claimName": .text(order.host.kubernetes.volume), "readOnly": true]),
      ]),
    ]
    if paths.keys != nil {
      volumes.append(secret("secret", keys))
      volumes.append(.object(["name": "keys", "emptyDir": .object(["medium": "Memory", "sizeLimit": "1Mi"])]))
      if coordinator {
        volumes.append(.object(["name": "allowed", "configMap": .object(["name": "fusionroute-allowed"])]))
      }
    }
    if coordinator {
      volumes += paths.gateway.map { secret(Self.volumeName($0), KubernetesLabels.label("fusionroute-\($0)")) }
    }
    volumes.append(.object(["name": "scratch", "emptyDir": .object(["sizeLimit": "64Mi"])]))
    return volumes
  }

  private static func volumeName(_ folder: String) -> String { KubernetesLabels.label("gateway-\(folder)") }
}

/// The names and labels of one namespace's objects.
struct KubernetesLabels: Sendable {
  let instance: String
  private let host: String

  init(_ order: HostOrder) {
    host = order.host.name
    instance = Self.instance(cluster: order.cluster, host: host)
  }

  /// The label that all objects of one start have.
  static func instance(cluster: String, host: String) -> String {
    label("fusionroute-\(StateDirectory.id(ofCluster: cluster))-\(host)")
  }

  var configMap: String { Self.label("fusionroute-\(host)-cluster") }

  func deployment(_ expert: String) -> String { Self.label("fusionroute-\(host)-\(expert)") }

  func selector(_ component: String) -> YAMLText {
    .object([
      "app.kubernetes.io/name": "fusionroute", "app.kubernetes.io/instance": .text(instance),
      "app.kubernetes.io/component": .text(Self.label(component)),
    ])
  }

  func all(_ component: String?) -> YAMLText {
    .object([
      "app.kubernetes.io/name": "fusionroute", "app.kubernetes.io/instance": .text(instance),
      "app.kubernetes.io/component": component.map { .text(Self.label($0)) },
      "app.kubernetes.io/part-of": "fusionroute",
    ])
  }

  /// `text` as a DNS label. What had to be changed gets some of its hash, so that different names stay different.
  static func label(_ text: String) -> String {
    if KubernetesName.isLabel(text) { return text }
    let hash = SHA256Digest(hashing: Array(text.utf8)).hex.prefix(8)
    let safe = text.lowercased().unicodeScalars.map { scalar -> Character in
      ("a"..."z").contains(scalar) || ("0"..."9").contains(scalar) ? Character(scalar) : "-"
    }
    var name = String(safe.prefix(54))
    while name.first == "-" { name.removeFirst() }
    return name.isEmpty ? "x-\(hash)" : "\(name)-\(hash)"
  }
}

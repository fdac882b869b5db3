internal import Core
internal import Launch

/// A placement for people and for programs.
struct PlanView {
  let cluster: ClusterFile
  let plan: PlacementPlan

  /// Lines of a table of replicas, one of hosts, and warnings.
  func lines(_ style: Style) -> [String] {
    var replicas = TextTable()
    replicas.add(["replica", "host", "threads", "memory", "why"].map { TextTable.Cell($0, .faint) })
    for row in plan.rows {
      replicas.add([
        .init("\(row.replica.expert).\(row.replica.index)", .strong),
        .init(row.replica.host ?? ClusterPlan.thisMachine),
        .number("\(row.demand.threads)"), .number(row.demand.bytes > 0 ? Quantity.text(bytes: row.demand.bytes) : "-"),
        .init(row.why.text),
      ])
    }
    var hosts = TextTable()
    hosts.add(["host", "launcher", "replicas", "threads", "memory"].map { TextTable.Cell($0, .faint) })
    for host in plan.hosts {
      let threads = host.exclusiveThreads + host.singles
      hosts.add([
        .init(host.name, .strong), .init(launcher(host.name)), .number("\(host.replicas)"),
        .init(host.cores.map { "\(threads) of \($0)" } ?? "\(threads)"),
        .init(
          Quantity.text(bytes: host.usedBytes)
            + (host.memory.map { " of \(Quantity.text(bytes: $0))" } ?? "")),
      ])
    }
    let count = plan.rows.count
    return [
      "\(cluster.source): \(count) replica\(count == 1 ? "" : "s") on \(plan.hosts.count) "
        + "host\(plan.hosts.count == 1 ? "" : "s")", "",
    ] + replicas.lines(style) + [""] + hosts.lines(style)
      + warnings.map { style.paint("warning: ", .warning) + $0 }
  }

  var object: JSONText {
    .object([
      ("file", .text(cluster.source)), ("fits", .bool(true)),
      ("replicas", .array(plan.rows.map(row))), ("hosts", .array(plan.hosts.map(host))),
      ("warnings", .array(warnings.map { .text($0) })),
    ])
  }

  /// What there is instead of a plan.
  static func object(of failure: PlacementFailure, source: String, sentence: String) -> JSONText {
    .object([
      ("file", .text(source)), ("fits", .bool(false)), ("reason", .text(sentence)),
      ("expert", failure.expert.map { .text($0) } ?? .null), ("index", .integer(failure.index)),
      (
        "hosts",
        .array(
          failure.shortfalls.map { shortfall in
            switch shortfall.lack {
            case .memory(let needed, let free):
              .object([
                ("name", .text(shortfall.host)), ("lacks", .text("memory")), ("needed_bytes", bytes(needed)),
                ("free_bytes", bytes(free)),
              ])
            case .cores(let needed, _, let cores):
              .object([
                ("name", .text(shortfall.host)), ("lacks", .text("cores")), ("needed_cores", .integer(needed)),
                ("cores", .integer(cores)),
              ])
            }
          })
      ),
    ])
  }

  var warnings: [String] {
    ClusterPlan.missing(cluster).map {
      "the model of \"\($0.name)\" is not on this machine (\($0.engine.model)): no memory is counted"
    } + plan.warnings
  }

  private func launcher(_ host: String) -> String {
    cluster.host(named: host).map { $0.isHere ? "local" : $0.launcher.rawValue } ?? "local"
  }

  private func row(_ row: PlacementPlan.Row) -> JSONText {
    .object([
      ("expert", .text(row.replica.expert)), ("index", .integer(row.replica.index)),
      ("host", cluster.hosts.isEmpty ? .null : row.replica.host.map { .text($0) } ?? .null),
      ("threads", .integer(row.demand.threads)),
      ("bytes", Self.bytes(row.demand.bytes)), ("shared_bytes", Self.bytes(row.demand.weights.bytes)),
      ("why", .text(row.why.text)),
    ])
  }

  private func host(_ host: PlacementPlan.HostUse) -> JSONText {
    .object([
      ("name", .text(host.name)), ("launcher", .text(launcher(host.name))), ("replicas", .integer(host.replicas)),
      ("threads", .integer(host.exclusiveThreads + host.singles)),
      ("cores", host.cores.map { .integer($0) } ?? .null), ("planned_bytes", Self.bytes(host.usedBytes)),
      ("memory_bytes", host.memory.map(Self.bytes) ?? .null),
    ])
  }

  private static func bytes(_ value: UInt64) -> JSONText { .integer(Int(clamping: value)) }
}

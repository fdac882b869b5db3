/// How far the tasks of a Slurm record differ from its first job, whose size is fixed: jobs that were added, and tasks
/// that were cancelled.
public struct SlurmChanges: Sendable, Equatable, Codable {
  /// An array of tasks that are alike.
  public struct Addition: Sendable, Equatable, Codable {
    /// The job's name: the record's, `+` and a number.
    public var name: String
    public var job: String
    /// What each task runs.
    public var order: HostOrder
    /// Numbers of the tasks that were not cancelled.
    public var tasks: [Int]

    public init(name: String, job: String, order: HostOrder, tasks: [Int]) {
      self.name = name
      self.job = job
      self.order = order
      self.tasks = tasks
    }
  }

  /// Hosts whose task of the first job was cancelled.
  public var cancelled: [String] = []
  public var additions: [Addition] = []

  public init() {}
}

/// Tasks that run replicas of one expert on one host, as far as a change of their number is concerned.
struct SlurmTasks: Equatable {
  /// Nil: the first job's task of that host.
  var addition: Int?
  var order: HostOrder
  var tasks: [Int]

  func count(of expert: String) -> Int { tasks.count * order.count(of: expert) }
  /// Whether a task has nothing but one replica of it.
  func isSingle(_ expert: String) -> Bool { order.replicas.count == 1 && order.count(of: expert) == 1 }
}

/// What to do so that fewer replicas of an expert run.
struct SlurmReduction: Equatable {
  enum Step: Equatable {
    /// Cancel these tasks; all they run goes.
    case cancel(SlurmTasks)
    /// Cancel the one task once one that runs less has taken its place.
    case replace(SlurmTasks, by: HostOrder)
  }

  private(set) var steps: [Step] = []

  /// Single replicas go first, the latest first, since nothing else goes with them.
  init(of expert: String, by excess: Int, among units: [SlurmTasks]) {
    var excess = excess
    let ordered = units.reversed().filter { $0.isSingle(expert) } + units.reversed().filter { !$0.isSingle(expert) }
    for unit in ordered where excess > 0 {
      let each = unit.order.count(of: expert)
      guard each > 0 else { continue }
      if unit.isSingle(expert) {
        let leaving = min(excess, unit.tasks.count)
        steps.append(.cancel(.init(addition: unit.addition, order: unit.order, tasks: unit.tasks.suffix(leaving))))
        excess -= leaving
        continue
      }
      for task in unit.tasks.reversed() where excess > 0 {
        let leaving = min(excess, each)
        var smaller = unit.order
        smaller.set(.init(expert: expert, count: each - leaving))
        let one = SlurmTasks(addition: unit.addition, order: unit.order, tasks: [task])
        steps.append(smaller.replicas.isEmpty ? .cancel(one) : .replace(one, by: smaller))
        excess -= leaving
      }
    }
  }
}

extension LaunchRecord {
  /// Replicas of an expert that were asked for on a host.
  public func count(of expert: String, on host: String) -> Int {
    let first = slurm?.cancelled.contains(host) == true ? 0 : order(of: host)?.count(of: expert) ?? 0
    let added = slurm?.additions.filter { $0.order.host.name == host } ?? []
    return added.reduce(first) { $0 + $1.tasks.count * $1.order.count(of: expert) }
  }

  func order(of host: String) -> HostOrder? { orders.first { $0.host.name == host } }

  /// The tasks of a host, the first job's first.
  func tasks(of host: String) -> [SlurmTasks] {
    var result: [SlurmTasks] = []
    if let index = orders.firstIndex(where: { $0.host.name == host }), slurm?.cancelled.contains(host) != true {
      result.append(SlurmTasks(addition: nil, order: orders[index], tasks: [index]))
    }
    for (index, addition) in (slurm?.additions ?? []).enumerated() where addition.order.host.name == host {
      result.append(SlurmTasks(addition: index, order: addition.order, tasks: addition.tasks))
    }
    return result.filter { !$0.tasks.isEmpty }
  }
}

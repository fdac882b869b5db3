/// Decides which host runs which replica. Pure: the same problem gives the same plan everywhere.
///
/// What always holds of a plan: no host's memory is exceeded; contexts of several threads have cores of their own; no
/// host has two replicas of one expert while another one that could take it has none. A plan is found whenever there is
/// one, unless the search for it takes more than ``searchLimit`` steps, which only odd sizes on nearly full hosts cause.
public struct Planner: Sendable {
  /// Placements that are tried at most where placing one replica after the other does not work out.
  public static let searchLimit = 200_000

  let problem: PlacementProblem
  /// Indices of the hosts that each expert may be on.
  let allowed: [[Int]]
  /// Whether memory plays a part. If no host limits it, sizes must not: hosts that lack the files plan alike.
  private let weighsMemory: Bool
  private let knowsCores: Bool
  var loads: [HostLoad]
  private var placed: [Placed] = []

  private struct Placed {
    var expert: Int
    var host: Int
    var why: PlacementPlan.Reason
  }

  init(_ problem: PlacementProblem) {
    self.problem = problem
    allowed = problem.experts.map { expert in
      problem.hosts.indices.filter { expert.hosts.isEmpty || expert.hosts.contains(problem.hosts[$0].name) }
    }
    weighsMemory = problem.hosts.contains { $0.memory != nil }
    knowsCores = problem.hosts.allSatisfy { $0.cores != nil }
    loads = problem.hosts.map(HostLoad.init)
  }

  /// Throws ``PlacementFailure`` with what is missing where.
  public static func plan(_ problem: PlacementProblem) throws(PlacementFailure) -> PlacementPlan {
    let problem = problem.clamped()
    var planner = Planner(problem)
    for (index, host) in problem.hosts.enumerated() {
      let load = planner.loads[index]
      if let memory = host.memory, load.usedBytes > memory {
        throw PlacementFailure(
          expert: nil, index: 0,
          shortfalls: [.init(host: host.name, lack: .memory(needed: load.usedBytes, free: memory))], isProven: true)
      }
    }
    if let failure = planner.placeInOrder() {
      var search = PlacementSearch(problem, allowed: planner.allowed, order: planner.order)
      switch search.run(limit: searchLimit) {
      case .found(let hosts): planner.adopt(hosts)
      case .none: throw failure
      case .exhausted: throw failure.unproven
      }
    }
    planner.spread()
    return planner.result()
  }

  /// Experts in the order in which they are placed: the least free to choose and the largest first.
  private var order: [Int] {
    problem.experts.indices.sorted { a, b in
      let (x, y) = (problem.experts[a].demand, problem.experts[b].demand)
      if allowed[a].count != allowed[b].count { return allowed[a].count < allowed[b].count }
      if (x.threads > 1 || y.threads > 1) && x.threads != y.threads { return x.threads > y.threads }
      if weighsMemory, x.bytes != y.bytes { return x.bytes > y.bytes }
      return a < b
    }
  }

  // MARK: One after the other

  private mutating func placeInOrder() -> PlacementFailure? {
    for expert in order {
      let demand = problem.experts[expert].demand
      for index in 0..<problem.experts[expert].replicas {
        let candidates = allowed[expert].filter { loads[$0].fits(demand) }
        guard let (host, why) = choose(candidates, for: expert) else { return failure(expert, index) }
        loads[host].add(demand, of: expert)
        placed.append(Placed(expert: expert, host: host, why: why))
      }
    }
    return nil
  }

  /// The best host and the criterion that set it apart.
  func choose(_ candidates: [Int], for expert: Int) -> (host: Int, why: PlacementPlan.Reason)? {
    guard let first = candidates.first else { return nil }
    if allowed[expert].count == 1 { return (first, problem.experts[expert].hosts.isEmpty ? .onlyHost : .pinned) }
    if candidates.count == 1 { return (first, .onlyRoom) }
    let demand = problem.experts[expert].demand
    let scores = candidates.map { (host: $0, score: score(of: $0, for: expert, demand)) }
    let best = scores.reduce(scores[0]) { $1.score.lexicographicallyPrecedes($0.score) ? $1 : $0 }
    // The criterion that the last rival fell at: for all earlier ones some other host was as good.
    let deciding = scores.filter { $0.host != best.host }.compactMap { rival in
      rival.score.indices.first { rival.score[$0] != best.score[$0] }
    }
    let reasons: [PlacementPlan.Reason] = [.spread, .freeCore, knowsCores ? .leastBusy : .fewestReplicas, .mostMemory]
    let ties = deciding.count < candidates.count - 1
    return (best.host, ties ? .firstOfEquals : deciding.max().map { reasons[$0] } ?? .firstOfEquals)
  }

  /// Lower is better, from the first number on.
  func score(of host: Int, for expert: Int, _ demand: PlacementProblem.Demand) -> [Double] {
    let load = loads[host]
    let threads = load.threads + demand.threads
    let busy = knowsCores ? Double(threads) / Double(max(1, load.cores ?? 1)) : Double(load.total)
    let full =
      load.memory.map { Double(load.usedBytes + load.bytes(of: demand)) / Double(max(1, $0)) } ?? 0
    return [
      Double(load.count(of: expert)), load.cores.map { threads <= $0 ? 0 : 1 } ?? 0, busy, weighsMemory ? full : 0,
    ]
  }

  func failure(_ expert: Int, _ index: Int) -> PlacementFailure {
    let demand = problem.experts[expert].demand
    return PlacementFailure(
      expert: problem.experts[expert].name, index: index,
      shortfalls: allowed[expert].map { host in
        let load = loads[host]
        let lack: PlacementFailure.Lack =
          load.hasMemory(for: demand)
          ? .cores(needed: load.coresNeeded(with: demand), threads: demand.threads, cores: load.cores ?? 0)
          : .memory(needed: load.bytes(of: demand), free: load.freeBytes ?? 0)
        return .init(host: problem.hosts[host].name, lack: lack)
      }, isProven: true)
  }

  // MARK: After a search

  private mutating func adopt(_ hosts: [(expert: Int, host: Int)]) {
    loads = problem.hosts.map(HostLoad.init)
    placed = hosts.map { expert, host in
      loads[host].add(problem.experts[expert].demand, of: expert)
      return Placed(expert: expert, host: host, why: allowed[expert].count == 1 ? .pinned : .search)
    }
  }

  /// Moves replicas apart until none shares a host with its like while a host that could take it has none. Each move
  /// lowers the sum of the squares of the counts, so it ends.
  private mutating func spread() {
    var moved = true
    while moved {
      moved = false
      for index in placed.indices.reversed() {
        let (expert, from) = (placed[index].expert, placed[index].host)
        let demand = problem.experts[expert].demand
        guard loads[from].count(of: expert) > 1,
          let to = allowed[expert].first(where: { loads[$0].count(of: expert) == 0 && loads[$0].fits(demand) })
        else { continue }
        loads[from].remove(demand, of: expert)
        loads[to].add(demand, of: expert)
        placed[index].host = to
        placed[index].why = .spread
        moved = true
      }
    }
  }

  // MARK: The plan

  private func result() -> PlacementPlan {
    var rows: [PlacementPlan.Row] = []
    for (expert, value) in problem.experts.enumerated() {
      for (index, entry) in placed.filter({ $0.expert == expert }).enumerated() {
        rows.append(
          PlacementPlan.Row(
            replica: .init(expert: value.name, index: index, host: problem.hosts[entry.host].name),
            demand: value.demand, why: entry.why))
      }
    }
    let hosts = zip(problem.hosts, loads).map { host, load in
      PlacementPlan.HostUse(
        name: host.name, memory: host.memory, usedBytes: load.usedBytes, cores: host.cores,
        exclusiveThreads: load.exclusiveThreads, singles: load.singles, replicas: load.total)
    }
    return PlacementPlan(rows: rows, hosts: hosts)
  }
}

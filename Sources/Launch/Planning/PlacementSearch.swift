/// Looks for any placement that fits, depth first, where placing one replica after the other did not find one.
struct PlacementSearch {
  enum Outcome {
    /// In the order of the search.
    case found([(expert: Int, host: Int)])
    /// There is none.
    case none
    /// Not decided within the limit.
    case exhausted
  }

  private let problem: PlacementProblem
  private let allowed: [[Int]]
  /// The expert of each replica.
  private let replicas: [Int]
  private var loads: [HostLoad]

  init(_ problem: PlacementProblem, allowed: [[Int]], order: [Int]) {
    self.problem = problem
    self.allowed = allowed
    replicas = order.flatMap { Array(repeating: $0, count: problem.experts[$0].replicas) }
    loads = problem.hosts.map(HostLoad.init)
  }

  /// One replica's choice: the hosts worth trying, and which comes next.
  private struct Level {
    var candidates: [Int]
    var next = 0
    var chosen: Int?
  }

  mutating func run(limit: Int) -> Outcome {
    guard !replicas.isEmpty else { return .found([]) }
    var levels = [Level(candidates: candidates(at: 0, after: []))]
    var steps = 0
    while let last = levels.indices.last {
      let expert = replicas[last]
      let demand = problem.experts[expert].demand
      if let host = levels[last].chosen {
        loads[host].remove(demand, of: expert)
        levels[last].chosen = nil
      }
      guard levels[last].next < levels[last].candidates.count else {
        levels.removeLast()
        continue
      }
      steps += 1
      guard steps <= limit else { return .exhausted }
      let host = levels[last].candidates[levels[last].next]
      levels[last].next += 1
      levels[last].chosen = host
      loads[host].add(demand, of: expert)
      guard levels.count < replicas.count else {
        return .found(levels.enumerated().compactMap { index, level in level.chosen.map { (replicas[index], $0) } })
      }
      levels.append(Level(candidates: candidates(at: levels.count, after: levels)))
    }
    return .none
  }

  /// Hosts that fit the replica. Replicas of one expert are alike, so a later one never goes to an earlier host; hosts
  /// that are alike in all that matters are tried once.
  private func candidates(at index: Int, after levels: [Level]) -> [Int] {
    let expert = replicas[index]
    let demand = problem.experts[expert].demand
    let least = index > 0 && replicas[index - 1] == expert ? levels.last?.chosen ?? 0 : 0
    var result: [Int] = []
    for host in allowed[expert] where host >= least && loads[host].fits(demand) {
      if result.contains(where: { isInterchangeable($0, host) }) { continue }
      result.append(host)
    }
    return result
  }

  private func isInterchangeable(_ a: Int, _ b: Int) -> Bool {
    loads[a] == loads[b] && allowed.allSatisfy { $0.contains(a) == $0.contains(b) }
  }
}

extension Planner {
  /// How many replicas of one expert each host has when their number changes and everything else stays where it is.
  ///
  /// New replicas go, one after the other, where ``plan(_:)`` would put them; those in excess leave the hosts that have
  /// most of them, the busier first. What runs is never moved: its sequences would have to be computed again.
  ///
  /// - Parameters:
  ///   - problem: what its experts say of `replicas` is not looked at.
  ///   - running: replicas, `[expert][host]`, in the order of the problem.
  ///   - expert: index of the expert whose number changes.
  ///   - count: replicas wanted on all hosts together.
  /// - Returns: replicas of the expert on each host.
  /// - Throws: ``PlacementFailure`` with what is missing where.
  public static func rescale(
    _ problem: PlacementProblem, running: [[Int]], expert: Int, to count: Int
  ) throws(PlacementFailure) -> [Int] {
    var planner = Planner(problem.clamped())
    for (index, counts) in running.enumerated() {
      for (host, replicas) in counts.enumerated() {
        for _ in 0..<replicas { planner.loads[host].add(planner.problem.experts[index].demand, of: index) }
      }
    }
    let demand = planner.problem.experts[expert].demand
    var total = planner.loads.reduce(0) { $0 + $1.count(of: expert) }
    while total > count, let host = planner.fullest(of: expert) {
      planner.loads[host].remove(demand, of: expert)
      total -= 1
    }
    while total < count {
      let candidates = planner.allowed[expert].filter { planner.loads[$0].fits(demand) }
      guard let (host, _) = planner.choose(candidates, for: expert) else { throw planner.failure(expert, total) }
      planner.loads[host].add(demand, of: expert)
      total += 1
    }
    return planner.loads.map { $0.count(of: expert) }
  }

  /// The host with most replicas of an expert; of equal ones the busiest, then the last.
  private func fullest(of expert: Int) -> Int? {
    let demand = problem.experts[expert].demand
    return loads.indices.filter { loads[$0].count(of: expert) > 0 }.max { a, b in
      score(of: a, for: expert, demand).lexicographicallyPrecedes(score(of: b, for: expert, demand))
    }
  }
}

import Core
import Foundation
import Testing

@testable import Launch

/// Checks plans without the planner's own accounting.
private struct Audit {
  let problem: PlacementProblem
  /// Experts on each host, one entry for each replica, by index.
  private let hosts: [[Int]]

  init(_ problem: PlacementProblem, _ assignment: [(expert: Int, host: Int)]) {
    self.problem = problem
    var hosts = [[Int]](repeating: [], count: problem.hosts.count)
    for entry in assignment { hosts[entry.host].append(entry.expert) }
    self.hosts = hosts
  }

  init(_ problem: PlacementProblem, _ plan: PlacementPlan) throws {
    self.init(
      problem,
      try plan.rows.map { row in
        (
          try #require(problem.experts.firstIndex { $0.name == row.replica.expert }),
          try #require(problem.hosts.firstIndex { $0.name == row.replica.host })
        )
      })
  }

  private func demands(_ host: Int, adding expert: Int? = nil) -> [PlacementProblem.Demand] {
    problem.hosts[host].residents + (hosts[host] + (expert.map { [$0] } ?? [])).map { problem.experts[$0].demand }
  }

  /// Own bytes of every process, and of every file mapped its bytes once.
  private func bytes(_ demands: [PlacementProblem.Demand]) -> UInt64 {
    let files = Dictionary(demands.map { ($0.weights.file, $0.weights.bytes) }) { a, _ in a }
    return demands.reduce(0) { $0 + $1.ownBytes } + files.values.reduce(0, +)
  }

  func fits(_ host: Int, adding expert: Int? = nil) -> Bool {
    let all = demands(host, adding: expert)
    if let memory = problem.hosts[host].memory, bytes(all) > memory { return false }
    let several = all.filter { $0.threads > 1 }.reduce(0) { $0 + $1.threads }
    let needsShared = all.contains { $0.threads == 1 }
    return problem.hosts[host].cores.map { several + (needsShared ? 1 : 0) <= $0 } ?? true
  }

  func mayBe(_ expert: Int, on host: Int) -> Bool {
    problem.experts[expert].hosts.isEmpty || problem.experts[expert].hosts.contains(problem.hosts[host].name)
  }

  func count(_ expert: Int, _ host: Int) -> Int { hosts[host].filter { $0 == expert }.count }

  /// Sentences about what does not hold.
  var faults: [String] {
    var faults: [String] = []
    for (host, value) in problem.hosts.enumerated() where !hosts[host].isEmpty && !fits(host) {
      faults.append("\(value.name) is overcommitted")
    }
    for (expert, value) in problem.experts.enumerated() {
      let counts = problem.hosts.indices.map { count(expert, $0) }
      if counts.reduce(0, +) != value.replicas { faults.append("\(value.name) has \(counts) replicas") }
      for host in problem.hosts.indices {
        if counts[host] > 0, !mayBe(expert, on: host) { faults.append("\(value.name) is on a forbidden host") }
        if counts[host] == 0, counts.contains(where: { $0 > 1 }), mayBe(expert, on: host), fits(host, adding: expert) {
          faults.append("\(value.name) has \(counts) replicas while \(problem.hosts[host].name) could take one")
        }
      }
    }
    return faults
  }

  /// Whether any placement fits, by trying all of them.
  static func hasPlacement(_ problem: PlacementProblem) -> Bool {
    let replicas = problem.experts.indices.flatMap { Array(repeating: $0, count: problem.experts[$0].replicas) }
    func place(_ assignment: [(expert: Int, host: Int)]) -> Bool {
      guard assignment.count < replicas.count else { return true }
      let expert = replicas[assignment.count]
      return problem.hosts.indices.contains { host in
        let next = assignment + [(expert, host)]
        let audit = Audit(problem, next)
        // Residents alone may fill a host; nothing more may then be there.
        return audit.mayBe(expert, on: host) && audit.fits(host) && place(next)
      }
    }
    let start = Audit(problem, [])
    let routersFit = problem.hosts.indices.allSatisfy { host in
      problem.hosts[host].memory.map { start.bytes(problem.hosts[host].residents) <= $0 } ?? true
    }
    return routersFit && place([])
  }
}

@Suite struct PlannerTests {
  /// Small problems in which room is scarce.
  private static func problem(_ generator: inout SplitMix64) -> PlacementProblem {
    let files = (0..<3).map {
      PlacementProblem.Weights(file: "m\($0)", bytes: UInt64.random(in: 0...6, using: &generator))
    }
    func demand() -> PlacementProblem.Demand {
      .init(
        threads: [1, 1, 2, 3].randomElement(using: &generator) ?? 1,
        weights: files[Int.random(in: 0..<3, using: &generator)],
        ownBytes: UInt64.random(in: 0...5, using: &generator))
    }
    var hosts = (0..<Int.random(in: 1...4, using: &generator)).map { index in
      PlacementProblem.Host(
        name: "h\(index)", memory: Bool.random(using: &generator) ? UInt64.random(in: 4...24, using: &generator) : nil,
        cores: Bool.random(using: &generator) ? Int.random(in: 1...6, using: &generator) : nil)
    }
    if Bool.random(using: &generator) { hosts[0].residents = [demand()] }
    let experts = (0..<Int.random(in: 1...3, using: &generator)).map { index in
      PlacementProblem.Expert(
        name: "e\(index)", replicas: Int.random(in: 1...3, using: &generator), demand: demand(),
        hosts: Int.random(in: 0..<3, using: &generator) == 0
          ? hosts.map(\.name).filter { _ in Bool.random(using: &generator) } : [])
    }
    return PlacementProblem(hosts: hosts, experts: experts)
  }

  private static func plan(_ problem: PlacementProblem) -> Result<PlacementPlan, PlacementFailure> {
    do { return .success(try Planner.plan(problem)) } catch { return .failure(error) }
  }

  /// A plan breaks no rule, and there is one exactly if trying everything finds one.
  @Test(arguments: [1, 2, 3, 4]) func plansAreSoundAndComplete(_ seed: UInt64) throws {
    print("planner seed", seed)
    var generator = SplitMix64(seed: seed)
    var found = 0
    for round in 0..<400 {
      let problem = Self.problem(&generator)
      switch Self.plan(problem) {
      case .success(let plan):
        found += 1
        let faults = try Audit(problem, plan).faults
        #expect(faults.isEmpty, "seed \(seed), round \(round): \(faults) in \(problem)")
        #expect(plan.rows.map(\.replica).count == Set(plan.rows.map(\.replica.key)).count)
      case .failure(let failure):
        #expect(!Audit.hasPlacement(problem), "seed \(seed), round \(round): \(failure.sentence) of \(problem)")
        #expect(failure.isProven)
      }
    }
    #expect((100...350).contains(found), "the generator makes too easy or too hard problems: \(found)")
  }

  /// Equal problems have equal plans, also if they are written down differently.
  @Test func plansAreDeterministic() throws {
    var generator = SplitMix64(seed: 11)
    for round in 0..<300 {
      let problem = Self.problem(&generator)
      var shuffled = problem
      for index in shuffled.experts.indices { shuffled.experts[index].hosts.shuffle(using: &generator) }
      #expect(Self.plan(problem) == Self.plan(shuffled), "round \(round)")
    }
  }

  /// More room or less to place never makes a cluster that fitted one that does not.
  @Test func plansAreMonotone() throws {
    print("planner seed", 21)
    var generator = SplitMix64(seed: 21)
    for round in 0..<600 {
      let problem = Self.problem(&generator)
      guard case .success = Self.plan(problem) else { continue }
      var easier: [(String, PlacementProblem)] = []
      var more = problem
      let host = Int.random(in: more.hosts.indices, using: &generator)
      more.hosts[host].memory = more.hosts[host].memory.map { $0 + 3 }
      easier.append(("memory", more))
      more = problem
      more.hosts[host].cores = more.hosts[host].cores.map { $0 + 1 }
      easier.append(("cores", more))
      more = problem
      more.hosts[host].memory = nil
      easier.append(("no limit", more))
      more = problem
      more.hosts.append(.init(name: "new", memory: UInt64.random(in: 0...9, using: &generator), cores: 1))
      easier.append(("a host", more))
      more = problem
      let expert = Int.random(in: more.experts.indices, using: &generator)
      more.experts[expert].replicas -= 1
      easier.append(("a replica less", more))
      more = problem
      more.experts[expert].demand.ownBytes /= 2
      easier.append(("smaller", more))
      for (what, problem) in easier {
        if case .failure(let failure) = Self.plan(problem) {
          Issue.record("round \(round), with \(what): \(failure.sentence)")
        }
      }
    }
  }

  private static let gibibyte: UInt64 = 1 << 30

  private static func expert(
    _ name: String, _ replicas: Int = 1, threads: Int = 1, own: UInt64 = 1, weights: UInt64 = 4, hosts: [String] = []
  ) -> PlacementProblem.Expert {
    .init(
      name: name, replicas: replicas,
      demand: .init(
        threads: threads, weights: .init(file: "\(name).gguf", bytes: weights * gibibyte), ownBytes: own * gibibyte),
      hosts: hosts)
  }

  /// Placing the larger first fails here; only a search finds the packing.
  @Test func findsATightPacking() throws {
    let sizes: [UInt64] = [4, 4, 5, 5, 6, 6]
    let problem = PlacementProblem(
      hosts: (0..<2).map { .init(name: "h\($0)", memory: 15 * Self.gibibyte) },
      experts: sizes.enumerated().map { Self.expert("e\($0)", own: $1, weights: 0) })
    let plan = try Planner.plan(problem)
    #expect(plan.hosts.map(\.usedBytes) == [15 * Self.gibibyte, 15 * Self.gibibyte])
  }

  @Test func sharedWeightsCountOnce() throws {
    let problem = PlacementProblem(
      hosts: [.init(name: "a", memory: 7 * Self.gibibyte)], experts: [Self.expert("math", 3)])
    let plan = try Planner.plan(problem)
    #expect(plan.hosts[0].usedBytes == 7 * Self.gibibyte)
    #expect(plan.rows.map(\.why) == [.onlyHost, .onlyHost, .onlyHost])
  }

  @Test func wordingOfFailures() {
    let memory = PlacementProblem(
      hosts: [.init(name: "gpu1", memory: 8 * Self.gibibyte), .init(name: "gpu2", memory: 2 * Self.gibibyte)],
      experts: [Self.expert("math", 2, own: 3)])
    guard case .failure(let failure) = Self.plan(memory) else { return #expect(Bool(false), "it fitted") }
    #expect(failure.lacksMemory)
    #expect(
      failure.sentence
        == "replica 1 of the expert \"math\" fits no host: on \"gpu1\" it needs 3 GiB (3221225472 bytes) of memory and 1 "
        + "GiB (1073741824 bytes) are left; on \"gpu2\" it needs 7 GiB (7516192768 bytes) of memory and 2 GiB "
        + "(2147483648 bytes) are left")
    let cores = PlacementProblem(
      hosts: [.init(name: "gpu1", cores: 4)], experts: [Self.expert("math", 2, threads: 3)])
    guard case .failure(let crowded) = Self.plan(cores) else { return #expect(Bool(false), "it fitted") }
    #expect(!crowded.lacksMemory)
    #expect(
      crowded.sentence
        == "replica 1 of the expert \"math\" fits no host: on \"gpu1\" its 3 threads would make it 6 threads that need a "
        + "core of their own, and there are 4 cores")
  }

  @Test func singlesMayOutnumberCoresAndAreWarnedOf() throws {
    let plan = try Planner.plan(
      PlacementProblem(hosts: [.init(name: "a", cores: 2)], experts: [Self.expert("math", 3)]))
    #expect(plan.warnings.count == 1)
    #expect(plan.warnings.first?.contains("3 contexts of one thread for 2 cores") == true)
    let roomy = try Planner.plan(
      PlacementProblem(hosts: [.init(name: "a", cores: 3)], experts: [Self.expert("math", 3)]))
    #expect(roomy.warnings.isEmpty)
  }

  @Test func reasons() throws {
    let plan = try Planner.plan(
      PlacementProblem(
        hosts: [
          .init(name: "a", memory: 16 * Self.gibibyte, cores: 8),
          .init(name: "b", memory: 64 * Self.gibibyte, cores: 8),
        ], experts: [Self.expert("math", 2), Self.expert("code", hosts: ["a"]), Self.expert("law", own: 20)]))
    let reasons = Dictionary(
      uniqueKeysWithValues: plan.rows.map { ("\($0.replica.expert).\($0.replica.index)", $0.why) })
    #expect(reasons["code.0"] == .pinned)
    #expect(reasons["law.0"] == .onlyRoom)
    #expect(plan.rows.filter { $0.replica.expert == "math" }.compactMap(\.replica.host).sorted() == ["a", "b"])
  }

  /// A large fleet is placed without search.
  @Test func largeFleets() throws {
    let hosts = (0..<200).map { PlacementProblem.Host(name: "h\($0)", memory: 64 * Self.gibibyte, cores: 32) }
    let plan = try Planner.plan(
      PlacementProblem(hosts: hosts, experts: (0..<20).map { Self.expert("e\($0)", 100, threads: 1 + $0 % 3) }))
    #expect(plan.rows.count == 2000)
    #expect(
      try Audit(
        PlacementProblem(hosts: hosts, experts: (0..<20).map { Self.expert("e\($0)", 100, threads: 1 + $0 % 3) }), plan
      ).faults.isEmpty)
  }

  @Test func hugeSizesDoNotOverflow() {
    let problem = PlacementProblem(
      hosts: [.init(name: "a", memory: .max), .init(name: "b", memory: 5)],
      experts: [
        .init(
          name: "x", replicas: 1024,
          demand: .init(threads: 1, weights: .init(file: "w", bytes: .max), ownBytes: .max))
      ])
    if case .success(let plan) = Self.plan(problem) { #expect(plan.rows.count == 1024) }
  }
}

extension Placement.Replica {
  fileprivate var key: String { "\(expert).\(index)" }
}

import Core
import Foundation
import Testing

@testable import Launch

/// Which replicas start and stop when an expert's number changes.
@Suite struct ReplicaAdjustmentTests {
  /// What must hold whatever runs, is leaving or was given up.
  @Test(arguments: [1, 2, 3]) func holdsForAnyState(_ seed: UInt64) {
    print("adjustment seed", seed)
    var generator = SplitMix64(seed: seed)
    // One expert's name begins like another's, and has a dot and a number at its end.
    let experts = ["m", "m.1", "n"]
    for round in 0..<2_000 {
      var kept: Set<String> = []
      var leaving: Set<String> = []
      var givenUp: Set<String> = []
      for _ in 0..<Int.random(in: 0...14, using: &generator) {
        let name = "\(experts.randomElement(using: &generator) ?? "m").\(Int.random(in: 0...9, using: &generator))"
        guard !kept.contains(name), !leaving.contains(name) else { continue }
        switch Int.random(in: 0...4, using: &generator) {
        case 0: leaving.insert(name)
        case 1:
          kept.insert(name)
          givenUp.insert(name)
        default: kept.insert(name)
        }
      }
      let expert = experts.randomElement(using: &generator) ?? "m"
      let count = Int.random(in: 0...8, using: &generator)
      let taken = kept.union(leaving)
      let change = ReplicaAdjustment(of: expert, to: count, kept: kept, givenUp: givenUp, taken: taken)
      let what: Comment = "seed \(seed), round \(round): \(change) of \(kept), \(leaving), \(givenUp) to \(count)"
      // As a supervisor would do it.
      var after = taken.subtracting(change.forgotten)
      #expect(change.forgotten.allSatisfy { givenUp.contains($0) }, what)
      for name in change.starting { #expect(after.insert(name).inserted, what) }
      let served = kept.subtracting(givenUp).union(change.starting).subtracting(change.stopping)
      let own = served.filter { name in
        (0...20).contains { name == "\(expert).\($0)" }
      }
      #expect(own.count == count, what)
      #expect(change.starting.isEmpty || change.stopping.isEmpty, what)
      let others = kept.subtracting(givenUp).filter { name in !(0...20).contains { name == "\(expert).\($0)" } }
      #expect(others.isSubset(of: served), what)
      // The highest leave; the lowest free numbers are taken.
      let number: (String) -> Int = { Int($0.split(separator: ".").last ?? "") ?? -1 }
      if let least = change.stopping.map(number).min() { #expect(own.map(number).allSatisfy { $0 < least }, what) }
      for name in change.starting {
        for lower in 0..<number(name) {
          #expect(taken.contains("\(expert).\(lower)") || change.starting.contains("\(expert).\(lower)"), what)
        }
      }
      #expect(Set(change.starting + change.stopping).count == change.starting.count + change.stopping.count, what)
    }
  }

  @Test func namesOfOthersAreLeftAlone() {
    let change = ReplicaAdjustment(
      of: "math", to: 0, kept: ["math.0", "math.01", "math.x", "maths.0", "math.2.1", "math.-1"], taken: [])
    #expect(change.stopping == ["math.0"])
  }
}

/// Where replicas go when an expert's number changes while others run.
@Suite struct RescaleTests {
  private struct Scene {
    var problem: PlacementProblem
    var running: [[Int]]
    var expert: Int
    var count: Int

    init(_ generator: inout SplitMix64) {
      let files = (0..<2).map {
        PlacementProblem.Weights(file: "m\($0)", bytes: UInt64.random(in: 0...6, using: &generator))
      }
      let hosts = (0..<Int.random(in: 1...4, using: &generator)).map { index in
        PlacementProblem.Host(
          name: "h\(index)",
          memory: Bool.random(using: &generator) ? UInt64.random(in: 4...24, using: &generator) : nil,
          cores: Bool.random(using: &generator) ? Int.random(in: 1...6, using: &generator) : nil)
      }
      let experts = (0..<2).map { index in
        PlacementProblem.Expert(
          name: "e\(index)", replicas: 1,
          demand: .init(
            threads: [1, 1, 2].randomElement(using: &generator) ?? 1,
            weights: files[Int.random(in: 0..<2, using: &generator)],
            ownBytes: UInt64.random(in: 1...4, using: &generator)),
          hosts: Int.random(in: 0..<4, using: &generator) == 0
            ? hosts.map(\.name).filter { _ in Bool.random(using: &generator) } : [])
      }
      problem = PlacementProblem(hosts: hosts, experts: experts)
      running = experts.map { _ in hosts.map { _ in Int.random(in: 0...2, using: &generator) } }
      expert = Int.random(in: 0..<2, using: &generator)
      count = Int.random(in: 0...8, using: &generator)
    }

    /// Whether one more replica of the expert fits a host with these numbers, by counting afresh.
    func fits(_ host: Int, _ counts: [[Int]]) -> Bool {
      let value = problem.hosts[host]
      guard problem.experts[expert].hosts.isEmpty || problem.experts[expert].hosts.contains(value.name) else {
        return false
      }
      var all: [PlacementProblem.Demand] = []
      for (index, one) in problem.experts.enumerated() {
        all += Array(repeating: one.demand, count: counts[index][host] + (index == expert ? 1 : 0))
      }
      let files = Dictionary(all.map { ($0.weights.file, $0.weights.bytes) }) { a, _ in a }
      let bytes = all.reduce(0) { $0 + $1.ownBytes } + files.values.reduce(0, +)
      if let memory = value.memory, bytes > memory { return false }
      let several = all.filter { $0.threads > 1 }.reduce(0) { $0 + $1.threads }
      // A context of one thread needs a core that no other of several threads has.
      let shared =
        problem.experts[expert].demand.threads == 1 || all.contains { $0.threads == 1 } ? 1 : 0
      return value.cores.map { several + shared <= $0 } ?? true
    }
  }

  /// Only the expert's numbers change, nothing is moved, no host is overfilled, replicas spread; it fails only if no
  /// host has room.
  @Test(arguments: [1, 2, 3, 4]) func changesAreSoundAndComplete(_ seed: UInt64) {
    print("rescale seed", seed)
    var generator = SplitMix64(seed: seed)
    var refused = 0
    for round in 0..<1_500 {
      let scene = Scene(&generator)
      let before = scene.running[scene.expert]
      let total = before.reduce(0, +)
      let what: Comment = "seed \(seed), round \(round): \(scene)"
      do {
        let after = try Planner.rescale(
          scene.problem, running: scene.running, expert: scene.expert, to: scene.count)
        #expect(after.count == before.count && after.reduce(0, +) == scene.count, what)
        let pairs = zip(before, after)
        #expect(scene.count >= total ? pairs.allSatisfy { $0 <= $1 } : pairs.allSatisfy { $0 >= $1 }, what)
        var counts = scene.running
        counts[scene.expert] = after
        for host in after.indices where after[host] > before[host] {
          var without = counts
          without[scene.expert][host] -= 1
          #expect(scene.fits(host, without), what)
          for other in after.indices where after[other] < after[host] - 1 {
            #expect(!scene.fits(other, counts), "\(what): h\(other) had room")
          }
        }
        for host in after.indices where after[host] < before[host] {
          #expect(after.allSatisfy { $0 <= after[host] + 1 }, what)
        }
      } catch {
        refused += 1
        // However the missing ones are spread: as many as fit each host are too few.
        var counts = scene.running
        for host in before.indices {
          while counts[scene.expert].reduce(0, +) < scene.count, scene.fits(host, counts) {
            counts[scene.expert][host] += 1
          }
        }
        #expect(counts[scene.expert].reduce(0, +) < scene.count, "\(what): \(error)")
      }
    }
    #expect((100...1_200).contains(refused), "the generator makes too easy or too hard problems: \(refused)")
  }

  @Test func theSentenceNamesWhatIsMissing() {
    let problem = PlacementProblem(
      hosts: [.init(name: "a", memory: 10)],
      experts: [
        .init(name: "math", replicas: 1, demand: .init(threads: 1, weights: .init(file: "m", bytes: 4), ownBytes: 3))
      ])
    #expect {
      try Planner.rescale(problem, running: [[2]], expert: 0, to: 4)
    } throws: { error in
      let failure = error as? PlacementFailure
      return failure?.lacksMemory == true && failure?.index == 2
        && failure?.sentence.contains("on \"a\" it needs 3 bytes (3 bytes) of memory and 0 bytes (0 bytes) are left") == true
    }
  }
}

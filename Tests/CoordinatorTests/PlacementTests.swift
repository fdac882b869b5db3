import Core
import Testing

@testable import Coordinator

@Suite struct PlacementTests {
  typealias Candidate = PlacementPolicy.Candidate

  private static func candidates(using random: inout SplitMix64) -> [Candidate] {
    (1...Int.random(in: 1...8, using: &random)).map { id in
      let slots = Int.random(in: 1...8, using: &random)
      return Candidate(
        id: ReplicaID(rawValue: UInt64(id)), slots: slots, assigned: Int.random(in: 0...slots + 1, using: &random),
        pending: Int.random(in: 0...3, using: &random), held: Int.random(in: 0...20, using: &random) * 32,
        slowness: Double.random(in: 1...20, using: &random),
        burden: Bool.random(using: &random) ? 0 : Double.random(in: 0...2, using: &random))
    }
  }

  @Test("a full replica is never chosen while one has room, and whoever is chosen stays so as its case gets better")
  func properties() throws {
    let seed = UInt64.random(in: 0...UInt64.max)
    print("PlacementTests.properties: seed \(seed)")
    var random = SplitMix64(seed: seed)
    #expect(PlacementPolicy.choose([], tokens: 5) == nil)
    for _ in 0..<2000 {
      let candidates = Self.candidates(using: &random)
      let tokens = Int.random(in: 0...800, using: &random)
      let chosen = try #require(PlacementPolicy.choose(candidates, tokens: tokens))
      let winner = try #require(candidates.first { $0.id == chosen })
      #expect(winner.hasRoom || candidates.allSatisfy { !$0.hasRoom })
      #expect(PlacementPolicy.choose(candidates.shuffled(using: &random), tokens: tokens) == chosen)
      // Better in any one respect.
      var better = candidates
      let index = try #require(better.firstIndex { $0.id == chosen })
      switch Int.random(in: 0..<4, using: &random) {
      case 0: better[index].held += 64
      case 1: better[index].assigned = max(0, better[index].assigned - 1)
      case 2: better[index].slowness = 1
      default: better[index].burden = 0
      }
      #expect(PlacementPolicy.choose(better, tokens: tokens) == chosen)
      // Without the others, whatever they were.
      #expect(PlacementPolicy.choose([winner], tokens: tokens) == chosen)
    }
  }

  @Test("equal replicas share sequences evenly, and a long common prefix outweighs company until the slots are full")
  func balanceAndAffinity() throws {
    for count in 1...6 {
      var replicas = (1...count).map { Candidate(id: ReplicaID(rawValue: UInt64($0)), slots: 16) }
      for step in 1...16 * count {
        let chosen = try #require(PlacementPolicy.choose(replicas, tokens: 100))
        let index = try #require(replicas.firstIndex { $0.id == chosen })
        replicas[index].assigned += 1
        let loads = replicas.map(\.assigned)
        #expect((loads.max() ?? 0) - (loads.min() ?? 0) <= 1, "after \(step): \(loads)")
      }
    }
    var pair = [Candidate(id: ReplicaID(rawValue: 1), slots: 4), Candidate(id: ReplicaID(rawValue: 2), slots: 4)]
    pair[1].held = 640
    for assigned in 0..<4 {
      pair[1].assigned = assigned
      #expect(PlacementPolicy.choose(pair, tokens: 700) == pair[1].id)
    }
    pair[1].assigned = 4
    #expect(PlacementPolicy.choose(pair, tokens: 700) == pair[0].id)
    // A short one does not outweigh it.
    (pair[1].held, pair[1].assigned) = (32, 1)
    #expect(PlacementPolicy.choose(pair, tokens: 700) == pair[0].id)
  }

  @Test("the directory finds exactly the replicas with a common beginning, as long as their slots last")
  func directory() throws {
    let seed = UInt64.random(in: 0...UInt64.max)
    print("PlacementTests.directory: seed \(seed)")
    var random = SplitMix64(seed: seed)
    let size = PrefixBlocks.tokensPerBlock
    // Sequences that branch off each other at random places.
    var chains: [[Token]] = [[]]
    for _ in 0..<12 {
      let base = chains.randomElement(using: &random) ?? []
      let kept = base.prefix(Int.random(in: 0...base.count, using: &random))
      chains.append(
        Array(kept)
          + (0..<Int.random(in: 1...5 * size, using: &random)).map { _ in
            Token.random(in: 0..<3, using: &random)
          })
    }
    for slots in 1...3 {
      var directory = PrefixDirectory()
      var held: [UInt64: [(sequence: UInt64, tokens: [Token])]] = [:]
      for _ in 0..<200 {
        let replica = UInt64.random(in: 1...3, using: &random)
        let sequence = UInt64.random(in: 0..<6, using: &random)
        let tokens = try #require(chains.randomElement(using: &random))
        directory.note(
          sequence, PrefixBlocks(TokenChain(tokens)), at: ReplicaID(rawValue: replica), slots: slots)
        held[replica, default: []].removeAll { $0.sequence == sequence }
        held[replica, default: []].append((sequence, tokens))
        if held[replica, default: []].count > slots { held[replica]?.removeFirst() }
        let asked = try #require(chains.randomElement(using: &random))
        for replica in 1...3 as ClosedRange<UInt64> {
          let common = (held[replica] ?? []).map { zip($0.tokens, asked).prefix { $0 == $1 }.count / size * size }
          #expect(
            directory.held(PrefixBlocks(TokenChain(asked)), at: ReplicaID(rawValue: replica)) == common.max() ?? 0)
        }
      }
      directory.remove(ReplicaID(rawValue: 1))
      #expect(chains.allSatisfy { directory.held(PrefixBlocks(TokenChain($0)), at: ReplicaID(rawValue: 1)) == 0 })
    }
  }

  @Test("faults weigh on the process, less on its host, and are forgiven by half every ten seconds")
  func health() {
    var book = HealthBook()
    let second: UInt64 = 1_000_000_000
    book.fault(incarnation: 1, host: "a", now: 0)
    #expect(book.burden(incarnation: 1, host: "a", now: 0) == 1.25)
    #expect(book.burden(incarnation: 2, host: "a", now: 0) == 0.25)
    #expect(book.burden(incarnation: 3, host: "b", now: 0) == 0)
    #expect(book.burden(incarnation: 1, host: "a", now: 10 * second) == 0.625)
    book.fault(incarnation: 1, host: "a", weight: 0.5, now: 10 * second)
    #expect(book.burden(incarnation: 1, host: "a", now: 10 * second) == 1.25)
    #expect(book.burden(incarnation: 1, host: "a", now: 600 * second) < 1e-9)
    // Whatever comes, it stays bounded, and recent faults are among those remembered.
    for index in 10..<5000 as Range<UInt64> { book.fault(incarnation: index, host: "h\(index)", now: index * second) }
    #expect(book.burden(incarnation: 4999, host: "other", now: 4999 * second) == 1)
  }

  @Test("a replica measured slow is held to be so for a while only")
  func slowness() {
    var time = StepTime()
    #expect(time.slowness(comparedTo: 1e6, now: 0) == 1)
    for _ in 0..<100 { time.add(4_000_000, now: 0) }
    #expect(abs(time.slowness(comparedTo: 1e6, now: 0) - 4) < 0.01)
    #expect(abs(time.slowness(comparedTo: 1e6, now: 10_000_000_000) - 2.5) < 0.01)
    #expect(time.slowness(comparedTo: 1e6, now: 600_000_000_000) < 1.001)
  }
}

import Core
import Testing

@testable import Worker

@Suite struct SlotLedgerTests {
  @Test("whatever coordinators do, no more is held than there is, and those that stay end up with even shares")
  func properties() throws {
    let seed = UInt64.random(in: 0...UInt64.max)
    print("SlotLedgerTests.properties: seed \(seed)")
    var random = SplitMix64(seed: seed)
    for _ in 0..<300 {
      let names = (0..<Int.random(in: 1...5, using: &random)).map { "c\($0)" }
      let slots = Int.random(in: 0...12, using: &random)
      var ledger = SlotLedger(slots: slots, endpoints: names)
      var offered: [String: Int] = [:]
      func check() { #expect(ledger.held.values.reduce(0, +) <= slots, "\(ledger.held)") }
      for _ in 0..<60 {
        let name = try #require(names.randomElement(using: &random))
        switch Int.random(in: 0..<4, using: &random) {
        case 0:
          ledger.end(name)
          offered[name] = nil
        case 1:
          // A coordinator may take less than it was offered, and one that is confused more.
          if let offer = offered[name] { ledger.lease(Int.random(in: 0...offer + 2, using: &random), to: name) }
        default: offered[name] = ledger.offer(to: name)
        }
        check()
      }
      // Each renews until nothing changes, as its link does at every tick.
      let present = names.filter { offered[$0] != nil }
      for _ in 0..<3 {
        for name in present {
          let slots = ledger.offer(to: name)
          ledger.lease(slots, to: name)
          check()
        }
      }
      let shares = present.map { ledger.held[$0] ?? 0 }
      #expect(present.isEmpty || shares.reduce(0, +) == slots)
      #expect((shares.max() ?? 0) - (shares.min() ?? 0) <= 1, "\(shares)")
      #expect(present.allSatisfy { ledger.due(to: $0) == ledger.held[$0] })
    }
  }

  @Test("one coordinator gets everything, a second waits until the first has given up half")
  func handOver() {
    var ledger = SlotLedger(slots: 4, endpoints: ["a", "b"])
    #expect(ledger.offer(to: "a") == 4)
    ledger.lease(4, to: "a")
    #expect(ledger.offer(to: "b") == 0)
    ledger.lease(0, to: "b")
    #expect(ledger.due(to: "a") == 2)
    #expect(ledger.offer(to: "a") == 2)
    // Not before the first has agreed.
    #expect(ledger.due(to: "b") == 0)
    ledger.lease(2, to: "a")
    #expect(ledger.due(to: "b") == 2 && ledger.offer(to: "b") == 2)
    ledger.lease(2, to: "b")
    ledger.end("a")
    #expect(ledger.due(to: "b") == 4)
  }
}

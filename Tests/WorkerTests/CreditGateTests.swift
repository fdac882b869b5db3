import Core
import Testing

@testable import Worker

@Suite struct CreditGateTests {
  @Test(
    "bytes under way never exceed the credit by more than one message, and each request keeps its order",
    arguments: 0..<10)
  func bounded(seed: UInt64) {
    print("credit gate seed \(seed)")
    var random = SplitMix64(seed: seed)
    var gate = CreditGate<(request: UInt64, number: Int, bytes: Int)>(credit: 1_000)
    var outstanding = 0
    var nextNumber: [UInt64: Int] = [:]
    var seen: [UInt64: Int] = [:]
    func left(_ message: (request: UInt64, number: Int, bytes: Int)) {
      #expect(seen[message.request, default: 0] == message.number)
      seen[message.request] = message.number + 1
      outstanding += message.bytes
      #expect(outstanding < 1_000 + 400)
    }
    for _ in 0..<5_000 {
      if Bool.random(using: &random) {
        let request = UInt64.random(in: 0..<3, using: &random)
        let bytes = Bool.random(using: &random) ? 0 : Int.random(in: 1...400, using: &random)
        let number = nextNumber[request, default: 0]
        nextNumber[request] = number + 1
        if let message = gate.offer((request, number, bytes), request: request, bytes: bytes) { left(message) }
      } else {
        let granted = min(outstanding, Int.random(in: 0...500, using: &random))
        outstanding -= granted
        for message in gate.grant(granted) { left(message) }
      }
    }
    while !gate.isEmpty {
      let granted = outstanding
      outstanding = 0
      for message in gate.grant(granted) { left(message) }
    }
    #expect(seen == nextNumber)
  }

  @Test("a stalled scoring answer does not hold up another request's reply")
  func noHeadOfLineBlocking() {
    var gate = CreditGate<String>(credit: 10)
    #expect(gate.offer("row", request: 1, bytes: 20) == "row")
    #expect(gate.offer("row 2", request: 1, bytes: 20) == nil)
    #expect(gate.offer("end of 1", request: 1, bytes: 0) == nil)
    #expect(gate.offer("step", request: 2, bytes: 0) == "step")
    gate.drop(request: 1)
    #expect(gate.isEmpty)
  }
}

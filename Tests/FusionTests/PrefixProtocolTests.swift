import Core
import Fusion
import Testing

/// The protocol between ledger and cache under a network that loses, doubles and reorders.
@Suite struct PrefixProtocolTests {
  /// A step together with the tokens its sender meant.
  struct Meant {
    var step: PrefixStep
    var tokens: [Token]
  }

  enum Operation: CaseIterable { case appendA, appendB, rollBack, move }

  /// The steps a coordinator sends when it does these operations and hears nothing back.
  static func steps(of operations: [Operation]) -> [Meant] {
    var chain = TokenChain([7])
    var ledger = PrefixLedger()
    var sent = [Meant(step: ledger.plan(chain, through: chain.count), tokens: chain.tokens)]
    for operation in operations {
      switch operation {
      case .appendA: chain.append(1)
      case .appendB: chain.append(2)
      case .rollBack:
        chain.truncate(to: max(1, chain.count - 1))
        ledger.rollBack(to: chain.count)
      case .move: ledger.moved()
      }
      sent.append(Meant(step: ledger.plan(chain, through: chain.count), tokens: chain.tokens))
    }
    return sent
  }

  /// Every sequence of `length` elements out of `items`, repetition allowed.
  static func words<T>(_ items: [T], length: Int) -> [[T]] {
    (0..<length).reduce([[]]) { words, _ in words.flatMap { word in items.map { word + [$0] } } }
  }

  @Test("every interleaving of small cases: a step is answered on exactly its own prefix, or not at all")
  func exhaustive() {
    var evaluated = 0
    var refused = 0
    for operations in Self.words(Operation.allCases, length: 3) {
      let sent = Self.steps(of: operations)
      for deliveries in Self.words(Array(sent.indices), length: 5) {
        var cache = PrefixCache<Int>(capacity: 2, context: 100)
        for index in deliveries {
          let meant = sent[index]
          if case .evaluate(let tokens, let hash) = cache.receive(meant.step, for: 0) {
            evaluated += 1
            #expect(tokens == meant.tokens, "\(operations) delivered as \(deliveries)")
            #expect(hash == TokenChain(meant.tokens).hash(at: meant.tokens.count))
          } else {
            refused += 1
          }
        }
      }
    }
    // The exploration must have met both outcomes many times to mean anything.
    #expect(evaluated > 10_000 && refused > 10_000)
  }

  @Test("steps delivered once and in order are all evaluated")
  func inOrder() {
    for operations in Self.words(Operation.allCases, length: 4) {
      var cache = PrefixCache<Int>(capacity: 2, context: 100)
      for meant in Self.steps(of: operations) {
        guard case .evaluate(let tokens, _) = cache.receive(meant.step, for: 0) else {
          Issue.record("refused: \(operations)")
          return
        }
        #expect(tokens == meant.tokens)
      }
    }
  }

  @Test(
    "whatever the network does, a coordinator that resends gets every answer, of the right prefix", arguments: 0..<20)
  func liveness(seed: UInt64) {
    var random = SplitMix64(seed: seed)
    print("prefix protocol, liveness seed \(seed)")
    var cache = PrefixCache<Int>(capacity: 3, context: 10_000)
    var chain = TokenChain([1, 2, 3])
    var ledger = PrefixLedger()
    var late: [Meant] = []
    for round in 0..<300 {
      switch Int.random(in: 0..<8, using: &random) {
      case 0:
        chain.truncate(to: Int.random(in: 1...chain.count, using: &random))
        ledger.rollBack(to: chain.count)
      case 1: cache.release(0)
      case 2: for other in 1...3 { _ = cache.receive(Self.steps(of: []).first!.step, for: other) }
      case 3: ledger.moved()
      default: chain.append(Token.random(in: 0..<4, using: &random))
      }
      var attempts = 0
      answered: while true {
        attempts += 1
        #expect(attempts < 200, "round \(round) found no answer")
        if attempts >= 200 { return }
        let meant = Meant(step: ledger.plan(chain, through: chain.count), tokens: chain.tokens)
        // An old step may arrive before the new one.
        if let old = late.randomElement(using: &random), Bool.random(using: &random) {
          if case .evaluate(let tokens, _) = cache.receive(old.step, for: 0) { #expect(tokens == old.tokens) }
        }
        late.append(meant)
        if late.count > 5 { late.removeFirst() }
        if Int.random(in: 0..<4, using: &random) == 0 {
          // Lost on the way: the deadline passes and the sequence is sent again as to a new replica.
          ledger.moved()
          continue
        }
        switch cache.receive(meant.step, for: 0) {
        case .evaluate(let tokens, _):
          #expect(tokens == chain.tokens)
          break answered
        case .missing(let held): ledger.missing(held, chain: chain)
        case .stale: ledger.moved()
        case .tooLong: Issue.record("too long")
        }
      }
    }
  }

  @Test("after a roll-back only the changed tail is sent again")
  func resendsTheTail() {
    var chain = TokenChain(0..<100)
    var ledger = PrefixLedger()
    #expect(ledger.plan(chain, through: 100).append.count == 100)
    chain.truncate(to: 90)
    ledger.rollBack(to: 90)
    chain.append(5)
    let step = ledger.plan(chain, through: chain.count)
    #expect(step.baseLength == 90 && step.append == [5] && step.epoch == 1)
  }

  @Test("a worker that has a part of the prefix is sent the rest only")
  func resumesFromWhatIsHeld() {
    let chain = TokenChain(0..<50)
    var ledger = PrefixLedger()
    _ = ledger.plan(chain, through: 50)
    ledger.missing(HeldPrefix(length: 20, hash: chain.hash(at: 20)!), chain: chain)
    #expect(ledger.plan(chain, through: 50).append.count == 30)
    // The same length of other tokens is no help.
    ledger.missing(HeldPrefix(length: 20, hash: TokenChain(1..<21).hash(at: 20)!), chain: chain)
    #expect(ledger.plan(chain, through: 50).append.count == 50)
  }

  @Test("a prefix beyond the context is refused and leaves the cache as it was")
  func tooLong() {
    var cache = PrefixCache<Int>(capacity: 2, context: 8)
    let chain = TokenChain(0..<9)
    var ledger = PrefixLedger()
    #expect(cache.receive(ledger.plan(chain, through: 9), for: 1) == .tooLong(length: 9))
    #expect(cache.length(of: 1) == 0)
  }

  @Test("the hash of a prefix depends on every token and on their order")
  func hashes() {
    #expect(TokenChain([1, 2]).hash(at: 2) != TokenChain([2, 1]).hash(at: 2))
    #expect(TokenChain([1, 2]).hash(at: 1) == TokenChain([1, 3]).hash(at: 1))
    #expect(TokenChain([]).hash(at: 0) == PrefixHash.empty)
    #expect(TokenChain([1]).hash(at: 2) == nil)
  }
}

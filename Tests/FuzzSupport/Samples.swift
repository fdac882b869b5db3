// `@testable` exists in debug builds only.
#if DEBUG
  import Core
  import Foundation

  @testable import Wire

  /// Random valid messages.
  struct Samples {
    var generator: SplitMix64
    let limits: WireLimits

    init(seed: UInt64, limits: WireLimits = WireLimits()) {
      generator = SplitMix64(seed: seed)
      self.limits = limits
    }

    /// The seed of a test: fixed, or `FUSIONROUTE_TEST_SEED`; printed so that a failure can be repeated.
    static func seed(_ name: String, default value: UInt64) -> UInt64 {
      let seed = ProcessInfo.processInfo.environment["FUSIONROUTE_TEST_SEED"].flatMap(UInt64.init) ?? value
      print("\(name): FUSIONROUTE_TEST_SEED=\(seed)")
      return seed
    }

    mutating func message(_ kind: MessageKind) -> WireMessage {
      switch kind {
      case .register: .register(register())
      case .registered:
        .registered(
          Registered(
            coordinator: id(), leasedSlots: int(0...limits.slots), heartbeatMilliseconds: int(1...60_000),
            creditBytes: int(0...(1 << 40)), commonVocabulary: int(1...limits.vocabulary)))
      case .registerAgain: .registerAgain
      case .refused: .refused(Refused(code: .init(rawValue: name()), message: sentence()))
      case .vocabularyQuery:
        .vocabularyQuery(VocabularyQuery(first: int(0...limits.vocabulary), count: int(1...limits.pageTokens)))
      case .vocabularyPage: .vocabularyPage(page())
      case .heartbeat: .heartbeat(heartbeat())
      case .step: .step(step())
      case .stepReply: .stepReply(stepReply())
      case .prefixMissing:
        .prefixMissing(
          PrefixMissing(
            request: id(), coordinator: id(), sequence: id(), epoch: UInt32(truncatingIfNeeded: id()),
            haveLength: int(0...limits.context), haveHash: PrefixHash(digest())))
      case .rowChunk: .rowChunk(rowChunk())
      case .score: .score(score())
      case .scoreReply: .scoreReply(scoreReply())
      case .failure:
        .failure(Failure(request: id(), coordinator: id(), code: .init(rawValue: name()), message: sentence()))
      case .credit: .credit(Credit(bytes: int(1...(1 << 40))))
      case .cancel: .cancel(Cancel(request: id()))
      case .release: .release(Release(sequence: id()))
      case .drain: .drain
      case .goodbye: .goodbye(Goodbye(sender: id(), reason: sentence()))
      }
    }

    func sender(of kind: MessageKind) -> WireSender { kind.maySend(.worker) ? .worker : .coordinator }
  }

  // MARK: - Numbers and text

  extension Samples {
    mutating func int(_ range: ClosedRange<Int>) -> Int {
      // Ends and small numbers more often than chance would have them.
      switch Int.random(in: 0..<8, using: &generator) {
      case 0: range.lowerBound
      case 1: range.upperBound
      case 2: min(range.upperBound, range.lowerBound + Int.random(in: 0...300, using: &generator))
      default: Int.random(in: range, using: &generator)
      }
    }

    mutating func flag() -> Bool { Bool.random(using: &generator) }

    mutating func id() -> UInt64 {
      switch Int.random(in: 0..<4, using: &generator) {
      case 0: 0
      case 1: .max
      case 2: UInt64.random(in: 0...1_000, using: &generator)
      default: generator.next()
      }
    }

    mutating func digest() -> SHA256Digest {
      let bytes = (0..<32).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
      return SHA256Digest(bytes) ?? SHA256Digest(hashing: bytes)
    }

    mutating func name() -> String {
      let letters = Array("abcdefgh-._0123456789é漢")
      return String((0..<int(1...20)).map { _ in letters.randomElement(using: &generator) ?? "x" })
    }

    mutating func sentence() -> String {
      let words = ["", "prefix", "größer", "漢字", "🙂", "line\nbreak", "tab\t", "\"quoted\"", "e\u{301}"]
      return (0..<int(0...12)).map { _ in words.randomElement(using: &generator) ?? "" }.joined(separator: " ")
    }

    mutating func logit() -> Float {
      switch Int.random(in: 0..<10, using: &generator) {
      case 0: -.infinity
      case 1: 0
      case 2: -0.0
      case 3: .leastNonzeroMagnitude
      case 4: -.greatestFiniteMagnitude
      default: Float.random(in: -40...40, using: &generator)
      }
    }

    mutating func token() -> Token { Token(int(0...(limits.vocabulary - 1))) }

    mutating func tokens(_ count: Int) -> [Token] { (0..<count).map { _ in token() } }

    mutating func ascendingTokens(_ count: Int) -> [Token] { Set(tokens(count)).sorted() }

    /// k distinct ids with their logits, in the order the wire wants.
    mutating func top(_ k: Int) -> (ids: [Token], logits: [Float]) {
      let pairs = Set(tokens(k)).map { (id: $0, logit: logit()) }.sorted {
        $0.logit != $1.logit ? $0.logit > $1.logit : $0.id < $1.id
      }
      return (pairs.map(\.id), pairs.map(\.logit))
    }
  }

  // MARK: - Messages

  extension Samples {
    mutating func register() -> Register {
      Register(
        protocols: 1...UInt32(int(1...5)), expert: name(), incarnation: id(), modelFingerprint: digest(),
        vocabularyFingerprint: digest(), vocabularySize: int(1...limits.vocabulary),
        numerics: Numerics(label: sentence(), probeHash: digest(), batchInvariant: flag()),
        slots: int(0...limits.slots), context: int(1...limits.context), maximumPositions: int(1...limits.context),
        host: name(), pid: Int32(int(1...Int(Int32.max))), software: name())
    }

    mutating func page() -> VocabularyPage {
      let total = int(1...limits.vocabulary)
      let first = int(0...total)
      let count = first == total ? 0 : int(1...min(40, total - first))
      return VocabularyPage(
        first: first, total: total,
        texts: (0..<count).map { _ in (0..<int(0...12)).map { _ in UInt8(truncatingIfNeeded: generator.next()) } },
        attributes: (0..<count).map { _ in UInt32(truncatingIfNeeded: id()) })
    }

    mutating func heartbeat() -> Heartbeat {
      Heartbeat(
        sender: id(), count: id(), progress: flag() ? id() : nil,
        batchBudgetMilliseconds: flag() ? int(0...limits.milliseconds) : nil, queued: flag() ? int(0...100_000) : nil,
        residentSequences: flag() ? int(0...1_000) : nil,
        kvTokens: flag() ? UInt64(int(0...limits.countedTokens)) : nil,
        evaluatedTokens: flag() ? UInt64(int(0...limits.countedTokens)) : nil, draining: flag())
    }

    mutating func step() -> Step {
      let base = int(0...limits.context)
      let append = tokens(int(0...min(60, limits.context - base)))
      let length = base + append.count
      let positions = length == 0 ? [] : Set((0..<int(0...4)).map { _ in int(0...(length - 1)) }).sorted()
      return Step(
        request: id(), coordinator: id(), sequence: id(), epoch: UInt32(truncatingIfNeeded: id()), baseLength: base,
        baseHash: PrefixHash(digest()), append: append,
        wants: positions.map { position in
          flag()
            ? .init(position: position, fullRow: true, logSumExp: flag())
            : .init(
              position: position, topK: int(0...limits.topK), named: ascendingTokens(int(0...40)), logSumExp: flag())
        },
        deadlineMilliseconds: int(1...limits.milliseconds), trace: flag() ? trace() : nil)
    }

    mutating func trace() -> TraceContext? {
      let letters = Array("abcXYZ019-_")
      let digits = Array("0123456789abcdef")
      return TraceContext(
        requestID: String((0..<int(1...64)).map { _ in letters.randomElement(using: &generator) ?? "a" }),
        traceID: "1" + String((0..<31).map { _ in digits.randomElement(using: &generator) ?? "0" }),
        parentID: "f" + String((0..<15).map { _ in digits.randomElement(using: &generator) ?? "0" }), isSampled: flag())
    }

    mutating func stepReply() -> StepReply {
      let length = int(1...limits.context)
      let positions = Set((0..<int(0...4)).map { _ in int(0...(length - 1)) }).sorted()
      return StepReply(
        request: id(), coordinator: id(), sequence: id(), epoch: UInt32(truncatingIfNeeded: id()), length: length,
        rows: positions.map { row($0) }, evaluated: int(0...limits.context), queueMicroseconds: int(0...1_000_000),
        computeMicroseconds: int(0...1_000_000))
    }

    mutating func row(_ position: Int) -> StepReply.Row {
      let sum = flag() ? logit() : nil
      if int(0...3) == 0 { return .init(position: position, logSumExp: sum, fullCount: int(1...limits.vocabulary)) }
      let (ids, logits) = top(int(0...40))
      let floor = logits.last.map { min($0, logit()) } ?? logit()
      return .init(
        position: position, topIDs: ids, topLogits: logits, namedLogits: (0..<int(0...20)).map { _ in logit() },
        floor: floor, logSumExp: sum)
    }

    mutating func rowChunk() -> RowChunk {
      let total = int(1...limits.vocabulary)
      let count = int(1...min(limits.rowChunkFloats, total, 200))
      return RowChunk(
        request: id(), coordinator: id(), position: int(0...(limits.context - 1)), offset: int(0...(total - count)),
        total: total, values: (0..<count).map { _ in logit() })
    }

    mutating func score() -> Score {
      let tokens = tokens(int(2...60))
      return Score(
        request: id(), coordinator: id(), tokens: tokens, first: int(1...(tokens.count - 1)),
        topK: int(0...limits.topK),
        fullRows: flag(), deadlineMilliseconds: int(1...limits.milliseconds), trace: flag() ? trace() : nil)
    }

    mutating func scoreReply() -> ScoreReply {
      let count = int(1...20)
      var reply = ScoreReply(
        request: id(), coordinator: id(), first: int(1...(limits.context - count)), topK: 0, last: flag(),
        logProbabilities: (0..<count).map { _ in logit() }, argmaxes: tokens(count))
      if flag() {
        reply.topK = 3
        for i in 0..<count {
          let ids: [Token] = [Token(i % 7), 20, 30]
          let logits = [logit(), logit(), logit()].sorted(by: >)
          reply.topIDs += ids
          reply.topLogits += logits
        }
        reply.logSumExps = (0..<count).map { _ in logit() }
      }
      return reply
    }
  }
#endif

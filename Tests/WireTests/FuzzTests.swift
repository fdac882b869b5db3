import Core
import Testing

@testable import FuzzSupport
@testable import Wire

/// Whatever bytes arrive: a value that keeps every rule, or an error.
@Suite struct FuzzTests {
  private static let limits: WireLimits = {
    var limits = WireLimits()
    limits.vocabulary = 1_000
    limits.context = 400
    limits.positions = 5
    limits.topK = 50
    limits.named = 50
    limits.slots = 8
    return limits
  }()

  @Test func mutatedMessages() throws {
    let seed = Samples.seed("mutated messages", default: 20_261_124)
    var samples = Samples(seed: seed, limits: Self.limits)
    var mutator = Mutator(generator: SplitMix64(seed: seed ^ 0xF0))
    var accepted = 0
    for round in 0..<100_000 {
      let kind = MessageKind.allCases[round % MessageKind.allCases.count]
      let original = WireCodec.encode(samples.message(kind))
      let frames = mutator.mutate(original)
      do throws(WireError) {
        let message = try WireCodec.decode(frames, limits: Self.limits, from: samples.sender(of: kind))
        accepted += 1
        if let broken = Invariants.broken(message, Self.limits) {
          Issue.record("round \(round), seed \(seed): \(broken) in \(message)")
        }
        let again = try WireCodec.decode(
          WireCodec.encode(message), limits: Self.limits, from: samples.sender(of: kind))
        if again != message { Issue.record("round \(round), seed \(seed): \(message) became \(again)") }
      } catch {
        if error.message.isEmpty { Issue.record("an error without a sentence") }
      }
    }
    // The mutations must be neither harmless nor all alike.
    print("mutated messages: \(accepted) of 100000 accepted")
    #expect((5_000..<60_000).contains(accepted))
  }

  @Test func randomBytes() throws {
    let seed = Samples.seed("random bytes", default: 7_331)
    var generator = SplitMix64(seed: seed)
    for _ in 0..<20_000 {
      let frames = (0..<Int.random(in: 0...3, using: &generator)).map { _ in
        (0..<Int.random(in: 0...64, using: &generator)).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
      }
      for sender in [WireSender.worker, .coordinator] {
        guard let message = try? WireCodec.decode(frames, limits: Self.limits, from: sender) else { continue }
        #expect(Invariants.broken(message, Self.limits) == nil)
      }
    }
  }

  /// Every prefix of a message's header, and every payload cut by any number of bytes, is refused.
  @Test(arguments: MessageKind.allCases) func truncated(kind: MessageKind) throws {
    var samples = Samples(seed: Samples.seed("truncated", default: UInt64(kind.rawValue)), limits: Self.limits)
    let frames = WireCodec.encode(samples.message(kind))
    for length in 0..<frames[0].count {
      let cut = [Array(frames[0].prefix(length))] + frames.dropFirst()
      #expect(throws: WireError.self) {
        try WireCodec.decode(cut, limits: Self.limits, from: samples.sender(of: kind))
      }
    }
    for index in frames.indices.dropFirst() {
      for length in 0..<frames[index].count {
        var cut = frames
        cut[index] = Array(frames[index].prefix(length))
        #expect(throws: WireError.self) {
          try WireCodec.decode(cut, limits: Self.limits, from: samples.sender(of: kind))
        }
      }
    }
  }
}

/// The rules of the .proto file, written apart from the codec's own checks.
private enum Invariants {
  static func broken(_ message: WireMessage, _ limits: WireLimits) -> String? {
    switch message {
    case .step(let step): broken(step, limits)
    case .stepReply(let reply): broken(reply, limits)
    case .rowChunk(let chunk):
      require(
        !chunk.values.isEmpty && chunk.offset >= 0 && chunk.offset + chunk.values.count <= chunk.total
          && chunk.total <= limits.vocabulary && chunk.values.allSatisfy(isLogit), "chunk")
    case .score(let score):
      require(
        score.tokens.allSatisfy { isToken($0, limits) } && score.first >= 1 && score.first < score.tokens.count
          && score.tokens.count <= limits.context + 1 && score.topK <= limits.topK, "score")
    case .scoreReply(let reply): broken(reply, limits)
    case .vocabularyPage(let page):
      require(
        page.texts.count == page.attributes.count && page.first + page.texts.count <= page.total
          && page.total <= limits.vocabulary, "page")
    case .register(let register):
      require(
        isName(register.expert) && isName(register.host) && isName(register.software)
          && isText(register.numerics.label) && (1...limits.vocabulary).contains(register.vocabularySize)
          && (0...limits.slots).contains(register.slots) && register.protocols.contains(1)
          && (1...limits.context).contains(register.context), "register")
    case .registered(let registered):
      require(
        registered.protocolVersion == 1 && registered.leasedSlots <= limits.slots && registered.creditBytes >= 0
          && (1...limits.vocabulary).contains(registered.commonVocabulary), "registered")
    case .refused(let refused): require(isName(refused.code.rawValue) && isText(refused.message), "refused")
    case .failure(let failure): require(isName(failure.code.rawValue) && isText(failure.message), "failure")
    case .goodbye(let goodbye): require(isText(goodbye.reason), "goodbye")
    case .prefixMissing(let missing): require((0...limits.context).contains(missing.haveLength), "missing")
    case .vocabularyQuery(let query): require(query.count > 0 && query.first <= limits.vocabulary, "query")
    case .credit(let credit): require(credit.bytes > 0, "credit")
    case .heartbeat(let beat):
      require([beat.kvTokens, beat.evaluatedTokens].allSatisfy { $0 ?? 0 <= limits.countedTokens }, "heartbeat")
    case .registerAgain, .cancel, .release, .drain: nil
    }
  }

  private static func broken(_ step: Step, _ limits: WireLimits) -> String? {
    let end = step.baseLength + step.append.count
    return require(
      end <= limits.context && step.baseLength >= 0 && step.append.allSatisfy { isToken($0, limits) }
        && step.wants.map(\.position) == Set(step.wants.map(\.position)).sorted()
        && step.wants.allSatisfy { want in
          (0..<end).contains(want.position) && (0...limits.topK).contains(want.topK)
            && want.named.allSatisfy { isToken($0, limits) } && want.named == Set(want.named).sorted()
            && want.named.count <= limits.named && !(want.fullRow && (want.topK > 0 || !want.named.isEmpty))
        } && step.wants.count <= limits.positions && step.deadlineMilliseconds > 0, "step")
  }

  private static func broken(_ reply: StepReply, _ limits: WireLimits) -> String? {
    require(
      reply.rows.map(\.position) == Set(reply.rows.map(\.position)).sorted() && reply.length <= limits.context
        && reply.rows.allSatisfy { row in
          let full = row.fullCount > 0
          return (0..<reply.length).contains(row.position) && row.topIDs.count == row.topLogits.count
            && isTop(row.topIDs, row.topLogits, limits) && row.namedLogits.allSatisfy(isLogit)
            && (row.floor == nil) == full && (row.floor.map(isLogit) ?? true)
            && row.topLogits.allSatisfy { $0 >= row.floor ?? .nan } && (row.logSumExp.map(isLogit) ?? true)
            && !(full && (!row.topIDs.isEmpty || !row.namedLogits.isEmpty)) && row.fullCount <= limits.vocabulary
        }, "step reply")
  }

  private static func broken(_ reply: ScoreReply, _ limits: WireLimits) -> String? {
    let count = reply.logProbabilities.count
    let groups = (0..<count).allSatisfy { i in
      let range = i * reply.topK..<(i + 1) * reply.topK
      return range.upperBound <= reply.topIDs.count && reply.topIDs.count == reply.topLogits.count
        && isTop(Array(reply.topIDs[range]), Array(reply.topLogits[range]), limits)
    }
    return require(
      count > 0 && reply.argmaxes.count == count && reply.topIDs.count == count * reply.topK && groups
        && reply.first >= 1 && reply.first + count <= limits.context + 1
        && reply.argmaxes.allSatisfy { isToken($0, limits) }
        && reply.logSumExps.count == (reply.topK == 0 ? 0 : count)
        && (reply.logProbabilities + reply.logSumExps).allSatisfy(isLogit), "score reply")
  }

  private static func require(_ holds: Bool, _ what: String) -> String? { holds ? nil : "rule of \(what)" }
  private static func isLogit(_ value: Float) -> Bool { value.isFinite || value == -.infinity }
  private static func isToken(_ token: Token, _ limits: WireLimits) -> Bool {
    (0..<Token(limits.vocabulary)).contains(token)
  }
  private static func isText(_ text: String) -> Bool { !text.unicodeScalars.contains("\0") }
  private static func isName(_ text: String) -> Bool { !text.isEmpty && isText(text) && !text.contains("\n") }

  private static func isTop(_ ids: [Token], _ logits: [Float], _ limits: WireLimits) -> Bool {
    let expected = zip(ids, logits).sorted { a, b in a.1 != b.1 ? a.1 > b.1 : a.0 < b.0 }.map(\.0)
    return ids.allSatisfy { isToken($0, limits) } && logits.allSatisfy(isLogit) && Set(ids).count == ids.count
      && expected == ids
  }
}

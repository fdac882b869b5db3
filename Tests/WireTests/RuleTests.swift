import Core
import Testing

@testable import FuzzSupport
@testable import Wire

@Suite struct RuleTests {
  private static let step = Step(
    request: 1, coordinator: 2, sequence: 3, epoch: 4, baseLength: 10, baseHash: .empty, append: [5, 6],
    wants: [.init(position: 10, topK: 4, named: [1, 2]), .init(position: 11, topK: 4)], deadlineMilliseconds: 1_000)
  private static let reply = StepReply(
    request: 1, coordinator: 2, sequence: 3, epoch: 4, length: 12,
    rows: [
      .init(position: 10, topIDs: [4, 9], topLogits: [3, 3], namedLogits: [1, 2], floor: 1),
      .init(position: 11, topIDs: [4], topLogits: [3], floor: 3),
    ], evaluated: 2, queueMicroseconds: 1, computeMicroseconds: 1)

  private static func trace(_ request: String, id: String = String(repeating: "1", count: 32)) -> TraceContext {
    TraceContext(requestID: request, traceID: id, parentID: "00000000000000a1", isSampled: true)
  }

  private func refusal(_ message: WireMessage, _ sender: WireSender) -> WireError? {
    do throws(WireError) {
      _ = try WireCodec.decode(WireCodec.encode(message), from: sender)
      return nil
    } catch { return error }
  }

  @Test func stepRules() {
    #expect(refusal(.step(Self.step), .coordinator) == nil)
    let breaks: [(String, (inout Step) -> Void)] = [
      ("append", { $0.append[0] = -1 }),
      ("append", { $0.append[0] = 1 << 20 }),
      ("base_length", { $0.baseLength = 1 << 19 }),
      ("append's number", { $0.baseLength = (1 << 18) - 1 }),
      ("wants", { $0.wants[1].position = 10 }),
      ("wants", { $0.wants[1].position = 12 }),
      ("wants", { $0.wants.swapAt(0, 1) }),
      ("wants.named", { $0.wants[0].named = [2, 1] }),
      ("wants.named", { $0.wants[0].named = [2, 2] }),
      ("wants.named", { $0.wants[0].named = [-5] }),
      ("wants.top_k", { $0.wants[0].topK = 10_000 }),
      ("wants", { $0.wants[0].fullRow = true }),
      ("deadline_ms", { $0.deadlineMilliseconds = 0 }),
      ("request_id", { $0.trace = Self.trace("a b") }),
      ("request_id", { $0.trace = Self.trace("a\n") }),
      ("request_id", { $0.trace = Self.trace("") }),
      ("request_id", { $0.trace = Self.trace(String(repeating: "x", count: 65)) }),
      ("request_id", { $0.trace = Self.trace("a", id: String(repeating: "0", count: 32)) }),
      ("request_id", { $0.trace = Self.trace("a", id: String(repeating: "A", count: 32)) }),
      ("trace_parent", { $0.trace = Self.trace("a", id: String(repeating: "a", count: 400)) }),
    ]
    for (field, change) in breaks {
      var step = Self.step
      change(&step)
      let error = refusal(.step(step), .coordinator)
      #expect(error?.code == .field)
      #expect(error?.message.hasPrefix("Step.\(field) ") == true, "\(error?.message ?? "accepted") for \(field)")
    }
  }

  @Test func stepReplyRules() {
    #expect(refusal(.stepReply(Self.reply), .worker) == nil)
    let breaks: [(String, (inout StepReply) -> Void)] = [
      ("rows' top logits", { $0.rows[0].topLogits[0] = .nan }),
      ("rows' top logits", { $0.rows[0].topLogits[0] = .infinity }),
      ("rows' named logits", { $0.rows[0].namedLogits[1] = .nan }),
      ("rows.floor", { $0.rows[0].floor = .nan }),
      ("rows.floor", { $0.rows[0].floor = nil }),
      ("rows.floor", { $0.rows[1].floor = Float(3).nextUp }),
      ("rows.log_sum_exp", { $0.rows[1].logSumExp = .infinity }),
      ("rows.top_ids", { $0.rows[0].topIDs = [9, 4] }),
      ("rows.top_ids", { $0.rows[0].topLogits = [2, 3] }),
      ("rows.top_ids", { ($0.rows[0].topIDs, $0.rows[0].topLogits) = ([4, 4], [3, 2]) }),
      ("rows.top_ids", { $0.rows[0].topIDs[0] = -1 }),
      ("rows", { $0.rows[1].position = 12 }),
      ("rows", { $0.rows[1].position = 9 }),
      ("rows", { $0.rows[1].fullCount = 7 }),
      ("length", { $0.length = 1 << 19 }),
    ]
    for (field, change) in breaks {
      var reply = Self.reply
      change(&reply)
      let error = refusal(.stepReply(reply), .worker)
      #expect(error?.code == .field)
      #expect(error?.message.hasPrefix("StepReply.\(field) ") == true, "\(error?.message ?? "accepted") for \(field)")
    }
  }

  /// Counts of which a coordinator makes sums; those that are only compared may be anything.
  @Test func heartbeatRules() {
    let good = Heartbeat(
      sender: 1, count: .max, progress: .max, batchBudgetMilliseconds: 86_400_000, queued: Int(UInt32.max),
      residentSequences: Int(UInt32.max), kvTokens: 1 << 48, evaluatedTokens: 1 << 48)
    #expect(refusal(.heartbeat(good), .worker) == nil)
    let breaks: [(String, (inout Heartbeat) -> Void)] = [
      ("batch_budget_ms", { $0.batchBudgetMilliseconds = 86_400_001 }),
      ("kv_tokens", { $0.kvTokens = 1 << 48 + 1 }),
      ("kv_tokens", { $0.kvTokens = 1 << 63 - 1 }),
      ("kv_tokens", { $0.kvTokens = .max }),
      ("evaluated_tokens", { $0.evaluatedTokens = 1 << 48 + 1 }),
      ("evaluated_tokens", { $0.evaluatedTokens = .max }),
    ]
    for (field, change) in breaks {
      var heartbeat = good
      change(&heartbeat)
      let error = refusal(.heartbeat(heartbeat), .worker)
      #expect(error?.code == .field)
      #expect(error?.message.hasPrefix("Heartbeat.\(field) ") == true, "\(error?.message ?? "accepted") for \(field)")
    }
  }

  /// At every place of an array, whether or not it falls into a whole vector.
  @Test func badNumbersAnywhere() {
    for count in [1, 15, 16, 17, 40] {
      var chunk = RowChunk(
        request: 1, coordinator: 2, position: 3, offset: 0, total: 1_000, values: Array(repeating: 1, count: count))
      var score = Score(
        request: 1, coordinator: 2, tokens: Array(repeating: 7, count: count + 1), first: 1, topK: 0, fullRows: false,
        deadlineMilliseconds: 1)
      for i in 0..<count {
        chunk.values[i] = -.infinity
        #expect(refusal(.rowChunk(chunk), .worker) == nil)
        for bad in [Float.nan, .signalingNaN, -.nan, .infinity] {
          chunk.values[i] = bad
          #expect(refusal(.rowChunk(chunk), .worker)?.code == .field)
        }
        chunk.values[i] = 1
        for bad: Token in [-1, .min, .max, 1 << 20] {
          score.tokens[i] = bad
          #expect(refusal(.score(score), .coordinator)?.code == .field)
        }
        score.tokens[i] = (1 << 20) - 1
        #expect(refusal(.score(score), .coordinator) == nil)
      }
    }
  }

  @Test("a score may have one token more than the context: nothing comes after the last one")
  func scoreAsLongAsTheContext() {
    let context = WireLimits().context
    var score = Score(
      request: 1, coordinator: 2, tokens: Array(repeating: 7, count: context + 1), first: context, topK: 0,
      fullRows: false, deadlineMilliseconds: 1)
    #expect(refusal(.score(score), .coordinator) == nil)
    score.tokens.append(7)
    #expect(refusal(.score(score), .coordinator)?.message.hasPrefix("Score.tokens' number ") == true)
    var reply = ScoreReply(
      request: 1, coordinator: 2, first: context, topK: 0, last: true, logProbabilities: [-1], argmaxes: [7],
      topIDs: [], topLogits: [], logSumExps: [])
    #expect(refusal(.scoreReply(reply), .worker) == nil)
    (reply.logProbabilities, reply.argmaxes) = ([-1, -1], [7, 7])
    #expect(refusal(.scoreReply(reply), .worker)?.message.hasPrefix("ScoreReply.first + count ") == true)
  }

  @Test func payloadMustMatchTheHeader() {
    let frames = WireCodec.encode(.stepReply(Self.reply))
    func code(_ frames: [[UInt8]]) -> WireError.Code? {
      do throws(WireError) {
        _ = try WireCodec.decode(frames, from: .worker)
        return nil
      } catch { return error.code }
    }
    #expect(code(frames) == nil)
    #expect(code(Array(frames.dropLast())) == .payload)
    #expect(code(frames + [[]]) == .payload)
    #expect(code([frames[0], frames[1] + [0, 0, 0, 0], frames[2]]) == .payload)
    #expect(code([frames[0], frames[2], frames[1]]) == .payload)
    #expect(code([]) == .malformed)
    #expect(code([[]]) == .malformed)
    #expect(code([[], frames[0]]) == .malformed)
  }

  /// Each side may send only its own messages.
  @Test func direction() throws {
    let both: Set<MessageKind> = [.heartbeat, .drain, .goodbye]
    let workers: Set<MessageKind> = [
      .register, .vocabularyPage, .stepReply, .prefixMissing, .rowChunk, .scoreReply, .failure,
    ]
    var samples = Samples(seed: 1)
    for kind in MessageKind.allCases {
      let message = samples.message(kind)
      let fromWorker = refusal(message, .worker)
      let fromCoordinator = refusal(message, .coordinator)
      #expect((fromWorker == nil) == (both.contains(kind) || workers.contains(kind)))
      #expect((fromCoordinator == nil) == !workers.contains(kind))
      if let error = fromWorker ?? fromCoordinator { #expect(error.code == .direction) }
    }
  }

  /// Text with NUL, control characters or broken UTF-8, written as no encoder of ours would.
  @Test func text() throws {
    func failure(message: [UInt8]) -> [[UInt8]] {
      let body: [UInt8] =
        [0x08, 1, 0x11] + Array(repeating: 0, count: 8) + [0x1A, 1, 0x78, 0x22, UInt8(message.count)]
      return [[0x08, 1, 0x7A, UInt8(body.count + message.count)] + body + message]
    }
    #expect(
      try WireCodec.decode(failure(message: Array("ok".utf8)), from: .worker)
        == .failure(
          Failure(request: 1, coordinator: 0, code: .init(rawValue: "x"), message: "ok")))
    for bad: [UInt8] in [[0x61, 0, 0x62], [0], [0xFF], [0xC3], [0xED, 0xA0, 0x80], [0xC0, 0x80], [0x1B, 0x5B]] {
      #expect(throws: WireError.self) { try WireCodec.decode(failure(message: bad), from: .worker) }
    }
  }

  /// A small header that would be large in memory ends at the quota, not in memory.
  @Test func memoryBombs() {
    func envelope(_ kind: MessageKind, _ body: [UInt8]) -> [UInt8] {
      [0x08, 1, UInt8(kind.rawValue << 3 | 2)] + varint(body.count) + body
    }
    // A million empty Wants; each needs a struct of some 80 bytes.
    let wants = envelope(.step, Array(repeating: [0x42, 0x00] as [UInt8], count: 500_000).flatMap { $0 })
    // A page of empty texts: 16 bytes for 2, and 40 more while scanning.
    let texts = envelope(.vocabularyPage, Array(repeating: [0x1A, 0x00] as [UInt8], count: 120_000).flatMap { $0 })
    // Unpacked numbers.
    let append = envelope(.step, Array(repeating: [0x38, 0x01] as [UInt8], count: 500_000).flatMap { $0 })
    for (frame, sender) in [(wants, WireSender.coordinator), (texts, .worker), (append, .coordinator)] {
      #expect(throws: WireError.self) { try WireCodec.decode([frame], from: sender) }
    }
    #expect(throws: WireError.self) {
      try WireCodec.decode([envelope(.heartbeat, Array(repeating: 0, count: 100_000))], from: .worker)
    }
  }

  private func varint(_ value: Int) -> [UInt8] {
    var value = value
    var bytes: [UInt8] = []
    while value >= 0x80 {
      bytes.append(UInt8(value & 0x7F) | 0x80)
      value >>= 7
    }
    return bytes + [UInt8(value)]
  }
}

@Suite struct VersionTests {
  private func decode(
    _ message: WireMessage, version: UInt32, from sender: WireSender, served: ClosedRange<UInt32>
  ) throws(WireError) -> WireMessage {
    try WireCodec.decode(WireCodec.encode(message, protocol: version), from: sender, served: served)
  }

  @Test func currentAndPreviousAreServed() throws {
    for version in [UInt32(4), 5] {
      #expect(try decode(.drain, version: version, from: .worker, served: 4...5) == .drain)
    }
    for version in [UInt32(0), 3, 6, .max] {
      let error = #expect(throws: WireError.self) { try decode(.drain, version: version, from: .worker, served: 4...5) }
      #expect(error?.code == .protocolVersion)
      #expect(error?.peerProtocols == version...version)
    }
  }

  @Test func negotiation() {
    #expect(WireCodec.negotiate(4...5, served: 4...5) == 5)
    #expect(WireCodec.negotiate(3...4, served: 4...5) == 4)
    #expect(WireCodec.negotiate(5...6, served: 4...5) == 5)
    #expect(WireCodec.negotiate(6...7, served: 4...5) == nil)
    #expect(WireCodec.negotiate(2...3, served: 4...5) == nil)
  }

  /// A worker of another version is told so: its Register is read, whatever version its envelope names.
  @Test func foreignRegister() throws {
    var samples = Samples(seed: 5)
    var register = samples.register()
    register.protocols = 5...6
    // A newer worker that still speaks 5 is taken, though its envelope says 6.
    #expect(try decode(.register(register), version: 6, from: .worker, served: 4...5) == .register(register))
    register.protocols = 6...7
    let error = #expect(throws: WireError.self) {
      try decode(.register(register), version: 7, from: .worker, served: 4...5)
    }
    #expect(error?.code == .protocolVersion)
    #expect(error?.peerProtocols == 6...7)
    #expect(error?.message == "The worker speaks protocol versions 6 to 7; this side serves 4 to 5.")
    // What cannot be read at all (here: no more than protocol_min) still gives the envelope's version.
    let broken = #expect(throws: WireError.self) {
      try WireCodec.decode([[0x08, 7, 0x12, 2, 0x08, 6]], from: .worker, served: 4...5)
    }
    #expect(broken?.code == .protocolVersion)
    #expect(broken?.peerProtocols == 7...7)
    // And the refusal is readable by the foreign worker.
    let refused = WireMessage.refused(Refused(code: .protocolVersion, message: error?.message ?? ""))
    #expect(try decode(refused, version: 5, from: .coordinator, served: 6...7) == refused)
  }

  @Test func registeredMustNameAServedVersion() {
    let registered = Registered(
      coordinator: 1, leasedSlots: 1, heartbeatMilliseconds: 1_000, creditBytes: 1, commonVocabulary: 10,
      protocolVersion: 3)
    let error = #expect(throws: WireError.self) {
      try decode(.registered(registered), version: 4, from: .coordinator, served: 4...5)
    }
    #expect(error?.code == .protocolVersion)
  }

  /// A message this version does not know, from a peer of a served version and from a newer one.
  @Test func unknownMessage() {
    let unknown: [UInt8] = [0x08, 1, 0xAA, 0x06, 1, 0]
    let error = #expect(throws: WireError.self) { try WireCodec.decode([unknown], from: .worker) }
    #expect(error?.code == .unknownMessage)
    let newer: [UInt8] = [0x08, 9, 0xAA, 0x06, 1, 0]
    let versioned = #expect(throws: WireError.self) { try WireCodec.decode([newer], from: .worker) }
    #expect(versioned?.code == .protocolVersion)
    #expect(versioned?.peerProtocols == 9...9)
  }

  /// Two bodies, two versions, a body that is no message: protobuf would take the last, we take none.
  @Test func ambiguousEnvelopes() {
    let drain: [UInt8] = [0x9A, 0x01, 0]
    for bad: [UInt8] in [
      [0x08, 1] + drain + drain, [0x08, 1, 0x08, 1] + drain, drain, [0x08, 1, 0x98, 0x01, 0],
      [0x08, 0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01] + drain, [0x08, 1, 0x03] + drain,
    ] {
      let error = #expect(throws: WireError.self) { try WireCodec.decode([bad], from: .worker) }
      #expect(error?.code == .malformed)
    }
  }
}

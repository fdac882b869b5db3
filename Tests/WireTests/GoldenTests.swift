import Core
import Testing

@testable import Wire

/// Bytes written by Google's protoc 3.21.12 (`--encode=fusionroute.v1.Envelope`) from the text format of the same
/// messages: an oracle that shares no code with the codec.
@Suite struct GoldenTests {
  @Test func step() throws {
    let golden = """
      08014a6508ac0211f0debc9a7856341218ffffffffffffffffff01200728e8073220000102030405060708090a0b0c0d0e0f101112131415\
      161718191a1b1c1d1e1f3a07007f8001ffe907420f08ea0710201a0605ac02ffe9072801420708eb071000200148b0ea01
      """
    let hash = try #require(SHA256Digest(0..<32))
    let step = Step(
      request: 300, coordinator: 0x1234_5678_9ABC_DEF0, sequence: .max, epoch: 7, baseLength: 1_000,
      baseHash: PrefixHash(hash), append: [0, 127, 128, 128_255],
      wants: [
        .init(position: 1_002, topK: 32, named: [5, 300, 128_255], logSumExp: true),
        .init(position: 1_003, fullRow: true),
      ], deadlineMilliseconds: 30_000)
    #expect(WireCodec.encode(.step(step)).map(hex) == [golden])
    #expect(try WireCodec.decode([bytes(golden)], from: .coordinator) == .step(step))
  }

  /// By protoc 35.1.
  @Test func trace() throws {
    let trace = try #require(
      TraceContext(
        requestID: "req-Zz_09", traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
    let step = Step(
      request: 300, coordinator: 0x1234_5678_9ABC_DEF0, sequence: 5, epoch: 7, baseLength: 0,
      baseHash: PrefixHash(try #require(SHA256Digest(0..<32))), append: [9], wants: [], deadlineMilliseconds: 30_000,
      trace: trace)
    let stepBytes = """
      08014a7f08ac0211f0debc9a785634121805200728003220000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\
      3a010948b0ea0152097265712d5a7a5f30395a3730302d30616637363531393136636434336464383434386562323131633830333139632d\
      623761643662373136393230333333312d3031
      """
    #expect(WireCodec.encode(.step(step)).map(hex) == [stepBytes])
    #expect(try WireCodec.decode([bytes(stepBytes)], from: .coordinator) == .step(step))
    var unsampled = trace
    (unsampled.requestID, unsampled.isSampled) = ("a", false)
    let score = Score(
      request: 3, coordinator: 4, tokens: [1, 2], first: 1, topK: 0, fullRows: false, deadlineMilliseconds: 5,
      trace: unsampled)
    let scoreBytes = """
      08016a5108031104000000000000001a0201022001280038054201614a3730302d306166373635313931366364343364643834343865623231\
      31633830333139632d623761643662373136393230333333312d3030
      """
    #expect(WireCodec.encode(.score(score)).map(hex) == [scoreBytes])
    #expect(try WireCodec.decode([bytes(scoreBytes)], from: .coordinator) == .score(score))
  }

  @Test func stepReply() throws {
    let golden = """
      0801523e08ac0211f0debc9a785634121803200728ec07321608ea07120509ffe907041802250000c0bf2d00004441320908eb0718003080\
      ea073804400c48878e02
      """
    let reply = StepReply(
      request: 300, coordinator: 0x1234_5678_9ABC_DEF0, sequence: 3, epoch: 7, length: 1_004,
      rows: [
        .init(
          position: 1_002, topIDs: [9, 128_255, 4], topLogits: [3, 2, -1], namedLogits: [0.5, -.infinity], floor: -1.5,
          logSumExp: 12.25),
        .init(position: 1_003, fullCount: 128_256),
      ], evaluated: 4, queueMicroseconds: 12, computeMicroseconds: 34_567)
    // IEEE 754 single precision, little-endian, by hand.
    let payload = "00004040" + "00000040" + "000080bf" + "0000003f" + "000080ff"
    #expect(WireCodec.encode(.stepReply(reply)).map(hex) == [golden, payload])
    #expect(try WireCodec.decode([bytes(golden), bytes(payload)], from: .worker) == .stepReply(reply))
  }

  @Test func register() throws {
    let golden = """
      080112ab01080110011a046d61746821efcdab89674523012a20414141414141414141414141414141414141414141414141414141414141\
      4141322042424242424242424242424242424242424242424242424242424242424242423880800342\
      2d0a076772c3bcc39f6512204343434343434343434343434343434343434343434343434343434343434343180148045080205810620467\
      707531689221720f667573696f6e726f75746520302e31
      """
    func digest(_ letter: Character) throws -> SHA256Digest {
      try #require(SHA256Digest(Array(String(repeating: letter, count: 32).utf8)))
    }
    let register = Register(
      protocols: 1...1, expert: "math", incarnation: 0x0123_4567_89AB_CDEF, modelFingerprint: try digest("A"),
      vocabularyFingerprint: try digest("B"), vocabularySize: 49_152,
      numerics: Numerics(label: "grüße", probeHash: try digest("C"), batchInvariant: true), slots: 4, context: 4_096,
      maximumPositions: 16, host: "gpu1", pid: 4_242, software: "fusionroute 0.1")
    #expect(WireCodec.encode(.register(register)).map(hex) == [golden])
    #expect(try WireCodec.decode([bytes(golden)], from: .worker) == .register(register))
  }

  @Test func heartbeat() throws {
    let golden = "0801421909010000000000000010021803200428053006380740084801"
    let heartbeat = Heartbeat(
      sender: 1, count: 2, progress: 3, batchBudgetMilliseconds: 4, queued: 5, residentSequences: 6, kvTokens: 7,
      evaluatedTokens: 8, draining: true)
    #expect(WireCodec.encode(.heartbeat(heartbeat)).map(hex) == [golden])
    #expect(try WireCodec.decode([bytes(golden)], from: .worker) == .heartbeat(heartbeat))
  }
}

func hex(_ bytes: [UInt8]) -> String {
  bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
}

func bytes(_ hex: String) -> [UInt8] {
  let digits = Array(hex.utf8)
  return stride(from: 0, to: digits.count, by: 2).map { i in
    UInt8(String(decoding: digits[i..<i + 2], as: UTF8.self), radix: 16) ?? 0
  }
}

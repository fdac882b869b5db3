import Core
import Testing

@testable import FuzzSupport
@testable import Wire

@Suite struct RoundTripTests {
  @Test(arguments: MessageKind.allCases) func everyMessage(kind: MessageKind) throws {
    var samples = Samples(seed: Samples.seed("round trip of \(kind)", default: 0x5EED + UInt64(kind.rawValue)))
    for _ in 0..<200 {
      let message = samples.message(kind)
      let frames = WireCodec.encode(message)
      let decoded = try WireCodec.decode(frames, from: samples.sender(of: kind))
      #expect(decoded == message)
      // Equality of floats does not see the sign of zero: the bytes do.
      #expect(WireCodec.encode(decoded) == frames)
    }
  }

  @Test func rowsHaveFramesOnlyWhereTheyHaveFloats() throws {
    let reply = StepReply(
      request: 1, coordinator: 2, sequence: 3, epoch: 4, length: 9,
      rows: [
        .init(position: 1, floor: 0, logSumExp: 3), .init(position: 2, namedLogits: [5], floor: 0),
        .init(position: 3, fullCount: 100), .init(position: 4, topIDs: [9], topLogits: [2], floor: 1),
      ], evaluated: 1, queueMicroseconds: 0, computeMicroseconds: 0)
    let frames = WireCodec.encode(.stepReply(reply))
    #expect(frames.dropFirst() == [[0, 0, 0xA0, 0x40], [0, 0, 0, 0x40]])
    #expect(try WireCodec.decode(frames, from: .worker) == .stepReply(reply))
  }

  @Test func largestMessagesFit() throws {
    let limits = WireLimits()
    let tokens = (0..<limits.context).map { Token($0 % limits.vocabulary) }
    let step = Step(
      request: 1, coordinator: 2, sequence: 3, epoch: 4, baseLength: 0, baseHash: .empty, append: tokens,
      wants: [.init(position: limits.context - 1, topK: limits.topK, named: Array(tokens.prefix(limits.named)))],
      deadlineMilliseconds: 1)
    #expect(try WireCodec.decode(WireCodec.encode(.step(step)), from: .coordinator) == .step(step))
    let chunk = RowChunk(
      request: 1, coordinator: .max, position: 0, offset: 0, total: limits.vocabulary,
      values: Array(repeating: 1, count: limits.rowChunkFloats))
    let frames = WireCodec.encode(.rowChunk(chunk))
    #expect(frames.reduce(0) { $0 + $1.count } <= 65_536)
    #expect(try WireCodec.decode(frames, from: .worker) == .rowChunk(chunk))
    let page = VocabularyPage(
      first: 0, total: limits.vocabulary, texts: Array(repeating: Array("Ġtoken".utf8), count: limits.pageTokens),
      attributes: Array(repeating: 1 << 10, count: limits.pageTokens))
    #expect(try WireCodec.decode(WireCodec.encode(.vocabularyPage(page)), from: .worker) == .vocabularyPage(page))
    let ids = Array((0..<Token(limits.topK)))
    let reply = StepReply(
      request: 1, coordinator: 2, sequence: 3, epoch: 4, length: 10,
      rows: (0..<4).map {
        .init(
          position: $0, topIDs: ids, topLogits: ids.map { -Float($0) },
          namedLogits: Array(repeating: 0, count: limits.named), floor: -.infinity)
      }, evaluated: 1, queueMicroseconds: 0, computeMicroseconds: 0)
    #expect(try WireCodec.decode(WireCodec.encode(.stepReply(reply)), from: .worker) == .stepReply(reply))
  }

  @Test func sentencesAreCleaned() throws {
    let failure = Failure(
      request: 1, coordinator: 2, code: .internal, message: "a\u{0}b\u{1B}[31m" + String(repeating: "漢", count: 2_000))
    guard case .failure(let decoded) = try WireCodec.decode(WireCodec.encode(.failure(failure)), from: .worker) else {
      Issue.record("not a failure")
      return
    }
    #expect(decoded.message.hasPrefix("a b [31m漢"))
    #expect(decoded.message.utf8.count <= 4_096)
    #expect(decoded.message.hasSuffix("漢"))
  }
}

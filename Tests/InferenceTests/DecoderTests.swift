import Core
import Foundation
import ModelFiles
import Synchronization
import Testing

@testable import Inference

@Suite(.serialized) struct DecoderTests {
  private func digests(_ model: Model, _ tokens: [Token]) throws -> [SHA256Digest] {
    try LlamaOracle.rows(model: model.path, tokens: tokens, vocabulary: model.vocabulary.size)
      .map { row in row.withUnsafeBytes { SHA256Digest(hashing: $0) } }
  }

  // MARK: - KV reuse

  @Test(arguments: ["llama f32", "gemma3 f32", "gemma3 bf16"])
  func rollsBackAndDecodesAgain(_ name: String) async throws {
    let model = try TestModels.model(name)
    let first = randomTokens(200, vocabulary: model.vocabulary.size, seed: 21)
    // A branch far behind the window of 64, and one inside it.
    let far = Array(first[..<50]) + randomTokens(30, vocabulary: model.vocabulary.size, seed: 22)
    let near = Array(first[..<180]) + randomTokens(5, vocabulary: model.vocabulary.size, seed: 23)
    let decoder = try BatchingDecoder(model: model, configuration: .init(slots: 1, contextPerSequence: 256))
    _ = try await decoder.decode(sequence: 1, first)

    let nearAnswer = try await decoder.decode(sequence: 1, near)
    #expect(nearAnswer.summary.reusedTokens == 180)
    #expect(nearAnswer.summary.evaluatedTokens == 5)
    #expect(bits(nearAnswer.rows[0].logits) == (try digests(model, near)).last)

    let farAnswer = try await decoder.decode(sequence: 1, far, wanted: [79])
    #expect(farAnswer.summary.reusedTokens == 50)
    #expect(bits(farAnswer.rows[0].logits) == (try digests(model, far)).last)
    decoder.shutdown()
  }

  @Test func wantedAgainDecodesOneTokenOnly() async throws {
    let model = try TestModels.model("llama f32")
    let tokens = randomTokens(40, vocabulary: model.vocabulary.size, seed: 24)
    let decoder = try BatchingDecoder(model: model, configuration: .init(slots: 1, contextPerSequence: 256))
    let warm = try await decoder.decode(sequence: 1, tokens, wanted: [])
    #expect(warm.rows.isEmpty)
    #expect(warm.summary.evaluatedTokens == 40)
    let again = try await decoder.decode(sequence: 1, tokens)
    #expect(again.summary.evaluatedTokens == 1)
    #expect(bits(again.rows[0].logits) == (try digests(model, tokens)).last)
    // Warm already: nothing to do at all.
    let nothing = try await decoder.decode(sequence: 1, Array(tokens[..<30]), wanted: [])
    #expect(nothing.summary.evaluatedTokens == 0)
    #expect(nothing.summary.reusedTokens == 30)
    #expect(nothing.summary.computeNanoseconds == 0)
    #expect(decoder.statistics.evaluatedTokens == 41)
    decoder.shutdown()
  }

  @Test(arguments: BitsTests.models)
  func evictsTheLeastRecentlyUsed(_ name: String) async throws {
    let model = try TestModels.model(name)
    // SmolLM2 is kept short for time's sake.
    let (shortest, step) = name.hasPrefix("smollm2") ? (12, 4) : (70, 11)
    let decoder = try BatchingDecoder(model: model, configuration: .init(slots: 3, contextPerSequence: 256))
    let prompts = (0..<6).map {
      randomTokens(shortest + step * $0, vocabulary: model.vocabulary.size, seed: UInt64(30 + $0))
    }
    let expected = try prompts.map { try digests(model, $0).last }
    for round in 0..<3 {
      for (index, prompt) in prompts.enumerated() {
        let answer = try await decoder.decode(sequence: UInt64(index), prompt)
        #expect(bits(answer.rows[0].logits) == expected[index], "round \(round), prompt \(index)")
      }
    }
    #expect(decoder.statistics.evictions == 15)
    #expect(decoder.statistics.residentSequences == 3)
    decoder.shutdown()
  }

  @Test(arguments: ["llama f32", "gemma3 f32"])
  func copiesASharedPrefix(_ name: String) async throws {
    let model = try TestModels.model(name)
    let decoder = try BatchingDecoder(model: model, configuration: .init(slots: 3, contextPerSequence: 512))
    let shared = randomTokens(300, vocabulary: model.vocabulary.size, seed: 41)
    let a = shared + randomTokens(9, vocabulary: model.vocabulary.size, seed: 42)
    let b = shared + randomTokens(21, vocabulary: model.vocabulary.size, seed: 43)
    _ = try await decoder.decode(sequence: 1, a)
    let answer = try await decoder.decode(sequence: 2, b)
    #expect(answer.summary.reusedTokens == 300)
    #expect(bits(answer.rows[0].logits) == (try digests(model, b)).last)
    // The source is as it was.
    let longer = a + [7]
    let after = try await decoder.decode(sequence: 1, longer)
    #expect(after.summary.evaluatedTokens == 1)
    #expect(bits(after.rows[0].logits) == (try digests(model, longer)).last)
    decoder.shutdown()
  }

  @Test(arguments: ["llama f32", "gemma3 bf16"])
  func anIdleSlotBetweenStepsIsBridged(_ name: String) async throws {
    let model = try TestModels.model(name)
    var configuration = DecoderConfiguration(slots: 5, contextPerSequence: 256)
    // A further sequence is nearly free, so that one run over a gap beats two runs; real times would decide otherwise.
    configuration.fixedStepShare = 0.1
    configuration.joinsDistantSlots = false
    let decoder = try BatchingDecoder(model: model, configuration: configuration)
    let all = (0..<4).map { randomTokens(120, vocabulary: model.vocabulary.size, seed: UInt64(200 + $0)) }
    let expected = try all.map { try digests(model, $0) }
    var lengths = [20, 31, 42, 53]
    func step(_ sequences: [Int]) async throws {
      for index in sequences { lengths[index] += 1 }
      let answers = await decoder.together(sequences.map { (UInt64($0), Array(all[$0][..<lengths[$0]])) })
      for (index, answer) in zip(sequences, answers) {
        let row = try #require(answer?.rows.first)
        #expect(bits(row.logits) == expected[index][lengths[index] - 1], "sequence \(index) at \(lengths[index])")
      }
    }
    // Slots 0 to 3 in this order, and the cost of each batch size.
    for index in 0..<4 { try await step([index]) }
    for _ in 0..<3 { try await step([0, 1, 2, 3]) }
    for _ in 0..<3 { try await step([0, 1, 2]) }
    // 1 and 2 idle in between, then go on as if nothing had been.
    for _ in 0..<20 { try await step([0, 3]) }
    for _ in 0..<10 { try await step([0, 2, 3]) }
    for _ in 0..<3 { try await step([0, 1, 2, 3]) }
    #expect(decoder.statistics.refilledTokens > 0)
    print("\(name): \(decoder.statistics.refilledTokens) tokens decoded again to bridge idle slots")
    decoder.shutdown()
  }

  /// Over gaps of each size, with 32 runs of slots, which is what one micro-batch takes, and with more.
  @Test(arguments: ["llama f32", "gemma3 f32", "gemma3 bf16"])
  func distantSlotsAreEvaluatedTogether(_ name: String) async throws {
    let model = try TestModels.model(name)
    let slots = 70
    var configuration = DecoderConfiguration(slots: slots + 1, contextPerSequence: 256)
    // A further sequence is nearly free, so that all go in one group.
    configuration.fixedStepShare = 0.01
    let decoder = try BatchingDecoder(model: model, configuration: configuration)
    // Past gemma's window of 64 on the way.
    let all = (0..<5).map { randomTokens(90, vocabulary: model.vocabulary.size, seed: UInt64(600 + $0)) }
    let expected = try all.map { try digests(model, $0) }
    var lengths = (0..<slots).map { 50 + $0 % 7 }
    func step(_ sequences: [Int]) async throws {
      for index in sequences { lengths[index] += 1 }
      let answers = await decoder.together(
        sequences.map { (UInt64($0), Array(all[$0 % all.count][..<lengths[$0]])) })
      for (index, answer) in zip(sequences, answers) {
        let row = try #require(answer?.rows.first)
        #expect(
          bits(row.logits) == expected[index % all.count][lengths[index] - 1], "slot \(index) at \(lengths[index])")
      }
    }
    for index in 0..<slots { try await step([index]) }
    let before = decoder.statistics
    for _ in 0..<4 { try await step([0, 3, 4, 9]) }
    let after = decoder.statistics
    // The first call lets in all of the others.
    #expect(after.refilledTokens == before.refilledTokens && after.batches - before.batches <= 8)
    try await step(Array(stride(from: 0, to: 64, by: 2)))
    try await step(Array(stride(from: 0, to: 70, by: 2)))
    try await step((0..<slots).filter { $0 % 3 != 0 })
    try await step(Array(0..<slots))
    #expect(decoder.statistics.refilledTokens == 0)
    decoder.shutdown()
  }

  // MARK: - Hidden states

  /// What the output matrix multiplies: checked by multiplying it with the matrix of the file.
  @Test(arguments: ["llama f32", "gemma3 f32"])
  func hiddenStatesGiveTheLogits(_ name: String) async throws {
    let model = try TestModels.model(name)
    let vocabulary = model.vocabulary.size
    let width = model.information.embeddingWidth
    let file = try GGUFFile.read(model.path)
    let matrix = try file.floats(of: try #require(file.tensor(named: "token_embd.weight")))
    try #require(matrix.count == vocabulary * width)
    let decoder = try BatchingDecoder(
      model: model, configuration: .init(slots: 6, contextPerSequence: 256, hiddenStates: true, maximumBatch: 64))
    // Sequences of mixed lengths at once: each must get its own routing.
    let prompts = [1, 2, 17, 40, 90, 3].enumerated().map { index, length in
      randomTokens(length, vocabulary: vocabulary, seed: UInt64(50 + index))
    }
    try await withThrowingTaskGroup(of: (Int, Answer).self) { group in
      for (index, prompt) in prompts.enumerated() {
        group.addTask { (index, try await decoder.decode(sequence: UInt64(index), prompt, hidden: true)) }
      }
      for try await (index, answer) in group {
        let row = try #require(answer.rows.first)
        let hidden = try #require(row.hidden)
        try #require(hidden.count == width)
        for token in stride(from: 0, to: vocabulary, by: 7) {
          var sum = 0.0
          for j in 0..<width { sum += Double(matrix[token * width + j]) * Double(hidden[j]) }
          #expect(abs(sum - Double(row.logits[Token(token)])) < 1e-4, "prompt \(index), token \(token)")
        }
        #expect(bits(row.logits) == (try digests(model, prompts[index])).last)
      }
    }
    decoder.shutdown()
  }

  @Test(arguments: ["llama bf16", "gemma3 q8_0"])
  func hiddenStatesDoNotDependOnTheBatch(_ name: String) async throws {
    let model = try TestModels.model(name)
    let tokens = randomTokens(60, vocabulary: model.vocabulary.size, seed: 61)
    let decoder = try BatchingDecoder(
      model: model, configuration: .init(slots: 8, contextPerSequence: 256, hiddenStates: true))
    let whole = try await decoder.decode(sequence: 1, tokens, wanted: Array(tokens.indices), hidden: true)
    #expect(whole.rows.map { bits($0.logits) } == (try digests(model, tokens)))
    try await withThrowingTaskGroup(of: Void.self) { group in
      for sequence in 2..<8 {
        group.addTask {
          for count in stride(from: sequence, to: tokens.count, by: sequence) {
            // Some of the sequences do not ask for hidden states.
            let answer = try await decoder.decode(
              sequence: UInt64(sequence), Array(tokens[..<count]), hidden: sequence % 3 != 0)
            #expect(bits(answer.rows[0].logits) == bits(whole.rows[count - 1].logits))
            if sequence % 3 != 0 { #expect(bits(answer.rows[0].hidden) == bits(whole.rows[count - 1].hidden)) }
          }
        }
      }
      try await group.waitForAll()
    }
    decoder.shutdown()
  }

  // MARK: - Order, limits, ends

  @Test func moreSequencesThanSlotsTakeTurns() async throws {
    let model = try TestModels.model("llama f32")
    let decoder = try BatchingDecoder(model: model, configuration: .init(slots: 2, contextPerSequence: 256))
    try await withThrowingTaskGroup(of: Void.self) { group in
      for sequence in 0..<12 {
        group.addTask {
          let tokens = randomTokens(30 + sequence, vocabulary: model.vocabulary.size, seed: UInt64(70 + sequence))
          let expected = try digests(model, tokens)
          for count in [10, 11, 12, tokens.count] {
            let answer = try await decoder.decode(sequence: UInt64(sequence), Array(tokens[..<count]))
            #expect(bits(answer.rows[0].logits) == expected[count - 1])
          }
        }
      }
      try await group.waitForAll()
    }
    #expect(decoder.statistics.queued == 0)
    decoder.shutdown()
  }

  @Test func severalRequestsOfOneSequenceKeepTheirOrder() async throws {
    let model = try TestModels.model("llama f32")
    let decoder = try BatchingDecoder(model: model, configuration: .init(slots: 1, contextPerSequence: 256))
    let tokens = randomTokens(100, vocabulary: model.vocabulary.size, seed: 81)
    let box = OrderBox()
    await withCheckedContinuation { continuation in
      for count in 1...20 {
        decoder.submit(
          DecodeRequest(
            id: UInt64(count), sequence: 1, tokens: Array(tokens[..<(5 * count)]), wanted: [5 * count - 1],
            deliver: { _ in }, completion: { _ in if box.append(count) == 20 { continuation.resume() } }))
      }
    }
    #expect(box.all == Array(1...20))
    #expect(decoder.statistics.evaluatedTokens == 100)
    decoder.shutdown()
  }

  @Test func refusesWhatCannotBeServed() async throws {
    let model = try TestModels.model("llama f32")
    let decoder = try BatchingDecoder(
      model: model, configuration: .init(slots: 1, contextPerSequence: 100, queueLimit: 1))
    #expect(decoder.contextPerSequence == 256)
    func sentence(_ body: () async throws -> Answer) async -> String {
      do {
        _ = try await body()
        return "no error"
      } catch { return (error as? FusionRouteError)?.message ?? "\(error)" }
    }
    let long = [Token](repeating: 5, count: 257)
    #expect(
      await sentence { try await decoder.decode(sequence: 1, long) }
        == "a prefix of 257 tokens is longer than the context of 256 tokens per sequence; shorten the prompt or raise "
        + "`context`")
    #expect(await sentence { try await decoder.decode(sequence: 1, [5, 640, 5]) }.contains("outside the vocabulary"))
    #expect(await sentence { try await decoder.decode(sequence: 1, [5, -1, 5]) }.contains("outside the vocabulary"))
    #expect(await sentence { try await decoder.decode(sequence: 1, []) }.contains("at least one token"))
    #expect(await sentence { try await decoder.decode(sequence: 1, [5, 6], wanted: [2]) }.contains("ascending"))
    #expect(await sentence { try await decoder.decode(sequence: 1, [5, 6], wanted: [1, 0]) }.contains("ascending"))
    #expect(await sentence { try await decoder.decode(sequence: 1, [5], hidden: true) }.contains("hidden"))
    // It works after all that, up to the last position of the context.
    let answer = try await decoder.decode(sequence: 1, Array(long[..<256]))
    #expect(answer.rows.count == 1)
    decoder.shutdown()
    #expect(await sentence { try await decoder.decode(sequence: 1, [5]) } == "the decoder was shut down")
    decoder.shutdown()
  }

  @Test func cancelsWhatIsQueuedAndWhatIsRunning() async throws {
    let model = try TestModels.model("llama f32")
    let decoder = try BatchingDecoder(
      model: model, configuration: .init(slots: 1, contextPerSequence: 4096, prefillMilliseconds: 2))
    let tokens = randomTokens(4000, vocabulary: model.vocabulary.size, seed: 91)
    // Cancelled at the first row, on the decoder's own thread: neither too early nor too late on any machine.
    let bothQueued = DispatchSemaphore(value: 0)
    let (results, continuation) = AsyncStream<Result<DecodeSummary, FusionRouteError>>.makeStream()
    decoder.submit(
      DecodeRequest(
        id: 1001, sequence: 1, tokens: tokens, wanted: [0],
        deliver: { _ in
          bothQueued.wait()
          for id: UInt64 in [1002, 1001, 77] { decoder.cancel(request: id) }
        }, completion: { continuation.yield($0) }))
    decoder.submit(
      DecodeRequest(
        id: 1002, sequence: 2, tokens: tokens, wanted: [0], deliver: { _ in },
        completion: { continuation.yield($0) }))
    bothQueued.signal()
    var cancelled = 0
    for await result in results.prefix(2) {
      #expect(throws: FusionRouteError.self) { _ = try result.get() }
      cancelled += 1
    }
    #expect(cancelled == 2)
    #expect(decoder.statistics.evaluatedTokens < 4000)
    // The state is sound afterwards.
    let short = Array(tokens[..<50])
    let answer = try await decoder.decode(sequence: 1, short)
    #expect(bits(answer.rows[0].logits) == (try digests(model, short)).last)
    decoder.shutdown()
  }

  @Test func aFailedComputationIsRepeatedOnce() async throws {
    let model = try TestModels.model("llama f32")
    let decoder = try BatchingDecoder(
      model: model, configuration: .init(slots: 2, contextPerSequence: 256, maximumBatch: 32))
    let tokens = randomTokens(100, vocabulary: model.vocabulary.size, seed: 94)
    let expected = try digests(model, tokens)
    _ = try await decoder.decode(sequence: 1, Array(tokens[..<60]))
    decoder.monitor.failuresToSimulate.store(1, ordering: .relaxed)
    // Its KV is gone, so everything is evaluated again, and each row still comes once.
    let answer = try await decoder.decode(sequence: 1, tokens, wanted: Array(60..<100))
    #expect(answer.rows.map(\.position) == Array(60..<100))
    #expect(answer.rows.map { bits($0.logits) } == Array(expected[60...]))
    #expect(answer.summary.evaluatedTokens == 100)
    // Twice is too often for a request, and harmless for the next.
    decoder.monitor.failuresToSimulate.store(2, ordering: .relaxed)
    do {
      _ = try await decoder.decode(sequence: 1, tokens)
      Issue.record("no error")
    } catch let error as FusionRouteError {
      #expect(error.code == .unavailable)
      #expect(error.message == "the computation failed (simulated); try again")
    }
    let again = try await decoder.decode(sequence: 1, tokens)
    #expect(bits(again.rows[0].logits) == expected.last)
    decoder.shutdown()
  }

  @Test func shutdownEndsARunningRequest() async throws {
    let model = try TestModels.model("llama f32")
    let decoder = try BatchingDecoder(model: model, configuration: .init(slots: 2, contextPerSequence: 8192))
    let tokens = randomTokens(8000, vocabulary: model.vocabulary.size, seed: 92)
    let (rows, row) = AsyncStream<Int>.makeStream()
    let (results, result) = AsyncStream<Result<DecodeSummary, FusionRouteError>>.makeStream()
    decoder.submit(
      DecodeRequest(
        id: BatchingDecoder.nextID(), sequence: 1, tokens: tokens, wanted: [0, 4000, 7999],
        deliver: { delivered in
          row.yield(delivered.position)
          guard delivered.position == 4000 else { return }
          // Held half-way until the shutdown has begun: it cannot come too late, on any machine.
          for _ in 0..<60_000 where !decoder.monitor.abort.load(ordering: .relaxed) {
            Thread.sleep(forTimeInterval: 0.001)
          }
        },
        completion: {
          row.finish()
          result.yield($0)
          result.finish()
        }))
    // Under way.
    for await _ in rows.prefix(1) {}
    decoder.shutdown()
    #expect(decoder.statistics.evaluatedTokens < 8000)
    #expect(decoder.statistics.queued == 0)
    let end = await results.first { _ in true }
    let error = #expect(throws: FusionRouteError.self) { _ = try end?.get() }
    #expect(error?.code == .interrupted)
  }

  @Test func progressGrowsWhileComputing() throws {
    let model = try TestModels.model("llama f32")
    let decoder = try BatchingDecoder(model: model, configuration: .init(slots: 1, contextPerSequence: 2048))
    let ended = DispatchSemaphore(value: 0)
    let seen = Snapshots()
    var budget: UInt64 = 0
    // Looking from outside hits a computation sooner or later, but not in any one request for certain.
    for round in 0..<100 as Range<UInt64> where budget == 0 {
      decoder.submit(
        DecodeRequest(
          id: BatchingDecoder.nextID(), sequence: round,
          tokens: randomTokens(2000, vocabulary: model.vocabulary.size, seed: 93 + round), wanted: [0, 1999],
          deliver: { _ in seen.append(decoder.statistics) }, completion: { _ in ended.signal() }))
      var looks = 0
      while ended.wait(timeout: .now() + .milliseconds(1)) == .timedOut {
        budget = max(budget, decoder.statistics.currentBatchBudgetMilliseconds)
        looks += 1
        try #require(looks < 60_000, "the request has not ended")
      }
    }
    // The least that there is.
    #expect(budget >= 10_000)
    // Delivering comes between two computations and before the completion.
    try #require(seen.all.count >= 2)
    let (first, last) = (seen.all[0], seen.all[1])
    #expect(first.queued == 1 && last.queued == 1)
    #expect(first.currentBatchBudgetMilliseconds == 0 && last.currentBatchBudgetMilliseconds == 0)
    #expect(first.evaluatedTokens < 2000 && last.evaluatedTokens == 2000)
    // Each call counts, and so do the nodes of its graph.
    #expect(last.batches > first.batches)
    #expect(last.progress - first.progress > last.batches - first.batches)
    let after = decoder.statistics
    #expect(after.currentBatchBudgetMilliseconds == 0)
    #expect(after.kvTokens == 2000)
    #expect(after.queued == 0)
    decoder.shutdown()
  }

  private final class Snapshots: Sendable {
    private let values = Mutex<[DecoderStatistics]>([])
    func append(_ value: DecoderStatistics) { values.withLock { $0.append(value) } }
    var all: [DecoderStatistics] { values.withLock { $0 } }
  }
}

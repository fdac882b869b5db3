import Core
import Synchronization
import Testing

@testable import Inference

/// Long prompts beside steps: who waits for whom.
@Suite(.serialized) struct PrefillTests {
  private typealias Candidate = PrefillPolicy.Candidate

  @Test(
    "short ones wait for those before them and as many long chunks; of the long ones the first and the shortest get on",
    arguments: 0..<10)
  func policy(seed: UInt64) {
    print("prefill policy seed \(seed)")
    var random = SplitMix64(seed: seed)
    let chunk = 32
    var policy = PrefillPolicy()
    var waiting: [Candidate] = []
    /// Short ones, per serial: chunks served to others since it came, and those that were there before.
    var waited: [UInt64: Int] = [:]
    var ahead: [UInt64: Int] = [:]
    /// Chunks since the long one that came first, and the one with the least left, were served last or became that.
    var (first, sinceFirst): (UInt64?, Int) = (nil, 0)
    var (least, sinceLeast): (UInt64?, Int) = (nil, 0)
    var serial: UInt64 = 0
    for _ in 0..<3_000 {
      for _ in 0..<Int.random(in: 0...1, using: &random) {
        serial += 1
        let isLong = waiting.count { $0.remaining > chunk } < 3 && Bool.random(using: &random)
        let remaining = isLong ? Int.random(in: 33...2_000, using: &random) : Int.random(in: 1...32, using: &random)
        if !isLong { ahead[serial] = waiting.count }
        waiting.append(Candidate(remaining: remaining, serial: serial))
      }
      let long = waiting.filter { $0.remaining > chunk }
      let firstNow = long.map(\.serial).min()
      let leastNow = long.min { ($0.remaining, $0.serial) < ($1.remaining, $1.serial) }?.serial
      if firstNow != first { (first, sinceFirst) = (firstNow, 0) }
      if leastNow != least { (least, sinceLeast) = (leastNow, 0) }
      guard let index = policy.next(waiting, chunk: chunk) else {
        #expect(waiting.isEmpty)
        continue
      }
      let served = waiting[index].serial
      if waiting[index].remaining <= chunk {
        // Those that were there before it, as far as they are short by now, and a long chunk before each and before itself.
        if let ahead = ahead[served] { #expect(waited[served, default: 0] <= 2 * ahead + 1, "serial \(served)") }
      } else {
        #expect(served == first || served == least)
      }
      for candidate in waiting where candidate.serial != served { waited[candidate.serial, default: 0] += 1 }
      sinceFirst = first == nil || served == first ? 0 : sinceFirst + 1
      sinceLeast = least == nil || served == least ? 0 : sinceLeast + 1
      // A short one, one of the other long ones, and another short one.
      #expect(sinceFirst <= 3 && sinceLeast <= 3)
      if waiting[index].remaining > chunk {
        waiting[index].remaining -= chunk
      } else {
        waiting.remove(at: index)
      }
    }
    #expect(serial > 500)
  }

  @Test("prompts that come together are read one after the other: never more than two are begun")
  func together() {
    var policy = PrefillPolicy()
    var waiting = (0..<13).map { Candidate(remaining: 330, serial: $0) }
    var begun: Set<UInt64> = []
    var ends: [Int] = []
    for turn in 1...200 {
      guard let index = policy.next(waiting, chunk: 32) else { break }
      begun.insert(waiting[index].serial)
      waiting[index].remaining -= 32
      if waiting[index].remaining <= 0 {
        begun.remove(waiting.remove(at: index).serial)
        ends.append(turn)
      }
      #expect(begun.count <= 2)
    }
    #expect(waiting.isEmpty && ends.last == 13 * 11 && ends[0] <= 22)
  }

  @Test(
    "requests that begin alike and come together read their beginning once, and the next one goes on if it is cancelled"
  )
  func commonBeginnings() async throws {
    let model = try TestModels.model("llama f32")
    let vocabulary = model.vocabulary.size
    let decoder = try BatchingDecoder(
      model: model,
      configuration: .init(slots: 6, contextPerSequence: 512, hiddenStates: true, prefillMilliseconds: 0.001))
    let beginning = randomTokens(300, vocabulary: vocabulary, seed: 500)
    // Two that are equal, two that go on differently, one that begins differently.
    let prompts: [[Token]] = [
      beginning, beginning, beginning + randomTokens(40, vocabulary: vocabulary, seed: 501),
      Array(beginning[..<250]) + randomTokens(9, vocabulary: vocabulary, seed: 502),
      randomTokens(70, vocabulary: vocabulary, seed: 503),
    ]
    func check(_ answers: [Answer?]) throws {
      for (answer, prompt) in zip(answers, prompts) {
        let row = try #require(answer?.rows.first)
        let expected = try LlamaOracle.rows(model: model.path, tokens: prompt, vocabulary: vocabulary)
        #expect(bits(row.logits) == SHA256Digest(hashing: expected[prompt.count - 1].withUnsafeBytes { Array($0) }))
      }
    }
    let before = decoder.statistics.evaluatedTokens
    try check(await decoder.together(prompts.indices.map { (UInt64($0), prompts[$0]) }))
    // Alone they have 1,269 tokens, of which they share 850; some of it is read again where a copy would take longer.
    let evaluated = decoder.statistics.evaluatedTokens - before
    #expect(evaluated < 550, "\(evaluated)")
    decoder.shutdown()

    let second = try BatchingDecoder(
      model: model, configuration: .init(slots: 6, contextPerSequence: 512, prefillMilliseconds: 0.001))
    let (results, continuation) = AsyncStream<Bool>.makeStream()
    let ids = [BatchingDecoder.nextID(), BatchingDecoder.nextID()]
    second.submit(
      DecodeRequest(
        id: ids[0], sequence: 0, tokens: beginning, wanted: [100, 200, 299],
        // On the decoder's own thread: the second one comes while the first is read, and waits until that is cancelled.
        deliver: { row in
          if row.position == 200 { second.cancel(request: ids[0]) }
          guard row.position == 100 else { return }
          second.submit(
            DecodeRequest(
              id: ids[1], sequence: 1, tokens: beginning, wanted: [299], deliver: { _ in },
              completion: { continuation.yield((try? $0.get()) != nil) }))
        }, completion: { continuation.yield((try? $0.get()) != nil) }))
    var ended: [Bool] = []
    for await result in results.prefix(2) { ended.append(result) }
    #expect(ended == [false, true])
    // Up to 216 by the first one, and by the second what a copy of that leaves.
    #expect(second.statistics.evaluatedTokens < 300 + 40)
    second.shutdown()
  }

  @Test("while 2,000 tokens are read and others catch up, no step waits for more than one turn of prefill")
  func stepsAmongPrefill() async throws {
    let model = try TestModels.model("llama f32")
    let vocabulary = model.vocabulary.size
    // The shortest chunks there are, so that many of them could get in the way.
    let decoder = try BatchingDecoder(
      model: model,
      configuration: .init(slots: 7, contextPerSequence: 2_304, hiddenStates: true, prefillMilliseconds: 0.001))
    try await withThrowingTaskGroup(of: Void.self) { group in
      for stream in 0..<4 as Range<UInt64> {
        group.addTask {
          let tokens = randomTokens(400, vocabulary: vocabulary, seed: 300 + stream)
          for length in 10...200 {
            _ = try await decoder.decode(sequence: stream, Array(tokens[..<length]), hidden: true)
          }
        }
      }
      for prompt in 4..<6 as Range<UInt64> {
        group.addTask {
          let tokens = randomTokens(2_000, vocabulary: vocabulary, seed: 300 + prompt)
          _ = try await decoder.decode(sequence: prompt, tokens, hidden: true)
        }
      }
      // Catch-ups longer than a step, as of an expert that was not selected for a while.
      group.addTask {
        let tokens = randomTokens(400, vocabulary: vocabulary, seed: 310)
        for length in stride(from: 20, through: 400, by: 20) {
          _ = try await decoder.decode(sequence: 6, Array(tokens[..<length]), wanted: [length - 1])
        }
      }
      try await group.waitForAll()
    }
    let statistics = decoder.statistics
    #expect(statistics.prefillChunks >= 4_000 / 20 && statistics.longestStepWait <= 1, "\(statistics)")
    print("\(statistics.prefillChunks) chunks, longest wait of a step: \(statistics.longestStepWait) turns")
    decoder.shutdown()
  }

  @Test(
    "where there is always another answer to be made, and prompts are at most twice as long, two fifths of the slots step"
  )
  func slotsDoNotWaitForPrompts() {
    for (slots, prompt, answer) in [(16, 60, 60), (48, 60, 30), (100, 60, 30), (100, 40, 130)] {
      var reading = Array(repeating: prompt, count: slots)
      var stepping: [Int] = []
      var counts: [Int] = []
      for _ in 0..<2_000 {
        // As in the decoder: steps, those that came meanwhile, a chunk.
        for _ in 0..<2 { stepping = stepping.map { $0 - 1 } }
        reading += stepping.filter { $0 <= 0 }.map { _ in prompt }
        stepping.removeAll { $0 <= 0 }
        counts.append(stepping.count)
        var tokens = PrefillPolicy.tokens(timed: 8, prompts: reading.count, stepping: stepping.count)
        while tokens > 0, let left = reading.first {
          reading[0] -= min(tokens, left)
          tokens -= min(tokens, left)
          guard reading[0] == 0 else { break }
          reading.removeFirst()
          stepping.append(answer)
        }
      }
      let mean = Double(counts.suffix(1_000).reduce(0, +)) / 1_000
      #expect(mean >= 0.4 * Double(slots), "\(slots) slots, prompts of \(prompt), answers of \(answer): \(mean) step")
    }
  }

  @Test("sequences that catch up over a gap of slots are decoded in runs of their own, not token by token over the gap")
  func catchUpsAreNotBridged() async throws {
    let model = try TestModels.model("llama f32")
    var configuration = DecoderConfiguration(slots: 4, contextPerSequence: 256)
    configuration.fixedStepShare = 0.1
    configuration.joinsDistantSlots = false
    let decoder = try BatchingDecoder(model: model, configuration: configuration)
    let tokens = (0..<3).map { randomTokens(60, vocabulary: model.vocabulary.size, seed: UInt64(400 + $0)) }
    for slot in 0..<3 { _ = try await decoder.decode(sequence: UInt64(slot), Array(tokens[slot][..<20])) }
    let before = decoder.statistics
    let answers = await decoder.together([0, 2].map { (UInt64($0), Array(tokens[$0][..<36])) })
    #expect(answers.allSatisfy { $0?.rows.count == 1 })
    let after = decoder.statistics
    #expect(after.refilledTokens == before.refilledTokens && after.batches - before.batches == 3)
    decoder.shutdown()
  }

  @Test("a prompt whose slot lies between two steps reads along, and has the bits that it has alone")
  func promptsReadAlong() async throws {
    let model = try TestModels.model("llama f32")
    let vocabulary = model.vocabulary.size
    var configuration = DecoderConfiguration(slots: 4, contextPerSequence: 512, prefillMilliseconds: 0.001)
    configuration.fixedStepShare = 0.1
    configuration.joinsDistantSlots = false
    let decoder = try BatchingDecoder(model: model, configuration: configuration)
    let tokens = (0..<3).map { randomTokens(320, vocabulary: vocabulary, seed: UInt64(440 + $0)) }
    let expected = try tokens.map { try LlamaOracle.rows(model: model.path, tokens: $0, vocabulary: vocabulary) }
    // Slots 0 to 2 in this order.
    for slot in 0..<3 { _ = try await decoder.decode(sequence: UInt64(slot), Array(tokens[slot][..<10])) }
    let before = decoder.statistics
    let rows = (0..<3).map { _ in RowBox() }
    let (results, continuation) = AsyncStream<Bool>.makeStream()
    @Sendable func submit(_ slot: Int, _ length: Int, completion: @escaping @Sendable (Bool) -> Void) {
      decoder.submit(
        DecodeRequest(
          id: BatchingDecoder.nextID(), sequence: UInt64(slot), tokens: Array(tokens[slot][..<length]),
          wanted: [length - 1], deliver: { rows[slot].append($0) },
          completion: { completion((try? $0.get()) != nil) }))
    }
    /// Both steps at once: what a completion submits is there at the decoder's next turn.
    @Sendable func step(_ length: Int) {
      guard length <= 70 else {
        continuation.yield(true)
        return
      }
      submit(0, length) { if !$0 { continuation.yield(false) } }
      submit(2, length) { if $0 { step(length + 1) } else { continuation.yield(false) } }
    }
    decoder.submit(
      DecodeRequest(
        id: BatchingDecoder.nextID(), sequence: 3, tokens: [5], wanted: [0],
        deliver: { _ in
          submit(1, 310) { continuation.yield($0) }
          step(11)
        }, completion: { _ in }))
    for await result in results.prefix(2) { #expect(result) }
    for slot in 0..<3 {
      for row in rows[slot].all {
        #expect(
          bits(row.logits) == expected[slot][row.position].withUnsafeBytes { SHA256Digest(hashing: $0) },
          "slot \(slot), position \(row.position)")
      }
    }
    #expect(rows.map { $0.all.count } == [60, 1, 60])
    // Chunks have 8 tokens here, and steps are taken before each of them.
    let chunks = decoder.statistics.prefillChunks - before.prefillChunks
    #expect(chunks > 10 && chunks <= 300 / 9 + 1, "\(chunks)")
    #expect(decoder.statistics.refilledTokens == before.refilledTokens)
    decoder.shutdown()
  }

  @Test(
    "a failed batch of steps that went over a prefill's slot has that read everything again, read along or bridged",
    arguments: [true, false])
  func failedBridgeOverAPrefill(readsAlong: Bool) async throws {
    let model = try TestModels.model("llama f32")
    let vocabulary = model.vocabulary.size
    var configuration = DecoderConfiguration(slots: 5, contextPerSequence: 512, prefillMilliseconds: 0.001)
    configuration.fixedStepShare = 0.1
    configuration.joinsDistantSlots = false
    let decoder = try BatchingDecoder(model: model, configuration: configuration)
    let tokens = (0..<5).map { randomTokens(200, vocabulary: vocabulary, seed: UInt64(420 + $0)) }
    let expected = try LlamaOracle.rows(model: model.path, tokens: tokens[3], vocabulary: vocabulary)
    // Slots 0 to 4 in this order.
    for slot in 0..<5 { _ = try await decoder.decode(sequence: UInt64(slot), Array(tokens[slot][..<10])) }
    let rows = RowBox()
    // A prompt does not read along where its next row is wanted.
    let wanted = readsAlong ? [20, 199] : Array(20..<200)
    let (results, continuation) = AsyncStream<Result<DecodeSummary, FusionRouteError>>.makeStream()
    decoder.submit(
      DecodeRequest(
        id: BatchingDecoder.nextID(), sequence: 3, tokens: tokens[3], wanted: wanted,
        deliver: { row in
          rows.append(row)
          guard row.position == 20 else { return }
          // On the decoder's own thread, so that all three are there at its next turn. Whichever runs are made of 0, 2
          // and 4, the one with 2 and 4 goes over 3; it has come first and is computed first.
          for slot in [2, 4, 0] {
            decoder.submit(
              DecodeRequest(
                id: BatchingDecoder.nextID(), sequence: UInt64(slot), tokens: Array(tokens[slot][..<11]), wanted: [10],
                deliver: { _ in }, completion: { continuation.yield($0) }))
          }
          decoder.monitor.failuresToSimulate.store(1, ordering: .relaxed)
        }, completion: { continuation.yield($0) }))
    for await result in results.prefix(4) { _ = try result.get() }
    #expect(decoder.statistics.refilledTokens > 0 && decoder.monitor.failuresToSimulate.load(ordering: .relaxed) == 0)
    #expect(rows.all.map(\.position) == wanted)
    let digests = wanted.map { expected[$0].withUnsafeBytes { SHA256Digest(hashing: $0) } }
    #expect(rows.all.map { bits($0.logits) } == digests)
    decoder.shutdown()
  }
}

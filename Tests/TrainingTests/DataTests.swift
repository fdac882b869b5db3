import Core
import Foundation
import Inference
import ModelFiles
import TestSupport
import Testing

@testable import Training

/// From lines of JSON to tokens.
@Suite struct DataTests {
  private static func write(_ text: String, _ scratch: Scratch) throws -> String {
    let path = scratch.path("data.jsonl")
    try Data(text.utf8).write(to: URL(fileURLWithPath: path))
    return path
  }

  private static func encoder(_ scratch: Scratch, maximumLength: Int = 512, isRaw: Bool = false) throws
    -> (encoder: ExampleEncoder, model: Model)
  {
    let path = scratch.path("model.gguf")
    try ModelMaker.make(Worlds.recipe(.llama), to: path)
    let model = try Model.load(path: path, options: ModelLoadOptions(vocabularyOnly: true))
    return (try ExampleEncoder(model: model, maximumLength: maximumLength, isRaw: isRaw), model)
  }

  @Test func forms() throws {
    let scratch = try Scratch()
    let path = try Self.write(
      """
      {"messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}

      {"prompt": "What?", "completion": "That."}
      {"prompt": [{"role": "user", "content": "p"}], "chosen": [{"role": "assistant", "content": "good"}], "rejected": "bad"}
      {"text": "some words"}
      {"prompt": "p", "chosen": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "y"}], "rejected": "n"}
      """, scratch)
    let records = try RecordReader.read(path)
    func message(_ role: String, _ content: String) -> ChatMessage { ChatMessage(role: role, content: content) }
    #expect(
      records.map(\.record) == [
        .conversation([message("system", "Be short."), message("user", "a"), message("assistant", "b")]),
        .conversation([message("user", "What?"), message("assistant", "That.")]),
        .preference(prompt: [message("user", "p")], chosen: "good", rejected: "bad"),
        .text("some words"),
        .preference(prompt: [message("user", "p")], chosen: "y", rejected: "n"),
      ])
    #expect(records.map(\.source.line) == [1, 3, 4, 5, 6])
  }

  /// Files as Windows writes them, and what is no file of lines at all.
  @Test func marksAndOtherFiles() throws {
    let scratch = try Scratch()
    let path = try Self.write("\u{FEFF}{\"text\": \"a\"}\r\n\r\n{\"text\": \"b\"}\r\n", scratch)
    let records = try RecordReader.read(path)
    #expect(records.map(\.record) == [.text("a"), .text("b")] && records.map(\.source.line) == [1, 3])
    try Data([0x1F, 0x8B, 8, 0]).write(to: URL(fileURLWithPath: scratch.path("data.gz")))
    for (name, word) in [("data.gz", "compressed"), ("", "directory"), ("none", "exist")] {
      let error = #expect(throws: FusionRouteError.self) { _ = try RecordReader.read(scratch.path(name)) }
      #expect(error?.code == .badInput && error?.message.contains(word) == true, "\(error?.message ?? "")")
    }
  }

  @Test(arguments: [
    ("{\"prompt\": \"a\",", "JSON"), ("[1]", "object"), ("{\"prompt\": \"a\", \"completion\": \"  \"}", "empty"),
    ("{\"messages\": [{\"role\": \"robot\", \"content\": \"a\"}]}", "robot"), ("{\"question\": \"a\"}", "question"),
    ("{\"prompt\": \"a\", \"chosen\": \"b\"}", "rejected"), ("{\"text\": 4}", "number"),
    ("{\"messages\": [{\"role\": \"user\"}]}", "content"), ("{\"text\": \"\u{FFFD}\" \"x\"}", "JSON"),
    (
      "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"\"}]}",
      "empty"
    ),
  ])
  func faultsNameTheirLine(_ line: String, _ word: String) throws {
    let scratch = try Scratch()
    let path = try Self.write("{\"text\": \"fine\"}\n\n\(line)\n{\"text\": \"fine\"}\n", scratch)
    let error = try #require(throws: FusionRouteError.self) { try RecordReader.read(path) }
    #expect(error.code == .badInput)
    #expect(error.message.hasPrefix("\(path):3: "), "\(error.message)")
    #expect(error.message.contains(word), "\(error.message)")
  }

  /// What is judged is what the model would have to generate: the answer and its end of turn, nothing else.
  @Test func answersAreJudgedWithTheirEndOfTurn() throws {
    let scratch = try Scratch()
    let (encoder, model) = try Self.encoder(scratch)
    let messages = [
      ChatMessage(role: "user", content: "one small step"), ChatMessage(role: "assistant", content: "the answer"),
      ChatMessage(role: "user", content: "and <|im_end|> then"), ChatMessage(role: "assistant", content: " last words"),
    ]
    let sequence = try encoder.conversation(messages)
    func text(_ tokens: [Token]) -> String {
      String(decoding: tokens.flatMap { model.vocabulary.piece($0, special: true) }, as: UTF8.self)
    }
    let judged = sequence.judged.map { sequence.tokens[$0 + 1] }
    #expect(text(judged) == "the answer<|im_end|> last words<|im_end|>")
    #expect(text(sequence.tokens).hasSuffix("<|im_start|>assistant\n last words<|im_end|>"))
    // The prompt is the runtime's own.
    let prompt = try model.promptTokens(chat: [messages[0]])
    #expect(sequence.tokens.starts(with: prompt))
    #expect(sequence.judged.first == prompt.count - 1)
    // Of a pair only the last answer counts.
    let last = try encoder.conversation(messages, lastOnly: true)
    #expect(text(last.judged.map { last.tokens[$0 + 1] }) == " last words<|im_end|>")
  }

  @Test func longAnswersAreCutAndCounted() throws {
    let scratch = try Scratch()
    let (whole, _) = try Self.encoder(scratch)
    let long = String(repeating: "many words ", count: 40)
    let messages = [ChatMessage(role: "user", content: "go"), ChatMessage(role: "assistant", content: long)]
    let full = try whole.conversation(messages)
    let (short, _) = try Self.encoder(scratch, maximumLength: 30)
    let source = RecordSource(file: "f", line: 1)
    let (samples, report) = try short.samples([
      (.conversation(messages), source),
      (
        .conversation([ChatMessage(role: "user", content: long), ChatMessage(role: "assistant", content: "x")]), source
      ),
    ])
    #expect(report == ExampleEncoder.Report(examples: 1, truncated: 1, dropped: 1))
    #expect(samples[0].sequence.tokens == Array(full.tokens.prefix(30)))
    #expect(samples[0].sequence.judged.last == 28)
    let (pairs, pairReport) = try short.pairs([
      (.preference(prompt: [messages[0]], chosen: long, rejected: "x"), source),
      (.preference(prompt: [messages[0]], chosen: "y", rejected: "x"), source),
    ])
    #expect(pairs.count == 1 && pairReport.dropped == 1 && pairs[0].task == nil)
    let path = scratch.path("pairs.jsonl")
    try Data(#"{"task": "math", "prompt": "go", "chosen": "y", "rejected": "x"}"#.utf8).write(
      to: URL(fileURLWithPath: path))
    #expect(try short.pairs(RecordReader.read(path)).pairs.map(\.task) == ["math"])
  }

  @Test func orderedPairsAreToldByTask() {
    var metrics = StepMetrics()
    #expect(metrics.orderedPairs == nil)
    for index in 0..<8 { metrics.add(task: nil, isPreferred: index > 0) }
    #expect(metrics.orderedPairs == "88 % of 8 pairs")
    var other = StepMetrics()
    for index in 0..<3 { other.add(task: "math", isPreferred: index > 0) }
    other.add(task: "code", isPreferred: true)
    metrics += other
    metrics += other
    #expect(metrics.orderedPairs == "81 % of 16 pairs (code 100 % of 2, math 67 % of 6)")
    // Names without end are no tasks.
    for index in 0..<30 { metrics.add(task: "\(index)", isPreferred: true) }
    #expect(metrics.orderedPairs == "93 % of 46 pairs")
  }

  @Test func pairsBeginWhereTheyDiffer() {
    let pair = PreferencePair(
      chosen: TrainingSequence(tokens: [1, 2, 3, 4, 5], response: 2),
      rejected: TrainingSequence(tokens: [1, 2, 3, 6], response: 2))
    #expect(pair.chosen.judged == [2, 3] && pair.rejected.judged == [2])
    // Their lengths are the answers', not those of what differs.
    #expect(pair.lengths == (3, 2))
  }

  /// Samples beside pairs are those of a run on the samples alone, step by step, however many pairs there are.
  @Test func samplesGoBesidePairs() {
    var generator = SplitMix64(seed: 6)
    for seed in 0..<20 as Range<UInt64> {
      let (samples, pairs) = (5 + Int(generator.next() % 50), 5 + Int(generator.next() % 50))
      let (lengths, group) = ((0..<samples).map { _ in Int(generator.next() % 100) }, 1 + Int(generator.next() % 4))
      let alone = StepPlan(
        items: lengths.indices.map { .sample($0) }, lengths: lengths, batch: 3, group: group, seed: seed)
      let both = StepStream(
        StepPlan(
          items: (0..<pairs).map { .pair($0) }, lengths: (0..<pairs).map { _ in 1 }, batch: 4, group: 2, seed: seed),
        beside: alone)
      #expect(both.stepsPerEpoch == (pairs + 3) / 4)
      let steps = (0..<4).flatMap { both.epoch($0) }
      let expected = (0..<(steps.count / alone.stepsPerEpoch + 1)).flatMap { alone.epoch($0) }
      for (step, samples) in zip(steps, expected) {
        #expect(step.filter { if case .sample = $0 { true } else { false } } == samples, "seed \(seed)")
      }
      #expect(Set(both.epoch(0).joined().filter { if case .pair = $0 { true } else { false } }).count == pairs)
      #expect(both.epoch(1) == both.epoch(1))
    }
  }

  /// Every example once per pass, in steps of the asked size, whatever the seed.
  @Test func plansCoverTheData() {
    var generator = SplitMix64(seed: 5)
    for seed in 0..<20 as Range<UInt64> {
      let count = 1 + Int(generator.next() % 200)
      let batch = 1 + Int(generator.next() % 9)
      let lengths = (0..<count).map { _ in Int(generator.next() % 100) }
      let group = 1 + Int(generator.next() % 12)
      let plan = StepPlan(
        items: (0..<count).map { .sample($0) }, lengths: lengths, batch: batch, group: group, seed: seed)
      let first = plan.epoch(0)
      #expect(first.count == plan.stepsPerEpoch && first.allSatisfy { (1...batch).contains($0.count) })
      #expect(Set(first.joined()).count == count && first.joined().count == count)
      #expect(first == plan.epoch(0))
      if count > 20 { #expect(first != plan.epoch(1)) }
    }
  }

  /// What is computed at once is equally long, and yet a step sees both kinds.
  @Test func stepsAreMixed() {
    var (mixed, steps, uniform, groups) = (0, 0, 0, 0)
    for seed in 1...10 as ClosedRange<UInt64> {
      let lengths = (0..<512).map { $0 % 2 == 0 ? 10 : 100 }
      let plan = StepPlan(
        items: lengths.indices.map { .sample($0) }, lengths: lengths, batch: 8, group: 2, seed: seed)
      for step in plan.epoch(0) {
        let found = step.map { item in if case .sample(let index) = item { lengths[index] } else { 0 } }
        steps += 1
        if Set(found).count == 2 { mixed += 1 }
        for first in stride(from: 0, to: found.count, by: 2) {
          groups += 1
          if found[first] == found[first + 1] { uniform += 1 }
        }
      }
    }
    // Four groups of two kinds are all of one kind in an eighth of the cases.
    #expect(Double(mixed) >= 0.75 * Double(steps), "\(mixed) of \(steps)")
    #expect(Double(uniform) >= 0.9 * Double(groups), "\(uniform) of \(groups)")
  }

  /// What no run could count to is refused, not counted.
  @Test func settingsHaveBounds() throws {
    let faults: [(inout TrainingSettings) -> Void] = [
      { $0.epochs = 1e20 }, { $0.epochs = .nan }, { $0.epochs = 0 }, { $0.schedule.warmup = .max },
      { $0.schedule.warmup = -1 },
    ]
    for (index, change) in faults.enumerated() {
      var settings = TrainingSettings()
      change(&settings)
      let error = #expect(throws: FusionRouteError.self, "\(index)") { try settings.validate() }
      #expect(error?.code == .usage)
    }
    var settings = TrainingSettings()
    (settings.epochs, settings.schedule.warmup) = (TrainingSettings.maximumEpochs, LearningRateSchedule.maximumWarmup)
    try settings.validate()
    #expect(settings.totalSteps(stepsPerEpoch: 1_000_000) == 1_000_000_000_000)
    #expect(settings.schedule.rate(step: 0, of: 1) < settings.schedule.peak)
  }

  /// Examples of similar length go together: little is computed that only fills up.
  @Test(arguments: [1, 2, 3, 4] as [UInt64])
  func lengthBuckets(_ seed: UInt64) throws {
    let scratch = try Scratch()
    let path = scratch.path("model.gguf")
    try ModelMaker.make(Worlds.recipe(.llama), to: path)
    let engine = try TrainingEngine(GGUFFile.read(path), mode: .frozen, options: Worlds.options())
    var generator = SplitMix64(seed: seed)
    let samples = (0..<512).map { _ in
      let tokens = [Token](repeating: 1, count: 9 + Int(generator.next() % 192))
      return Sample(sequence: TrainingSequence(tokens: tokens, response: 4))
    }
    var settings = TrainingSettings()
    (settings.batch, settings.sequencesPerPass, settings.seed) = (8, 4, seed)
    let loop = try TrainingLoop(
      engine: engine, objective: TrainingObjective(), samples: samples, settings: settings,
      folder: scratch.path("run"), identity: "test")
    // As the data lies: passes of four, padded to the longest of them.
    let unsorted = stride(from: 0, to: samples.count, by: 4).map { PassBatch(samples[$0..<$0 + 4].map(\.sequence)) }
    let (tokens, padded) = unsorted.reduce((0, 0)) { ($0.0 + $1.tokenCount, $0.1 + $1.paddedTokenCount) }
    let share = Double(padded - tokens) / Double(padded)
    #expect(share > 0.25, "seed \(seed)")
    #expect(loop.paddingShare < 0.12 && loop.paddingShare >= 0, "seed \(seed): \(loop.paddingShare)")
    // A step reports what it padded.
    let metrics = try StepEvaluator(
      engine: engine, objective: TrainingObjective(), samples: samples, pairs: [], sequencesPerPass: 4
    ).evaluate([.sample(0), .sample(1)], learns: false)
    let lengths = samples.prefix(2).map(\.sequence.inputCount)
    #expect(metrics.tokens == lengths.reduce(0, +) && metrics.paddedTokens >= 2 * lengths.max()!)
  }

  @Test func scoresSurviveACrash() throws {
    let scratch = try Scratch()
    let fingerprint = SHA256Digest(hashing: [1, 2, 3])
    let sequences = Worlds.batch(lengths: [9, 14, 30], vocabulary: 100, seed: 3).sequences
    let scores = sequences.map { sequence in
      ExpertScores(
        logProbabilities: sequence.judged.map { -Float($0) / 3 }, argmaxes: sequence.judged.map { Token($0) })
    }
    do {
      let cache = try ScoreCache(folder: scratch.path("scores"), fingerprint: fingerprint)
      for (sequence, score) in zip(sequences, scores) { try cache.store(score, for: ScoreCache.key(of: sequence)) }
    }
    let file = URL(fileURLWithPath: scratch.path("scores/\(fingerprint.hex).scores"))
    let data = try Data(contentsOf: file)
    // Behind 8 bytes that name the format: a key of 32, the count, two words of 4 per judged token, 8 of checksum.
    var end = 8
    let ends = sequences.map { sequence in
      end += 44 + 8 * sequence.judged.count
      return end
    }
    try #require(data.count == end)
    /// Opens the cache, of which the first `count` records must be known, exactly.
    func reopen(knowing count: Int, _ what: String) throws -> ScoreCache {
      let cache = try ScoreCache(folder: scratch.path("scores"), fingerprint: fingerprint)
      #expect(cache.count == count, "\(what)")
      let known = sequences.map { cache[ScoreCache.key(of: $0)] }
      #expect(known == scores.indices.map { $0 < count ? scores[$0] : nil }, "\(what)")
      return cache
    }
    for length in [end, end - 1, end - 40, ends[1], ends[1] - 1, ends[0], 60, 8, 3, 0] {
      try data.prefix(length).write(to: file)
      let cache = try reopen(knowing: ends.count { $0 <= length }, "\(length) bytes")
      // What is missing can be added again.
      for (sequence, score) in zip(sequences, scores) { try cache.store(score, for: ScoreCache.key(of: sequence)) }
      #expect(try Data(contentsOf: file) == data)
    }
    // A changed byte ends the known part: of the format's name, a key, a count, a value or a checksum.
    for position in [3, 8, ends[0] + 32, end / 2, end - 1] {
      var damaged = data
      damaged[position] ^= 1
      try damaged.write(to: file)
      _ = try reopen(knowing: ends.count { $0 <= position }, "byte \(position)")
    }
  }

  /// Locks tell open files apart, not processes, so that two of this one's stand for two runs with the same experts.
  @Test func runsShareScores() throws {
    let scratch = try Scratch()
    let folder = scratch.path("scores")
    let fingerprint = SHA256Digest(hashing: [4, 5, 6])
    let sequences = Worlds.batch(lengths: [9, 14, 30, 5], vocabulary: 100, seed: 4).sequences
    let keys = sequences.map { ScoreCache.key(of: $0) }
    let scores = sequences.map { sequence in
      ExpertScores(
        logProbabilities: sequence.judged.map { -Float($0) / 7 }, argmaxes: sequence.judged.map { Token($0) })
    }
    let (one, other) = (
      try ScoreCache(folder: folder, fingerprint: fingerprint), try ScoreCache(folder: folder, fingerprint: fingerprint)
    )
    try one.store(scores[0], for: keys[0])
    try other.store(scores[1], for: keys[1])
    // What the other one has appended is learnt on the way.
    #expect(other[keys[0]] == scores[0])
    try one.store(scores[2], for: keys[2])
    // A third one died in the middle of a record.
    let file = URL(fileURLWithPath: "\(folder)/\(fingerprint.hex).scores")
    try (Data(contentsOf: file) + Data(repeating: 7, count: 50)).write(to: file, options: [])
    try other.store(scores[3], for: keys[3])
    try one.store(scores[3], for: keys[3])
    let again = try ScoreCache(folder: folder, fingerprint: fingerprint)
    #expect(again.count == 4)
    for (key, score) in zip(keys, scores) { #expect(again[key] == score) }
  }
}

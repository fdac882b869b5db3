import Core
import Foundation
import ModelFiles
import TestSupport
import Testing

@testable import Training

/// Small worlds where it is known what must be learnt.
@Suite struct LearningTests {
  static let symbols = 24

  /// A ring of all symbols: each token names the next, so that a model can know it. Token t's successor is `next[t - 10]`.
  static func chain(_ generator: inout SplitMix64) -> [Token] {
    let order = (0..<symbols).shuffled(using: &generator)
    var next = [Token](repeating: 0, count: symbols)
    for (index, symbol) in order.enumerated() { next[symbol] = Token(10 + order[(index + 1) % symbols]) }
    return next
  }

  static func walk(_ next: [Token], length: Int, generator: inout SplitMix64) -> [Token] {
    var tokens = [Token(10 + generator.next() % UInt64(symbols))]
    while tokens.count < length { tokens.append(next[Int(tokens[tokens.count - 1]) - 10]) }
    return tokens
  }

  static func engine(_ scratch: Scratch, headRows: Int) throws -> TrainingEngine {
    let path = scratch.path("model.gguf")
    if !FileManager.default.fileExists(atPath: path) { try ModelMaker.make(Worlds.recipe(.llama), to: path) }
    return try TrainingEngine(GGUFFile.read(path), mode: .full, headRows: headRows, options: Worlds.options())
  }

  /// Expert 0 is right exactly where the true token is even, expert 1 where it is odd, expert 2 never.
  static func opinions(_ sequence: TrainingSequence) -> ExpertOpinions {
    var logProbabilities: [Float] = []
    var argmaxes: [Token] = []
    for position in sequence.judged {
      let truth = sequence.tokens[position + 1]
      for expert in 0..<3 {
        let isRight = expert < 2 && Int(truth) % 2 == expert
        logProbabilities.append(isRight ? -0.1 : -4)
        argmaxes.append(isRight ? truth : Token(expert))
      }
    }
    return ExpertOpinions(experts: 3, logProbabilities: logProbabilities, argmaxes: argmaxes)
  }

  static func settings(steps: Int, rate: Float = 3e-3) -> TrainingSettings {
    var settings = TrainingSettings()
    settings.steps = steps
    settings.batch = 8
    settings.sequencesPerPass = 8
    settings.schedule = LearningRateSchedule(peak: rate, warmup: 3)
    settings.checkpointEvery = 0
    return settings
  }

  @Test func routing() throws {
    let seed: UInt64 = 101
    var generator = SplitMix64(seed: seed)
    let scratch = try Scratch()
    let engine = try Self.engine(scratch, headRows: 3)
    let next = Self.chain(&generator)
    let samples = (0..<96).map { _ in
      let sequence = TrainingSequence(tokens: Self.walk(next, length: 17, generator: &generator), response: 1)
      return Sample(sequence: sequence, opinions: Self.opinions(sequence))
    }
    try engine.centreHead(on: samples.map(\.sequence), sequencesPerPass: 8)
    var settings = Self.settings(steps: 40)
    settings.headRate = 1e-2
    let loop = try TrainingLoop(
      engine: engine, objective: TrainingObjective(routing: RoutingLoss()), samples: samples,
      heldOut: (Array(samples.prefix(16)), []), settings: settings, folder: scratch.path("run"),
      identity: "test")
    let before = try #require(try loop.evaluation())
    // A head of zeros is undecided.
    #expect(abs(try #require(before.meanEntropy) - log(3)) <= 1e-5)
    try loop.run()
    let after = try #require(try loop.evaluation())
    #expect(after.disagreements > 0)
    #expect(try #require(after.routingAccuracy) >= 0.98, "seed \(seed)")
    #expect(try #require(after.meanRoutingLoss) - #require(after.meanRoutingFloor) <= 0.15, "seed \(seed)")
    #expect(try #require(after.meanLanguageLoss) < 0.5 * #require(before.meanLanguageLoss), "seed \(seed)")
  }

  /// Centring and scaling change the way, not the map: the exported head computes what the trainer's does.
  @Test func centredHeads() throws {
    let scratch = try Scratch()
    let engine = try Self.engine(scratch, headRows: 3)
    var generator = SplitMix64(seed: 109)
    let batch = Worlds.batch(lengths: [20, 30], vocabulary: engine.shape.vocabularySize, seed: 4)
    let start = LinearHead(
      weight: (0..<3 * engine.shape.width).map { _ in 0.1 * generator.normal() }, bias: [0.3, -0.2, 0])
    try engine.setHead(start)
    let plain = try engine.forward(batch).head
    try engine.centreHead(on: batch.sequences, sequencesPerPass: 1)
    try engine.setHead(start)
    let centred = try engine.forward(batch).head
    #expect(largestDifference(plain, centred) <= 1e-4 && plain != centred)
    let hidden = engine.hiddenStates()
    let exported = engine.head
    #expect(exported.weight == start.weight)
    let width = engine.shape.width
    for row in 0..<batch.rowCount {
      for expert in 0..<3 {
        let sum = (0..<width).reduce(Double(exported.bias[expert])) {
          $0 + Double(exported.weight[expert * width + $1]) * Double(hidden[row * width + $1])
        }
        #expect(abs(sum - Double(centred[row * 3 + expert])) <= 1e-4)
      }
    }
  }

  /// A selected expert that is right but at known tokens, where it is sure of a wrong one.
  struct FlawedExpert {
    let next: [Token]
    let vocabulary: Int
    static let flawed: Set<Token> = [13, 17, 22, 29]

    func wrong(_ token: Token) -> Token { 40 + token }

    func row(after token: Token) -> [Float] {
      var row = [Float](repeating: 0, count: vocabulary)
      let right = Int(next[Int(token) - 10])
      // Far above what an untrained router adds.
      row[Self.flawed.contains(token) ? Int(wrong(token)) : right] = 24
      if Self.flawed.contains(token) { row[right] = 14 }
      return row
    }

    func logProbability(_ target: Token, after token: Token) -> Float {
      let row = self.row(after: token)
      let sum = log(row.reduce(0.0) { $0 + exp(Double($1)) })
      return Float(Double(row[Int(target)]) - sum)
    }
  }

  @Test func complementing() throws {
    let seed: UInt64 = 103
    var generator = SplitMix64(seed: seed)
    let scratch = try Scratch()
    let engine = try Self.engine(scratch, headRows: 2)
    let next = Self.chain(&generator)
    let expert = FlawedExpert(next: next, vocabulary: engine.shape.vocabularySize)
    let pairs = (0..<96).map { _ -> PreferencePair in
      let tokens = Self.walk(next, length: 14, generator: &generator)
      // The rejected answer is what the expert alone would say.
      var wrong = tokens
      for position in 1..<tokens.count where FlawedExpert.flawed.contains(tokens[position - 1]) {
        wrong[position] = expert.wrong(tokens[position - 1])
      }
      var pair = PreferencePair(
        chosen: TrainingSequence(tokens: tokens, response: 1), rejected: TrainingSequence(tokens: wrong, response: 1))
      func opinions(_ sequence: TrainingSequence) -> [Float] {
        sequence.judged.flatMap { position -> [Float] in
          let before = sequence.tokens[position]
          let known = (10..<Token(10 + Self.symbols)).contains(before)
          let value = known ? expert.logProbability(sequence.tokens[position + 1], after: before) : -2
          return [value, value]
        }
      }
      pair.chosenOpinions = opinions(pair.chosen)
      pair.rejectedOpinions = opinions(pair.rejected)
      return pair
    }
    var objective = TrainingObjective(routing: RoutingLoss())
    objective.usesBias = true
    let (kept, report) = try PairPreparation(maximumBias: nil).prepare(
      pairs, engine: engine, objective: objective, pairsPerPass: 8
    ) { _ in }
    #expect(report.kept + report.empty == pairs.count && report.kept > 60)
    let head = engine.head
    let loop = try TrainingLoop(
      engine: engine, objective: objective, samples: [], pairs: kept, settings: Self.settings(steps: 60, rate: 1e-3),
      folder: scratch.path("run"), identity: "test")
    let before = try Self.fusedRight(engine, expert)
    try loop.run()
    let after = try Self.fusedRight(engine, expert)
    // Every token but the flawed ones was right before.
    #expect(before == Set(next.indices.map { Token(10 + $0) }).subtracting(FlawedExpert.flawed), "seed \(seed)")
    #expect(after.isSuperset(of: before), "seed \(seed)")
    #expect(after.isSuperset(of: FlawedExpert.flawed), "seed \(seed)")
    #expect(engine.head == head, "pairs must not teach routing")
    // The first step starts at the reference.
    let first = try #require(RunLog.entries(loop.logPath).first { $0["held_out"] == nil })
    guard case .number(let margin)? = first["largest_margin"] else {
      Issue.record("no margin in the log")
      return
    }
    #expect(margin <= 1e-5)
  }

  /// A reward for answers that hold one symbol learns to tell, also on answers it has not seen.
  @Test func rewards() throws {
    let seed: UInt64 = 113
    var generator = SplitMix64(seed: seed)
    let scratch = try Scratch()
    let path = scratch.path("model.gguf")
    try ModelMaker.make(Worlds.recipe(.llama), to: path)
    let engine = try TrainingEngine(
      GGUFFile.read(path), mode: .lora(LoRAOptions(rank: 4)), headRows: 1, wantsLogits: false,
      options: Worlds.options())
    func pair() -> PreferencePair? {
      func answer(_ length: Int, good: Bool) -> TrainingSequence {
        var tokens = (0..<length).map { _ in Token(20 + generator.next() % 50) }
        if good { tokens[2 + Int(generator.next() % UInt64(length - 3))] = 90 }
        return TrainingSequence(tokens: tokens, response: 1)
      }
      return .reward(chosen: answer(12, good: true), rejected: answer(11, good: false))
    }
    let pairs = (0..<240).compactMap { _ in pair() }
    var others = (0..<32).compactMap { _ in pair() }
    for index in others.indices where index % 4 > 0 { others[index].task = index % 4 > 1 ? "late" : "early" }
    var objective = TrainingObjective()
    objective.isReward = true
    try engine.centreHead(on: pairs.flatMap { [$0.chosen, $0.rejected] }, sequencesPerPass: 8)
    let loop = try TrainingLoop(
      engine: engine, objective: objective, samples: [], pairs: pairs, heldOut: ([], others),
      settings: Self.settings(steps: 120, rate: 5e-3), folder: scratch.path("run"), identity: "test")
    // Zero at first, so that every pair's loss is log 2.
    #expect(abs(try #require(try loop.evaluation()?.meanPreferenceLoss) - log(2)) <= 1e-6)
    try loop.run()
    let judged = try #require(try loop.evaluation())
    #expect(try #require(judged.preferenceAccuracy) >= 0.9, "seed \(seed)")
    #expect(judged.byTask.mapValues(\.pairs) == ["early": 8, "late": 16])
    // 90 % of 32 are 29: three of them are wrong at most, wherever they are.
    #expect(judged.byTask.values.reduce(0) { $0 + $1.preferred } >= 21)
    #expect(loop.headSteps == 120)
    // Equal answers teach nothing.
    let same = TrainingSequence(tokens: [1, 2, 3], response: 1)
    #expect(PreferencePair.reward(chosen: same, rejected: same) == nil)
  }

  /// Tokens after which argmax(r + e) is the true one.
  static func fusedRight(_ engine: TrainingEngine, _ expert: FlawedExpert) throws -> Set<Token> {
    let width = engine.shape.vocabularySize
    var right: Set<Token> = []
    for symbol in 0..<Token(symbols) {
      var tokens = [10 + symbol]
      // As deep in a text as the tokens that were learnt.
      while tokens.count < 6 { tokens.insert(Token(10 + expert.next.firstIndex(of: tokens[0])!), at: 0) }
      let target = expert.next[Int(symbol)]
      _ = try engine.forward(PassBatch([TrainingSequence(tokens: tokens + [target], judged: [tokens.count - 1])]))
      let logits = engine.lastLogits()
      let fused = zip(logits.prefix(width), expert.row(after: 10 + symbol)).map { $0 + $1 }
      if indexOfLargest(fused) == Int(target) { right.insert(10 + symbol) }
    }
    return right
  }

  /// A loss that is no number ends the run with the examples' names, and the last good checkpoint stays.
  @Test func divergence() throws {
    let scratch = try Scratch()
    let engine = try Self.engine(scratch, headRows: 0)
    let samples = Worlds.batch(lengths: [12, 9, 14, 10], vocabulary: engine.shape.vocabularySize, seed: 5).sequences
      .enumerated().map { Sample(sequence: $1, source: "data.jsonl:\($0 + 1)") }
    var settings = Self.settings(steps: 20, rate: 1e30)
    settings.schedule.warmup = 0
    settings.batch = 2
    settings.checkpointEvery = 1
    let loop = try TrainingLoop(
      engine: engine, objective: TrainingObjective(), samples: samples, settings: settings,
      folder: scratch.path("run"), identity: "test")
    let error = try #require(throws: FusionRouteError.self) { try loop.run() }
    #expect(error.code == .badInput && error.message.contains("data.jsonl:"), "\(error.message)")
    let kept = Checkpoint.all(in: loop.checkpointFolder)
    #expect(!kept.isEmpty && error.message.contains(kept[0].path), "\(error.message)")
    let file = try GGUFFile.read(kept[0].path)
    for tensor in file.tensors { #expect(try file.floats(of: tensor).allSatisfy(\.isFinite), "\(tensor.name)") }
  }

  /// Stopped and resumed at any step, a run ends with the same bits.
  @Test func resuming() throws {
    let seed: UInt64 = 107
    var generator = SplitMix64(seed: seed)
    let scratch = try Scratch()
    let next = Self.chain(&generator)
    let samples = (0..<20).map { index in
      let sequence = TrainingSequence(
        tokens: Self.walk(next, length: 8 + index % 5, generator: &generator), response: 2)
      return Sample(sequence: sequence, opinions: index % 4 == 0 ? nil : Self.opinions(sequence))
    }
    var settings = Self.settings(steps: 9)
    settings.batch = 3
    settings.sequencesPerPass = 2
    settings.checkpointEvery = 2
    settings.headWarmup = 20
    /// - Parameter isKilled: whether what a stop alone saves is lost, as if the process had been killed instead.
    func run(_ folder: String, stops: [Int], isKilled: Bool = false) throws -> [[Float]] {
      let every = settings.checkpointEvery
      let saved = [0] + stops.map { isKilled ? $0 / every * every : $0 }
      var left = stops
      // The first step of each attempt; nil where there was none.
      var firsts: [Int?] = []
      while true {
        let engine = try Self.engine(scratch, headRows: 3)
        let loop = try TrainingLoop(
          engine: engine, objective: TrainingObjective(routing: RoutingLoss()), samples: samples, settings: settings,
          folder: scratch.path(folder), identity: "test")
        var done = 0
        var first: Int?
        do {
          try loop.run(
            shouldStop: { left.first == done },
            progress: {
              done = $0.step
              first = first ?? done
            })
          try #require(left.isEmpty, "the run was not stopped where it should")
          // Each goes on where the former one was saved.
          let expected = zip(saved, stops + [9]).map { start, end in start < end ? start + 1 : nil }
          #expect(firsts + [first] == expected, "\(folder)")
          return engine.trainables.parameters.map { engine.values(of: $0) }
        } catch let error as FusionRouteError where error.code == .interrupted && !left.isEmpty {
          firsts.append(first)
          left.removeFirst()
          guard isKilled, done % every > 0 else { continue }
          try FileManager.default.removeItem(atPath: "\(loop.checkpointFolder)/\(Checkpoint.name(step: done))")
        }
      }
    }
    let whole = try run("whole", stops: [])
    #expect(try run("parts", stops: [0, 3, 4, 7]) == whole)
    #expect(try run("killed", stops: [3, 4, 7], isKilled: true) == whole)
    // The log has every step once.
    for folder in ["parts", "killed"] {
      let lines = RunLog.entries("\(scratch.path(folder))/log.jsonl").filter { $0["held_out"] == nil }
      #expect(lines.filter { $0["head_warmup"] == nil }.map { $0["step"] } == (1...9).map { .integer($0) })
      #expect(lines.count { $0["head_warmup"] != nil } == 1)
    }
    // Another run's checkpoints are refused.
    settings.seed = 2
    #expect(throws: FusionRouteError.self) { try run("parts", stops: []) }
  }
}

import Core
import Foundation
import ModelFiles
import TestSupport
import Testing

@testable import Training

/// The routing head alone, on states that were computed once.
@Suite struct HeadWarmupTests {
  static let (width, experts) = (12, 3)

  /// States of which a hidden linear map says which expert is best. With `isNoise`, any expert is.
  static func positions(_ count: Int, truth: [Float], isNoise: Bool = false, _ generator: inout SplitMix64)
    -> HeadWarmup.Positions
  {
    var positions = HeadWarmup.Positions()
    for _ in 0..<count {
      let state = (0..<width).map { _ in generator.normal() }
      let scores = (0..<experts).map { expert in
        (0..<width).reduce(Float(0)) { $0 + truth[expert * width + $1] * state[$1] }
      }
      let best = isNoise ? Int(generator.next() % UInt64(experts)) : indexOfLargest(scores)
      positions.add(
        HeadWarmup.Positions(states: state, opinions: (0..<experts).map { $0 == best ? -0.1 : -4 }, count: 1))
    }
    return positions
  }

  static func loss(_ head: LinearHead, _ positions: HeadWarmup.Positions) -> (mean: Double, accuracy: Double) {
    var (sum, right) = (0.0, 0)
    for position in 0..<positions.count {
      let weights = (0..<experts).map { expert in
        (0..<width).reduce(head.bias[expert]) {
          $0 + head.weight[expert * width + $1] * positions.states[position * width + $1]
        }
      }
      let opinions = positions.opinions[position * experts..<(position + 1) * experts]
      sum += RoutingLoss().evaluate(weights: weights, logProbabilities: opinions).loss
      if indexOfLargest(weights) == indexOfLargest(opinions) { right += 1 }
    }
    return (sum / Double(positions.count), Double(right) / Double(positions.count))
  }

  static let zeros = LinearHead(
    weight: [Float](repeating: 0, count: width * experts), bias: [Float](repeating: 0, count: experts))

  @Test(arguments: [1, 2, 3] as [UInt64])
  func findsALinearMap(_ seed: UInt64) throws {
    var generator = SplitMix64(seed: seed)
    let truth = (0..<Self.width * Self.experts).map { _ in generator.normal() }
    let learnt = Self.positions(400, truth: truth, &generator)
    let heldBack = Self.positions(100, truth: truth, &generator)
    let fresh = Self.positions(500, truth: truth, &generator)
    var head = Self.zeros
    let warmup = HeadWarmup(width: Self.width, experts: Self.experts, loss: RoutingLoss())
    let outcome = try #require(try warmup.train(&head, learnt: learnt, heldBack: heldBack, steps: 120))
    let (mean, accuracy) = Self.loss(head, heldBack)
    // What it says about itself is so.
    #expect(abs(outcome.after - mean) <= 1e-4 && abs(outcome.accuracy - accuracy) <= 0.02, "seed \(seed)")
    #expect(abs(outcome.before - Self.loss(Self.zeros, heldBack).mean) <= 1e-4, "seed \(seed)")
    #expect(Self.loss(head, fresh).accuracy >= 0.85, "seed \(seed)")
    #expect(Self.loss(head, fresh).mean <= 0.5 * outcome.before, "seed \(seed)")
    // The same again, to the bit.
    var again = Self.zeros
    #expect(try warmup.train(&again, learnt: learnt, heldBack: heldBack, steps: 120) == outcome && again == head)
  }

  /// Where there is nothing to learn and few states to learn it from, the head does not get worse by learning them.
  @Test(arguments: [4, 5, 6] as [UInt64])
  func doesNotLearnNoise(_ seed: UInt64) throws {
    var generator = SplitMix64(seed: seed)
    let truth = [Float](repeating: 0, count: Self.width * Self.experts)
    let learnt = Self.positions(30, truth: truth, isNoise: true, &generator)
    let heldBack = Self.positions(300, truth: truth, isNoise: true, &generator)
    var head = Self.zeros
    let warmup = HeadWarmup(width: Self.width, experts: Self.experts, loss: RoutingLoss())
    let outcome = try #require(try warmup.train(&head, learnt: learnt, heldBack: heldBack, steps: 1_000))
    #expect(outcome.after <= outcome.before && outcome.steps < 1_000, "seed \(seed)")
    #expect(Self.loss(head, heldBack).mean <= Self.loss(Self.zeros, heldBack).mean + 1e-6, "seed \(seed)")
    // Nothing to judge by: nothing is changed.
    var same = head
    #expect(try warmup.train(&same, learnt: HeadWarmup.Positions(), heldBack: heldBack, steps: 5) == nil)
    #expect(same == head)
  }

  /// In a run: the head routes rightly before the model's first step, and nothing else has moved.
  @Test func beforeARun() throws {
    let seed: UInt64 = 131
    var generator = SplitMix64(seed: seed)
    let scratch = try Scratch()
    let next = LearningTests.chain(&generator)
    let samples = (0..<60).map { _ in
      let sequence = TrainingSequence(
        tokens: LearningTests.walk(next, length: 17, generator: &generator), response: 1)
      return Sample(sequence: sequence, opinions: LearningTests.opinions(sequence))
    }
    func run(warmup: Int) throws -> (loop: TrainingLoop, engine: TrainingEngine) {
      let engine = try LearningTests.engine(scratch, headRows: 3)
      try engine.centreHead(on: samples.map(\.sequence), sequencesPerPass: 8)
      // So slow that only the warm-up is seen.
      var settings = LearningTests.settings(steps: 1, rate: 1e-9)
      settings.headRate = 1e-9
      settings.headWarmup = warmup
      let loop = try TrainingLoop(
        engine: engine, objective: TrainingObjective(routing: RoutingLoss()), samples: samples,
        heldOut: (Array(samples.prefix(16)), []), settings: settings, folder: scratch.path("run\(warmup)"),
        identity: "test")
      try loop.run()
      return (loop, engine)
    }
    let (warm, cold) = (try run(warmup: 300), try run(warmup: 0))
    let metrics = try #require(try warm.loop.evaluation())
    #expect(try #require(metrics.routingAccuracy) >= 0.9, "seed \(seed)")
    #expect(try #require(metrics.meanRoutingLoss) < 0.5 * #require(cold.loop.evaluation()?.meanRoutingLoss))
    let entries = RunLog.entries(warm.loop.logPath)
    #expect(entries.count { $0["head_warmup"] != nil } == 1)
    #expect(RunLog.entries(cold.loop.logPath).allSatisfy { $0["head_warmup"] == nil })
    for (a, b) in zip(warm.engine.trainables.parameters, cold.engine.trainables.parameters) where a.kind != .head {
      #expect(largestDifference(warm.engine.values(of: a), cold.engine.values(of: b)) <= 1e-7, "\(a.name)")
    }
  }
}

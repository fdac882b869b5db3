import Core
import Foundation
import ModelFiles
import TestSupport
import Testing

@testable import Training

/// Losses of a step against numpy, which computes the model and the formulas on its own.
@Suite struct LossTests {
  static let script = """
    import json
    import numpy as np
    from transformer import Transformer
    case = json.load(sys.stdin)
    model = Transformer(case["model"], np.float64, True)
    head = np.array(case["head"]).reshape(case["experts"], -1)
    beta, clamp = case["beta"], case["clamp"]

    def rows(sequence):
        hidden = model.hidden_states(sequence["tokens"][:-1])
        logits = model.logits(hidden)
        logits = logits - logits.max(axis=1, keepdims=True)
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        judged = sequence["judged"]
        targets = [sequence["tokens"][p + 1] for p in judged]
        return log_p[judged, targets], hidden[judged] @ head.T

    def opinions(sequence):
        values = np.array(sequence["opinions"]).reshape(len(sequence["judged"]), -1)
        return values if clamp is None else np.maximum(values, clamp)

    language, route, floors = [], {"softmax": [], "raw": [], "mixture": []}, []
    for sample in case["samples"]:
        log_p, w = rows(sample)
        language += list(-log_p)
        predicted = np.array(sample["argmaxes"]).reshape(len(sample["judged"]), -1)
        in_s = [len(set(row)) > 1 for row in predicted]
        share = np.exp(w - w.max(axis=1, keepdims=True))
        share = share / share.sum(axis=1, keepdims=True)
        o = opinions(sample)
        route["softmax"] += list(-(share * o).sum(axis=1)[in_s])
        route["raw"] += list(-(w * o).sum(axis=1)[in_s])
        route["mixture"] += list(-np.log((share * np.exp(o)).sum(axis=1))[in_s])
        floors += list(-o.max(axis=1)[in_s])
    dpo, cdpo = [], []
    for pair in case["pairs"]:
        margin, bias = 0, 0
        for sign, name in ((1, "chosen"), (-1, "rejected")):
            log_p, w = rows(pair[name])
            margin += sign * beta * (log_p.sum() - pair[name]["reference"])
            bias += sign * beta * opinions(pair[name])[np.arange(len(log_p)), w.argmax(axis=1)].sum()
        dpo.append(np.logaddexp(0, -margin))
        cdpo.append(np.logaddexp(0, -margin - bias))
    mean = lambda values: float(np.mean(values))
    print(json.dumps({"language": mean(language), "floor": mean(floors), "count": len(floors), "dpo": mean(dpo),
                      "cdpo": mean(cdpo), **{name: mean(values) for name, values in route.items()}}))
    """

  static let experts = 3

  static func opinions(_ positions: Int, generator: inout SplitMix64) -> ExpertOpinions {
    var argmaxes: [Token] = []
    for _ in 0..<positions {
      // Every other position or so all agree.
      let agree = generator.next() % 2 == 0
      argmaxes += (0..<experts).map { _ in agree ? 7 : Token(generator.next() % 9) }
    }
    return ExpertOpinions(
      experts: experts, logProbabilities: (0..<positions * experts).map { _ in -0.1 - 4 * abs(generator.normal()) },
      argmaxes: argmaxes)
  }

  private struct Expected: Decodable {
    var language, floor, dpo, cdpo, softmax, raw, mixture: Double
    var count: Int
  }

  @Test(arguments: [ModelRecipe.Architecture.llama, .gemma2], [nil, Float(-3)])
  func againstNumpy(_ architecture: ModelRecipe.Architecture, clamp: Float?) throws {
    let seed: UInt64 = 83
    var generator = SplitMix64(seed: seed)
    let scratch = try Scratch()
    let path = scratch.path("model.gguf")
    try ModelMaker.make(Worlds.recipe(architecture), to: path)
    let engine = try TrainingEngine(
      GGUFFile.read(path), mode: .frozen, headRows: Self.experts, options: Worlds.options())
    let head = (0..<engine.shape.width * Self.experts).map { _ in 0.05 * generator.normal() }
    try engine.setHead(LinearHead(weight: head, bias: [Float](repeating: 0, count: Self.experts)))
    let vocabulary = engine.shape.vocabularySize
    let samples = Worlds.batch(lengths: [30, 12, 21], vocabulary: vocabulary, seed: seed).sequences.map {
      Sample(sequence: $0, opinions: Self.opinions($0.judged.count, generator: &generator))
    }
    let pairs = (0..<3).map { index in
      let both = Worlds.batch(lengths: [14 + index, 15], vocabulary: vocabulary, seed: seed + UInt64(index)).sequences
      var pair = PreferencePair(chosen: both[0], rejected: both[1])
      pair.chosenOpinions = Self.opinions(pair.chosen.judged.count, generator: &generator).logProbabilities
      pair.rejectedOpinions = Self.opinions(pair.rejected.judged.count, generator: &generator).logProbabilities
      pair.chosenReference = -40 - Double(index)
      pair.rejectedReference = -38
      return pair
    }
    let expected = try Self.expected(path, head: head, samples: samples, pairs: pairs, clamp: clamp)
    for aggregation in RoutingAggregation.allCases {
      for usesBias in [false, true] {
        var objective = TrainingObjective(routing: RoutingLoss(aggregation: aggregation, clamp: clamp))
        objective.usesBias = usesBias
        let metrics = try StepEvaluator(
          engine: engine, objective: objective, samples: samples, pairs: pairs, sequencesPerPass: 3
        ).evaluate(samples.indices.map { .sample($0) } + pairs.indices.map { .pair($0) }, learns: false)
        let route = [
          RoutingAggregation.softmax: expected.softmax, .raw: expected.raw, .mixture: expected.mixture,
        ][aggregation]
        func close(_ a: Double?, _ b: Double?) -> Bool { abs((a ?? .nan) - (b ?? .nan)) <= 1e-4 }
        #expect(close(metrics.meanLanguageLoss, expected.language))
        #expect(close(metrics.meanRoutingLoss, route), "\(aggregation)")
        #expect(close(metrics.meanRoutingFloor, expected.floor))
        #expect(metrics.disagreements == expected.count)
        #expect(close(metrics.meanPreferenceLoss, usesBias ? expected.cdpo : expected.dpo))
      }
    }
  }

  private static func expected(
    _ model: String, head: [Float], samples: [Sample], pairs: [PreferencePair], clamp: Float?
  ) throws -> Expected {
    func sequence(_ sequence: TrainingSequence, _ opinions: [Float]) -> [String: Any] {
      ["tokens": sequence.tokens, "judged": sequence.judged, "opinions": opinions]
    }
    let object: [String: Any] = [
      "model": model, "head": head, "experts": experts, "beta": 0.1, "clamp": clamp.map { $0 as Any } ?? NSNull(),
      "samples": samples.map { sample in
        sequence(sample.sequence, sample.opinions?.logProbabilities ?? []).merging([
          "argmaxes": sample.opinions?.argmaxes ?? []
        ]) { $1 }
      },
      "pairs": pairs.map { pair in
        [
          "chosen": sequence(pair.chosen, pair.chosenOpinions).merging(["reference": pair.chosenReference]) { $1 },
          "rejected": sequence(pair.rejected, pair.rejectedOpinions).merging(["reference": pair.rejectedReference]) {
            $1
          },
        ]
      },
    ]
    let input = String(decoding: try JSONSerialization.data(withJSONObject: object), as: UTF8.self)
    return try JSONDecoder().decode(Expected.self, from: try Tools.python(script, [], input: input))
  }

  /// The routing loss's own gradient by finite differences, for every aggregation.
  @Test(arguments: RoutingAggregation.allCases, [nil, Float(-2)])
  func routingSlopes(_ aggregation: RoutingAggregation, clamp: Float?) {
    let seed: UInt64 = 91
    var generator = SplitMix64(seed: seed)
    let loss = RoutingLoss(aggregation: aggregation, clamp: clamp)
    for _ in 0..<50 {
      let weights = (0..<4).map { _ in 2 * generator.normal() }
      let opinions = (0..<4).map { _ in -3 * abs(generator.normal()) }
      let slopes = loss.evaluate(weights: weights, logProbabilities: opinions).gradient
      for index in weights.indices {
        func shifted(_ by: Float) -> Double {
          var moved = weights
          moved[index] += by
          return loss.evaluate(weights: moved, logProbabilities: opinions).loss
        }
        let step: Float = 1.0 / 64
        let slope = (shifted(step) - shifted(-step)) / Double(2 * step)
        #expect(abs(slope - slopes[index]) <= 2e-3 * max(0.1, abs(slope)), "seed \(seed)")
      }
    }
  }

  /// ∂loss/∂ log π by finite differences; the bias shifts the loss and has no slope of its own.
  @Test func preferenceSlopes() {
    let loss = PreferenceLoss(beta: 0.1)
    for bias in [-60.0, -3, 0, 2.5, 70] {
      func at(_ policy: Double) -> Double {
        loss.evaluate(
          chosen: .init(policy: policy, reference: -20), rejected: .init(policy: -25, reference: -22), bias: bias
        ).loss
      }
      let result = loss.evaluate(
        chosen: .init(policy: -18, reference: -20), rejected: .init(policy: -25, reference: -22), bias: bias)
      #expect(result.loss.isFinite)
      #expect(abs((at(-18 + 1e-4) - at(-18 - 1e-4)) / 2e-4 - result.slope) <= 1e-6)
      #expect(abs(result.margin - 0.5) <= 1e-12)
      #expect(abs(result.weight - 1 / (1 + exp(0.5 + bias))) <= 1e-12)
    }
  }
}

import Coordinator
import Core
import Foundation
import Fusion
import Inference
import ModelFiles
import Testing

/// Experts that were not asked for a while read what they missed, once and all of it.
@Suite(.serialized) struct CatchUpTests {
  /// A head that makes `experts` take turns at every generated token.
  ///
  /// What is generated depends on who decides, not on the head's numbers: so the answer with enforced turns gives the
  /// hidden states, and rows that select those turns on them reproduce it.
  static func alternatingHead(
    _ models: TestModels, prompt: [Token], count: Int
  ) throws -> (head: RoutingHead, forced: ForcedAnswer) {
    let forced = try ForcedAnswer.make(models, prompt: prompt, count: count) { index, _ in index % models.experts.count
    }
    let fit = try LeastSquares(rows: forced.hidden, ridge: 1e-9)
    var weight: [Float] = []
    for expert in models.experts.indices {
      let targets = forced.hidden.indices.map { $0 % models.experts.count == expert ? 1.0 : 0.0 }
      weight += fit.weights(targets).map { Float($0) }
    }
    return (
      try RoutingHead(
        experts: models.experts.map(\.name), weight: weight, embeddingWidth: forced.hidden[0].count), forced
    )
  }

  @Test("experts that alternate at every token: the answer is the oracle's, and no token is read twice")
  func alternating() async throws {
    let scratch = try Scratch("alternate")
    var recipe = ModelRecipe(seed: 31)
    recipe.width = 160
    var models = try TestModels.make(in: scratch, recipe: recipe)
    let prompt = TestPrompts.random(33, seed: 5)
    let count = 96
    let (head, forced) = try Self.alternatingHead(models, prompt: prompt, count: count)
    models.head = scratch.path("alternating.gguf")
    try head.write(models.head)
    try await withCluster(models, scratch: scratch) { cluster in
      for fanout in FanoutPolicy.allCases {
        // Another first request's caches must not help: each policy has a prompt of its own sequence, the same tokens.
        let (tokens, summary) = try await cluster.answer(
          GenerationRequest(prompt: prompt, maximumTokens: count, fanout: fanout, warm: .selected))
        #expect(tokens.count == count)
        #expect(
          tokens.map(\.expert) == tokens.indices.map { models.experts[$0 % models.experts.count].name }, "\(fanout)")
        #expect(tokens.map(\.id) == forced.tokens, "\(fanout)")
        try Self.expectOracle(tokens, prompt: prompt, models: models, scale: 1)
        let prefix = prompt.count + count - 1
        for (name, evaluated) in summary.evaluatedTokens { #expect(evaluated <= prefix, "\(name), \(fanout)") }
        #expect(Set(tokens.map(\.id)).count > 20, "the text is degenerate")
      }
    }
  }

  @Test("an expert unused for 500 tokens reads them in one go when it is selected, and the answer is the oracle's")
  func longUnused() async throws {
    let scratch = try Scratch("unused")
    var models = try TestModels.make(in: scratch, recipe: ModelRecipe(seed: 32))
    let prompt = TestPrompts.random(20, seed: 6)
    let calibrated = try RoutingHead.read(models.head)
    // Without the third expert first, to learn the hidden states on the way.
    let forced = try ForcedAnswer.make(models, prompt: prompt, count: 560) { _, hidden in
      let weights = calibrated.weights(hidden: hidden)
      return weights[0] >= weights[1] ? 0 : 1
    }
    let (head, first) = try Self.lateHead(calibrated, forced: forced, from: 505)
    models.head = scratch.path("late.gguf")
    try head.write(models.head)
    let late = models.experts[2].name
    try await withCluster(models, scratch: scratch, context: 640) { cluster in
      let (tokens, summary) = try await cluster.answer(
        GenerationRequest(prompt: prompt, maximumTokens: first + 20, warm: .selected))
      #expect(tokens.firstIndex { $0.expert == late } == first)
      #expect(first >= 500)
      #expect(Set(tokens[..<first].map(\.expert)) == Set(models.experts[..<2].map(\.name)))
      // All it had missed, the prompt included, in the one step that asked for it.
      #expect(tokens[first].evaluatedByExpert == prompt.count + first)
      try Self.expectOracle(tokens, prompt: prompt, models: models, scale: 1)
      let prefix = prompt.count + tokens.count - 1
      for (name, evaluated) in summary.evaluatedTokens { #expect(evaluated <= prefix, "\(name)") }
      print("catch-up: \"\(late)\" first selected at token \(first), read \(tokens[first].evaluatedByExpert) at once")
    }
  }

  /// The head with a third row that wins for the first time at or after generated token `start`, and at which.
  ///
  /// The row is the one whose values on all hidden states are nearest to zero except at the chosen token.
  static func lateHead(
    _ calibrated: RoutingHead, forced: ForcedAnswer, from start: Int
  ) throws -> (head: RoutingHead, first: Int) {
    let fit = try LeastSquares(rows: forced.hidden, ridge: 1e-2)
    let width = calibrated.embeddingWidth
    func value(_ row: [Double], _ hidden: [Float]) -> Double { zip(row, hidden).reduce(0) { $0 + $1.0 * Double($1.1) } }
    var best: (margin: Double, first: Int, row: [Double], threshold: Double)?
    for candidate in start..<forced.hidden.count {
      let row = fit.weights(forced.hidden.indices.map { $0 == candidate ? 1 : 0 })
      let before = forced.hidden[..<candidate].map { value(row, $0) }.max() ?? 0
      let own = value(row, forced.hidden[candidate])
      if own - before > best?.margin ?? 0 { best = (own - before, candidate, row, (own + before) / 2) }
    }
    let chosen = try #require(best, "no token stands out; use another seed")
    // Steep enough to outweigh the other two wherever it is above or below its threshold.
    let others = forced.hidden.flatMap { calibrated.weights(hidden: $0)[..<2].map { Double(abs($0)) } }.max() ?? 1
    let slope = 4 * others / chosen.margin
    var weight = calibrated.weight
    for column in 0..<width { weight[2 * width + column] = Float(slope * chosen.row[column]) }
    var bias = calibrated.bias ?? [0, 0, 0]
    bias[2] = Float(-slope * chosen.threshold)
    let head = try RoutingHead(experts: calibrated.experts, weight: weight, bias: bias, embeddingWidth: width)
    return (head, chosen.first)
  }

  /// Every token, its expert's choice and score against plain llama.cpp's rows along the answer.
  static func expectOracle(
    _ tokens: [GeneratedToken], prompt: [Token], models: TestModels, scale: Float
  ) throws {
    let all = prompt + tokens.dropLast().map(\.id)
    let head = try RoutingHead.read(models.head)
    let router = try PlainOracle.rowsAndHidden(model: models.router, tokens: all)
    let experts = try models.expertRows(all)
    for (index, token) in tokens.enumerated() {
      let position = prompt.count - 1 + index
      let e = try #require(token.expert.flatMap { experts[$0] })[position]
      let best = ExactnessOnSmolLM2Tests.best(router: router.rows[position], scale: scale, expert: e)
      #expect(token.id == best.token && token.logit == best.score, "token \(index)")
      let selected = ExactnessOnSmolLM2Tests.routing(router.hidden[position], head: head)
      #expect(token.expert == selected.expert || !selected.isCertain, "token \(index)")
    }
  }
}

/// An answer in which a rule of the test picks the experts, made with the decoder alone.
struct ForcedAnswer {
  var tokens: [Token]
  /// [generated token][width]: the state that selected its expert.
  var hidden: [[Float]]

  static func make(
    _ models: TestModels, prompt: [Token], count: Int, select: (Int, [Float]) -> Int
  ) throws -> ForcedAnswer {
    let length = prompt.count + count
    let router = try SingleSequence(models.router, context: length, hidden: true)
    let experts = try models.experts.map { try SingleSequence($0.path, context: length, hidden: false) }
    var answer = ForcedAnswer(tokens: [], hidden: [])
    for index in 0..<count {
      let prefix = prompt + answer.tokens
      let (r, hidden) = try router.last(prefix)
      let e = try experts[select(index, hidden)].last(prefix).row
      answer.hidden.append(hidden)
      answer.tokens.append(ExactnessOnSmolLM2Tests.best(router: r, scale: 1, expert: e).token)
    }
    return answer
  }
}

/// A decoder with one sequence, asked for the last row.
final class SingleSequence {
  private let decoder: BatchingDecoder
  private var requests: UInt64 = 0

  init(_ path: String, context: Int, hidden: Bool) throws {
    decoder = try BatchingDecoder(
      model: Model.load(path: path),
      configuration: DecoderConfiguration(slots: 1, contextPerSequence: context, hiddenStates: hidden))
    wantsHidden = hidden
  }

  private let wantsHidden: Bool

  deinit { decoder.shutdown() }

  func last(_ tokens: [Token]) throws -> (row: [Float], hidden: [Float]) {
    requests += 1
    let found = LockedBox<(row: [Float], hidden: [Float])>(([], []))
    let failure = LockedBox<FusionRouteError?>(nil)
    let done = DispatchSemaphore(value: 0)
    decoder.submit(
      DecodeRequest(
        id: requests, sequence: 1, tokens: tokens, wanted: [tokens.count - 1], wantsHidden: wantsHidden,
        deliver: { row in found.withValue { $0 = (Array(row.logits.buffer), row.hidden ?? []) } },
        completion: { result in
          if case .failure(let error) = result { failure.withValue { $0 = error } }
          done.signal()
        }))
    done.wait()
    if let error = failure.withValue({ $0 }) { throw error }
    return found.withValue { $0 }
  }
}

/// min ‖A w − y‖² + ridge ‖w‖² for many y: w = (AᵀA + λ)⁻¹ Aᵀ y by Cholesky; λ relative to the mean of AᵀA's diagonal.
struct LeastSquares {
  private let rows: [[Double]]
  private var lower: [[Double]]

  init(rows floats: [[Float]], ridge: Double) throws {
    let rows = floats.map { $0.map(Double.init) }
    self.rows = rows
    let width = rows[0].count
    var gram = [[Double]](repeating: [Double](repeating: 0, count: width), count: width)
    for i in 0..<width {
      for j in 0...i { gram[i][j] = rows.reduce(0) { $0 + $1[i] * $1[j] } }
    }
    let scale = (0..<width).reduce(0) { $0 + gram[$1][$1] } / Double(width)
    for i in 0..<width { gram[i][i] += ridge * scale }
    lower = gram
    for i in 0..<width {
      for j in 0...i {
        var sum = gram[i][j]
        for k in 0..<j { sum -= lower[i][k] * lower[j][k] }
        if i == j {
          guard sum > 0 else { throw FusionRouteError.internal("the hidden states are degenerate: another seed") }
          lower[i][i] = sum.squareRoot()
        } else {
          lower[i][j] = sum / lower[j][j]
        }
      }
    }
  }

  func weights(_ targets: [Double]) -> [Double] {
    let width = lower.count
    var x = (0..<width).map { column in zip(rows, targets).reduce(0) { $1.1 == 0 ? $0 : $0 + $1.0[column] * $1.1 } }
    for i in 0..<width {
      for k in 0..<i { x[i] -= lower[i][k] * x[k] }
      x[i] /= lower[i][i]
    }
    for i in (0..<width).reversed() {
      for k in (i + 1)..<width { x[i] -= lower[k][i] * x[k] }
      x[i] /= lower[i][i]
    }
    return x
  }
}

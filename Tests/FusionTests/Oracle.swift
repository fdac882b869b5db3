import Core
import Foundation

@testable import Fusion

/// One position to decide: both rows, the request and the text so far.
struct Position {
  var router: [Float]?
  var expert: [Float]?
  var scale: Float = 1
  var parameters = SamplingParameters()
  var prompt: [Token] = []
  var generated: [Token] = []
  var banned: [Token] = []
  var outputIndex = 0
  var choice = 0
  var vocabulary: Int

  var history: History {
    var history = History(prompt: prompt)
    for token in generated { history.append(token) }
    return history
  }

  func scorer() throws -> StepScorer {
    try StepScorer(
      router: router?.logitsRow, complementScale: scale, parameters: parameters, history: history,
      outputIndex: outputIndex, choice: choice, vocabulary: vocabulary, banned: banned)
  }
}

/// Decides a position as the design's text says, token by token and by sorting the whole vocabulary; it shares with the
/// product only the noise (which has tests of its own).
struct Oracle {
  let position: Position
  private(set) var clean: [Float] = []
  private(set) var final: [Float] = []
  /// Some token's mass is so near the edge of top-p that rounding may decide.
  private(set) var nearEdge = false

  init(_ position: Position) {
    self.position = position
    let parameters = position.parameters
    let key = NoiseKey(seed: parameters.seed, choice: position.choice, outputIndex: position.outputIndex)
    let noise = RowKernels.best.noise(
      count: position.vocabulary, temperature: Double(parameters.temperature), key: key)
    let text = position.prompt + position.generated
    let window = Set(text.suffix(64))
    for v in 0..<position.vocabulary {
      let r = position.router.map { $0[v] } ?? 0
      let x = r == -.infinity ? r : position.scale * r
      let e = position.expert.map { $0[v] } ?? 0
      let n = parameters.temperature > 0 ? noise[v] : 0
      let bias = position.banned.contains(Token(v)) ? -.infinity : parameters.logitBias[Token(v)] ?? 0
      let count = position.generated.filter { Int($0) == v }.count
      let penalty = count > 0 ? parameters.presencePenalty + parameters.frequencyPenalty * Float(count) : 0
      let repetition = parameters.repetitionPenalty
      if repetition != 1 && window.contains(Token(v)) {
        let raw = (x + e) + bias
        let q = (raw > 0 ? raw / repetition : raw * repetition) - penalty
        clean.append(q)
        final.append(q + n)
      } else {
        clean.append(((x + bias) - penalty) + e)
        final.append((((x + n) + bias) - penalty) + e)
      }
    }
  }

  /// The token, nil if every score is −∞.
  mutating func token() -> Token? {
    let parameters = position.parameters
    var kept = clean.indices.sorted { clean[$0] > clean[$1] || (clean[$0] == clean[$1] && $0 < $1) }
    guard let first = kept.first, clean[first] > -.infinity else { return nil }
    let best = Double(clean[first])
    if parameters.temperature > 0 {
      let temperature = Double(parameters.temperature)
      if parameters.topK > 0 { kept = Array(kept.prefix(parameters.topK)) }
      if parameters.topP < 1 {
        let masses = kept.map { Foundation.exp((Double(clean[$0]) - best) / temperature) }
        let limit = Double(parameters.topP) * masses.reduce(0, +)
        var before = 0.0
        var nucleus: [Int] = []
        for (v, mass) in zip(kept, masses) {
          if !nucleus.isEmpty {
            // Exact equality comes from equal masses, whose sums are exact.
            if before != limit && abs(before - limit) <= 1e-9 * limit { nearEdge = true }
            if before >= limit { break }
          }
          nucleus.append(v)
          before += mass
        }
        kept = nucleus
      }
      if parameters.minP > 0 {
        let reach = temperature * Foundation.log(Double(parameters.minP))
        kept = kept.filter { Double(clean[$0]) >= best + reach || $0 == first }
      }
    }
    let winner = kept.max { final[$0] < final[$1] || (final[$0] == final[$1] && $0 > $1) }
    return winner.map { Token($0) }
  }
}

/// What a ladder of partial rows decides, with the rows it asked for.
struct Ladder {
  var choice: Choice?
  var error: String?
  var rows: [PartialRow] = []
  var fullRow = false

  /// Asks as a coordinator does: `topK` logits and `candidates` names first, then what each verdict says.
  init(_ position: Position, topK: Int, candidates: Int) {
    do {
      let scorer = try position.scorer()
      guard let expert = position.expert else {
        choice = try scorer.decideWithoutExpert()
        return
      }
      let row = expert.logitsRow
      var (topK, candidates) = (topK, candidates)
      while choice == nil {
        let partial = try RowReducer.reduce(
          row, vocabulary: position.vocabulary, topK: topK, named: scorer.candidates(limit: candidates),
          logSumExp: false)
        rows.append(partial)
        switch try scorer.decide(partial) {
        case .chosen(let found): choice = found
        case .needs(let more): (topK, candidates) = (more, more)
        case .needsFullRow:
          fullRow = true
          choice = try scorer.decide(full: row)
        }
      }
    } catch { self.error = "\(error)" }
  }
}

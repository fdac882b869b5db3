import Core
import Foundation
import Testing

@testable import Fusion

@Suite("Scoring a position")
struct ScorerTests {
  static func message(_ position: Position, decide: Bool = true) -> String {
    do {
      let scorer = try position.scorer()
      if decide {
        _ = try position.expert.map { try scorer.decide(full: LogitsRow($0)) } ?? scorer.decideWithoutExpert()
      }
      return ""
    } catch { return "\(error)" }
  }

  @Test("modes: fusion adds c·r and e, the expert alone decides, the router alone decides")
  func modes() throws {
    var position = Position(vocabulary: 3)
    position.router = [4, 1, 0]
    position.expert = [0, 2, 2.5]
    #expect(Ladder(position, topK: 1, candidates: 1).choice?.token == 0)
    position.scale = 0.25
    #expect(
      Ladder(position, topK: 1, candidates: 1).choice
        == Choice(token: 2, score: 2.5, routerLogit: 0, expertLogit: 2.5))
    position.scale = 0
    #expect(Ladder(position, topK: 1, candidates: 1).choice?.token == 2)
    position.router = nil
    #expect(
      Ladder(position, topK: 1, candidates: 1).choice
        == Choice(token: 2, score: 2.5, routerLogit: nil, expertLogit: 2.5))
    position.router = [4, 1, 0]
    position.scale = 1
    position.expert = nil
    #expect(try position.scorer().decideWithoutExpert() == Choice(token: 0, score: 4, routerLogit: 4, expertLogit: nil))
  }

  @Test("the score is the plain sum, without noise, bias and penalties")
  func plainScore() {
    var position = Position(vocabulary: 3)
    position.router = [4, 1, 0]
    position.expert = [0, 2, 2.5]
    position.scale = 0.5
    position.parameters = SamplingParameters(
      temperature: 1, repetitionPenalty: 2, presencePenalty: 1, logitBias: [1: 1_000])
    position.prompt = [1]
    position.generated = [1]
    #expect(
      Ladder(position, topK: 1, candidates: 1).choice
        == Choice(token: 1, score: 2.5, routerLogit: 1, expertLogit: 2))
  }

  @Test("NaN, +infinity, short rows and rows without any token are refused by name")
  func refusals() {
    var position = Position(vocabulary: 3)
    position.router = [0, 1, 2]
    for temperature: Float in [0, 1] {
      for scale: Float in [1, 0.5] {
        position.parameters.temperature = temperature
        position.scale = scale
        for topK in [0, 2] {
          position.parameters.topK = topK
          position.expert = [0, .nan, 1]
          #expect(Self.message(position).contains("the expert's row has NaN as the logit of token 1"))
          position.expert = [0, 1, .infinity]
          #expect(Self.message(position).contains("the expert's row has +infinity as the logit of token 2"))
          position.expert = [0, 1]
          #expect(Self.message(position).contains("the expert's row has 2 logits"))
          position.expert = [-.infinity, -.infinity, -.infinity]
          #expect(Self.message(position).contains("no token can be chosen"))
          position.expert = [0, 0, 0]
          #expect(Self.message(position) == "")
        }
        let router = position.router
        position.router = [.nan, 0, 0]
        #expect(Self.message(position).contains("the router's row has NaN as the logit of token 0"))
        position.router = [0, .infinity, 0]
        #expect(Self.message(position).contains("the router's row has +infinity as the logit of token 1"))
        position.router = [0]
        #expect(Self.message(position).contains("the router's row has 1 logits"))
        position.router = router
      }
    }
    position.router = [3e38, 0, 0]
    position.scale = 2
    #expect(Self.message(position).contains("the complement scale 2.0 makes a router logit overflow"))
    position.scale = 1
    position.parameters = .init()
    position.expert = [3e38, 0, 0]
    #expect(Self.message(position).contains("overflows"))
    for scale in [-1, .nan, .infinity] as [Float] {
      position.scale = scale
      #expect(Self.message(position).contains("the complement scale is"))
    }
  }

  @Test("tokens outside the vocabulary are refused")
  func outsideVocabulary() {
    var position = Position(vocabulary: 3)
    position.router = [0, 1, 2]
    position.expert = position.router
    position.banned = [3]
    #expect(Self.message(position).contains("banned tokens has token 3"))
    position.banned = []
    position.prompt = [5]
    #expect(Self.message(position) == "")
    position.parameters.repetitionPenalty = 1.1
    #expect(Self.message(position).contains("token 5, outside the vocabulary of 3"))
    position.prompt = []
    position.parameters = SamplingParameters(logitBias: [-1: 2])
    #expect(Self.message(position).contains("logit_bias is set for token -1"))
  }

  @Test("bans and the router's -infinity hold at every scale and temperature")
  func masks() throws {
    var random = seededGenerator("masks", default: 61)
    for _ in 0..<200 {
      var position = Position(vocabulary: 60)
      position.router = (0..<60).map { _ in random.chance(0.5) ? -.infinity : Float(random.normal()) }
      position.router?[7] = 0
      position.expert = (0..<60).map { _ in Float(random.normal() * 10) }
      position.scale = random.pick([0, 1, 0.3])
      position.banned = (0..<60).filter { $0 != 7 && random.chance(0.5) }.map { Token($0) }
      position.parameters = SamplingParameters(temperature: random.pick([0, 5]), seed: random.next())
      let choice = try #require(Ladder(position, topK: 4, candidates: 4).choice)
      #expect(position.router?[Int(choice.token)] ?? 0 > -.infinity)
      #expect(!position.banned.contains(choice.token))
    }
  }

  @Test("history: counts, window and roll-back")
  func history() {
    var history = History(prompt: Array(0..<100))
    #expect(history.window == Array(36..<100))
    for token: Token in [5, 5, 200] { history.append(token) }
    #expect(history.window == [5] + Array(39..<100) + [200])
    #expect(history.counts == [5: 2, 200: 1])
    history.truncate(generated: 1)
    #expect(history.generated == [5] && history.counts == [5: 1])
    var same = History(prompt: Array(0..<100))
    same.append(5)
    #expect(history == same)
    history.truncate(generated: 7)
    #expect(history == same)
    history.truncate(generated: 0)
    #expect(history == History(prompt: Array(0..<100)))
    for token in 0..<Token(80) { history.append(token) }
    #expect(history.window == Array(16..<80))
  }

  @Test("expert selection: the largest weight, the lowest index on ties")
  func selection() {
    #expect(ExpertSelection.select([0.5, 2, 2, -1]) == 1)
    #expect(ExpertSelection.select([-3]) == 0)
    #expect(ExpertSelection.select([-0.0, 0]) == 0)
    #expect(ExpertSelection.select([]) == nil)
    #expect(ExpertSelection.select([1, .nan]) == nil)
    #expect(ExpertSelection.select([.nan, 1]) == nil)
  }

  @Test("modes are parsed and printed")
  func decodingModes() {
    for mode in [DecodingMode.fusion, .router, .noComplement, .expert("math"), .expert("a:b")] {
      #expect(DecodingMode(parsing: mode.description) == mode)
    }
    #expect(DecodingMode.noComplement.description == "no-complement")
    for text in ["", "expert:", "expert", "Fusion", "no complement"] { #expect(DecodingMode(parsing: text) == nil) }
  }

  @Test("log-probabilities are a log-softmax of the fused row")
  func logProbabilities() throws {
    var random = seededGenerator("log-probabilities", default: 62)
    let v = 500
    let router = (0..<v).map { _ in Float(random.normal() * 3) }
    let expert = (0..<v).map { $0 != 7 && random.chance(0.1) ? -.infinity : Float(random.normal() * 3) }
    let fused = zip(router, expert).map { Double($0 * 0.5) + Double($1) }
    let sum = Foundation.log(fused.reduce(0) { $0 + Foundation.exp($1) })
    let result = try LogProbabilities(
      router: LogitsRow(router), complementScale: 0.5, expert: LogitsRow(expert), chosen: 7, top: 5, vocabulary: v)
    #expect(result.chosen.token == 7 && abs(Double(result.chosen.logProbability) - (fused[7] - sum)) < 1e-5)
    for entry in result.top + [result.chosen] {
      #expect(entry.routerLogit == router[Int(entry.token)] && entry.expertLogit == expert[Int(entry.token)])
    }
    let best = fused.indices.sorted { fused[$0] > fused[$1] }.prefix(5)
    #expect(result.top.map(\.token) == best.map { Token($0) })
    for (entry, v) in zip(result.top, best) { #expect(abs(Double(entry.logProbability) - (fused[v] - sum)) < 1e-5) }
    let alone = try LogProbabilities(
      router: nil, complementScale: 1, expert: LogitsRow([0, 0]), chosen: 1, top: 0, vocabulary: 2)
    #expect(abs(Double(alone.chosen.logProbability) + Foundation.log(2)) < 1e-6 && alone.top.isEmpty)
    #expect(alone.chosen.routerLogit == nil && alone.chosen.expertLogit == 0)
  }
}

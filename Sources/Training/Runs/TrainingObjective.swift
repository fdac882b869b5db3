internal import Core

/// An example for the supervised losses.
public struct Sample: Sendable {
  public var sequence: TrainingSequence
  /// The experts' opinions on its judged tokens; nil where no routing is learnt.
  public var opinions: ExpertOpinions?
  /// Where it came from, for messages: `file:line`.
  public var source: String

  public init(sequence: TrainingSequence, opinions: ExpertOpinions? = nil, source: String = "") {
    self.sequence = sequence
    self.opinions = opinions
    self.source = source
  }
}

/// Two responses to one prompt.
public struct PreferencePair: Sendable {
  /// Judged from the first token that differs on: what is before adds the same to both, so it is left out of ℓ and bias.
  public var chosen: TrainingSequence
  public var rejected: TrainingSequence
  /// Judged tokens of the whole responses, what they have in common included.
  public let lengths: (chosen: Int, rejected: Int)
  /// The experts' log-probabilities, [judged positions][experts]; empty without a bias.
  public var chosenOpinions: [Float] = []
  public var rejectedOpinions: [Float] = []
  /// Sums of the reference's log-probabilities over the judged tokens.
  public var chosenReference = 0.0
  public var rejectedReference = 0.0
  /// The expert that the router selects at each judged position at the start.
  public var initialSelection: [UInt16] = []
  /// What results are told by, beside those of all pairs.
  public var task: String?
  public var source: String

  public init(chosen: TrainingSequence, rejected: TrainingSequence, source: String = "") {
    self.source = source
    lengths = (chosen.judged.count, rejected.judged.count)
    let common = zip(chosen.tokens, rejected.tokens).prefix { $0 == $1 }.count
    func fromDifference(_ sequence: TrainingSequence) -> TrainingSequence {
      TrainingSequence(tokens: sequence.tokens, judged: sequence.judged.filter { $0 + 1 >= common })
    }
    self.chosen = fromDifference(chosen)
    self.rejected = fromDifference(rejected)
  }
}

extension PreferencePair {
  /// A pair for a reward: one output is read from each answer, at its last token. Nil if the answers are the same.
  public static func reward(chosen: TrainingSequence, rejected: TrainingSequence, source: String = "")
    -> PreferencePair?
  {
    guard chosen.tokens != rejected.tokens else { return nil }
    var pair = PreferencePair(chosen: chosen, rejected: rejected, source: source)
    (pair.chosen, pair.rejected) = (.atEnd(of: chosen.tokens), .atEnd(of: rejected.tokens))
    return pair
  }
}

extension TrainingSequence {
  /// The position of the last token alone; the token that is put behind it is not seen.
  static func atEnd(of tokens: [Token]) -> TrainingSequence {
    TrainingSequence(tokens: tokens + [0], judged: [tokens.count - 1])
  }
}

/// What is descended: λ_sft·(L_LM + λ·L_route) over samples plus the preference loss over pairs.
public struct TrainingObjective: Sendable, Equatable {
  /// nil: no routing is learnt.
  public var routing: RoutingLoss?
  /// λ of L_SFT.
  public var routingWeight = 1.0 / 3.0
  /// λ_sft, the weight of samples beside pairs.
  public var sampleWeight = 1.0
  public var preference = PreferenceLoss()
  /// Whether pairs get the selected experts' bias: CDPO instead of DPO.
  public var usesBias = false
  /// Whether pairs teach a reward, −log σ(s(y_w) − s(y_l)) (Bradley–Terry), s being the head's output at the end of the
  /// answer, instead of the language model.
  public var isReward = false

  public init(routing: RoutingLoss? = nil) { self.routing = routing }

  public func validate() throws {
    func require(_ condition: Bool, _ message: @autoclosure () -> String) throws {
      guard condition else { throw FusionRouteError.usage(message()) }
    }
    try require(routingWeight.isFinite && routingWeight >= 0, "lambda must be a number from 0, not \(routingWeight)")
    try require(sampleWeight.isFinite && sampleWeight >= 0, "lambda-sft must be a number from 0, not \(sampleWeight)")
    try require(
      preference.beta.isFinite && preference.beta > 0, "beta must be a positive number, not \(preference.beta)")
    if let clamp = routing?.clamp {
      try require(clamp.isFinite && clamp < 0, "the clamp must be a negative number, not \(clamp)")
    }
  }
}

public import Core

/// How a token is drawn from a position's scores. The defaults are greedy decoding.
///
/// Order: logit bias, penalties, temperature, top-k, top-p, min-p. At temperature 0 the filters change nothing.
public struct SamplingParameters: Sendable, Equatable {
  /// T: scales the Gumbel noise, so that argmax(x + T·g) draws from softmax(x / T). 0: greedy.
  public var temperature: Float = 0
  public var seed: UInt64 = 0
  /// Only the so many best tokens; 0: off.
  public var topK = 0
  /// Only the smallest set of best tokens that holds this share of the probability; 1: off. The best always stays.
  public var topP: Float = 1
  /// Only tokens at least so probable relative to the best; 0: off.
  public var minP: Float = 0
  /// Scores of tokens among the last 64, prompt included: divided by it if positive, multiplied if not; 1: off.
  public var repetitionPenalty: Float = 1
  /// Taken off tokens that were generated before.
  public var presencePenalty: Float = 0
  /// Taken off tokens for each time they were generated before.
  public var frequencyPenalty: Float = 0
  /// Added to a token's score; −∞ bans it.
  public var logitBias: [Token: Float] = [:]

  public init() {}

  public init(
    temperature: Float = 0, seed: UInt64 = 0, topK: Int = 0, topP: Float = 1, minP: Float = 0,
    repetitionPenalty: Float = 1, presencePenalty: Float = 0, frequencyPenalty: Float = 0,
    logitBias: [Token: Float] = [:]
  ) {
    self.temperature = temperature
    self.seed = seed
    self.topK = topK
    self.topP = topP
    self.minP = minP
    self.repetitionPenalty = repetitionPenalty
    self.presencePenalty = presencePenalty
    self.frequencyPenalty = frequencyPenalty
    self.logitBias = logitBias
  }

  /// Whether top-k, top-p or min-p leave tokens out: then the set that is drawn from depends on every token's score.
  public var isFiltered: Bool { temperature > 0 && (topK > 0 || topP < 1 || minP > 0) }

  /// Largest temperature accepted.
  public static let maximumTemperature: Float = 100
  /// Largest absolute presence or frequency penalty accepted.
  public static let maximumPenalty: Float = 100
  /// Range of the repetition penalty.
  public static let repetitionPenalties: ClosedRange<Float> = 0.01...100
  /// Largest absolute logit bias accepted, besides −∞.
  public static let maximumBias: Float = 1e6

  /// Throws `FusionRouteError.badInput` that names the first field out of range.
  public func validated(vocabularySize: Int) throws {
    func require(_ condition: Bool, _ field: String, _ value: String, _ rule: String) throws {
      if !condition { throw FusionRouteError.badInput("\(field) is \(value): it must be \(rule)") }
    }
    func isFinite(_ value: Float, within limit: Float) -> Bool { value.isFinite && abs(value) <= limit }

    try require(
      temperature >= 0 && temperature <= Self.maximumTemperature, "temperature", "\(temperature)",
      "from 0 to \(Self.maximumTemperature)")
    try require(topK >= 0, "top_k", "\(topK)", "0 (off) or more")
    try require(topP >= 0 && topP <= 1, "top_p", "\(topP)", "from 0 to 1")
    try require(minP >= 0 && minP <= 1, "min_p", "\(minP)", "from 0 to 1")
    try require(
      Self.repetitionPenalties.contains(repetitionPenalty), "repetition_penalty", "\(repetitionPenalty)",
      "from \(Self.repetitionPenalties.lowerBound) to \(Self.repetitionPenalties.upperBound)")
    for (field, value) in [("presence_penalty", presencePenalty), ("frequency_penalty", frequencyPenalty)] {
      try require(
        isFinite(value, within: Self.maximumPenalty), field, "\(value)",
        "from -\(Self.maximumPenalty) to \(Self.maximumPenalty)")
    }
    // Called for every token, so sorted only for the message.
    let acceptable = { (token: Token, bias: Float) in
      token >= 0 && Int(token) < vocabularySize && (isFinite(bias, within: Self.maximumBias) || bias == -.infinity)
    }
    guard let (token, bias) = logitBias.filter({ !acceptable($0.key, $0.value) }).min(by: { $0.key < $1.key }) else {
      return
    }
    try require(
      token >= 0 && Int(token) < vocabularySize, "logit_bias", "set for token \(token)",
      "for tokens from 0 to \(vocabularySize - 1)")
    try require(
      acceptable(token, bias), "logit_bias of token \(token)", "\(bias)",
      "from -\(Self.maximumBias) to \(Self.maximumBias), or minus infinity")
  }
}

extension SamplingParameters: Codable {
  private enum CodingKeys: String, CodingKey {
    case temperature, seed
    case topK = "top_k"
    case topP = "top_p"
    case minP = "min_p"
    case repetitionPenalty = "repetition_penalty"
    case presencePenalty = "presence_penalty"
    case frequencyPenalty = "frequency_penalty"
    case logitBias = "logit_bias"
  }

  /// Absent fields have their defaults. Token ids of `logit_bias` are strings, as in OpenAI's API.
  public init(from decoder: any Decoder) throws {
    let values = try decoder.container(keyedBy: CodingKeys.self)
    func value<T: Decodable>(_ key: CodingKeys, _ fallback: T) throws -> T {
      try values.decodeIfPresent(T.self, forKey: key) ?? fallback
    }
    self.init(
      temperature: try value(.temperature, 0), seed: try value(.seed, 0), topK: try value(.topK, 0),
      topP: try value(.topP, 1), minP: try value(.minP, 0), repetitionPenalty: try value(.repetitionPenalty, 1),
      presencePenalty: try value(.presencePenalty, 0), frequencyPenalty: try value(.frequencyPenalty, 0))
    for (text, bias) in try value(.logitBias, [String: Float]()) {
      guard let token = Token(text) else {
        throw FusionRouteError.badInput("logit_bias has the key \"\(text)\": its keys must be token ids")
      }
      logitBias[token] = bias
    }
  }

  public func encode(to encoder: any Encoder) throws {
    var values = encoder.container(keyedBy: CodingKeys.self)
    try values.encode(temperature, forKey: .temperature)
    try values.encode(seed, forKey: .seed)
    try values.encode(topK, forKey: .topK)
    try values.encode(topP, forKey: .topP)
    try values.encode(minP, forKey: .minP)
    try values.encode(repetitionPenalty, forKey: .repetitionPenalty)
    try values.encode(presencePenalty, forKey: .presencePenalty)
    try values.encode(frequencyPenalty, forKey: .frequencyPenalty)
    let bias = logitBias.map { (String($0.key), $0.value) }
    try values.encode(Dictionary(uniqueKeysWithValues: bias), forKey: .logitBias)
  }
}

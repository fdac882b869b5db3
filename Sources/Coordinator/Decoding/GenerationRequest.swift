public import Core
public import Fusion

/// Which experts step at every token.
public enum FanoutPolicy: String, Sendable, CaseIterable, Codable {
  /// Only the selected one; the others catch up when they are selected.
  case selected
  /// Also the likeliest next one, while it is idle.
  case predicted
  /// Every expert, at the same time as the router: the lowest latency when each has a machine.
  case all
}

/// Which experts read the prompt at arrival.
public enum WarmPolicy: String, Sendable, CaseIterable, Codable {
  /// Those that share no core with a running forward pass.
  case auto
  case all
  /// Each when it is first selected.
  case selected
}

/// What happens when an expert has no replica left.
public enum ExpertLossPolicy: String, Sendable, CaseIterable, Codable {
  /// The request fails.
  case fail
  /// The expert with the next highest routing weight steps in.
  case nextBest = "next_best"
  /// The router decides alone.
  case router
}

public struct GenerationRequest: Sendable {
  /// Most alternatives that may be asked for: what waits for a slow reader stays bounded.
  public static let maximumAlternatives = 32

  /// Prompt token ids; at least one.
  public var prompt: [Token]
  /// New tokens at most.
  public var maximumTokens: Int
  public var sampling: SamplingParameters
  public var mode: DecodingMode
  public var fanout: FanoutPolicy
  public var warm: WarmPolicy
  /// Texts that end the answer; they are not part of it.
  public var stop: [String]
  /// Which of several answers to one prompt this is; part of the noise's key.
  public var choice: Int
  public var onExpertLoss: ExpertLossPolicy
  /// How many of the most probable tokens each token is told with, at most ``maximumAlternatives``; nil: no
  /// log-probabilities at all. They are those of softmax(c·r + e), before temperature, bias, penalties and constraint.
  public var alternatives: Int?
  /// Which tokens may come next, given those before; nil: all.
  public var constraint: (any TokenConstraint)?
  /// Whom the request belongs to: waiting requests of different clients are admitted in turn.
  public var client: String
  /// From the request's arrival; afterwards it ends with an error of code `deadlineExceeded`.
  public var deadline: Duration?
  /// From when ``deadline`` counts instead, where this request is a part of a larger one; nil: its own arrival.
  public var deadlineStart: ContinuousClock.Instant?
  /// Names the request in logs and traces of every process it touches.
  public var trace: TraceContext?
  /// Whose turn it is where requests wait.
  public var priority: RequestPriority

  public init(
    prompt: [Token], maximumTokens: Int = 256, sampling: SamplingParameters = .init(), mode: DecodingMode = .fusion,
    fanout: FanoutPolicy = .selected, warm: WarmPolicy = .auto, stop: [String] = [], choice: Int = 0,
    onExpertLoss: ExpertLossPolicy = .fail
  ) {
    self.prompt = prompt
    self.maximumTokens = maximumTokens
    self.sampling = sampling
    self.mode = mode
    self.fanout = fanout
    self.warm = warm
    self.stop = stop
    self.choice = choice
    self.onExpertLoss = onExpertLoss
    alternatives = nil
    constraint = nil
    client = ""
    deadline = nil
    deadlineStart = nil
    trace = nil
    priority = .interactive
  }
}

/// How much a request's tokens count where clients take turns.
public enum RequestPriority: Sendable, Hashable {
  /// Somebody waits for it.
  case interactive
  /// It may wait: a token counts as much as many of others, so that it runs where nobody else would, and now and then
  /// where others wait, so that it ends some day.
  case batch

  /// What its tokens are multiplied by.
  var weight: Int {
    switch self {
    case .interactive: 1
    case .batch: 64
    }
  }
}

public enum GenerationEvent: Sendable {
  case token(GeneratedToken)
  case finished(GenerationSummary)
}

public struct GeneratedToken: Sendable {
  public var id: Token
  /// Text that became certain with this token: whole UTF-8 characters, nothing that may still become a stop string.
  public var text: String
  /// The expert whose logits were added; nil in mode `router`.
  public var expert: String?
  /// c·r + e of the token, e or r by mode.
  public var logit: Float
  public var drafted: Bool
  /// Another expert than the router's choice decided, since that one was lost.
  public var degraded: Bool
  /// w = W h, [experts] in the head's order; empty when nothing was routed.
  public var routingWeights: [Float]
  /// r and e of the token; nil for a model that was not asked.
  public var routerLogit: Float?
  public var expertLogit: Float?
  /// Natural logarithm of the token's probability; nil unless ``GenerationRequest/alternatives`` is set.
  public var logProbability: Float?
  /// The most probable tokens, by descending probability, then ascending id; may or may not hold this one.
  public var alternatives: [TokenAlternative]
  /// Tokens that went through the router and through the expert for this one.
  public var evaluatedByRouter: Int
  public var evaluatedByExpert: Int
}

/// A token that might have come instead.
public struct TokenAlternative: Sendable, Equatable {
  public var id: Token
  /// Natural logarithm of its probability.
  public var logProbability: Float
  public var routerLogit: Float?
  public var expertLogit: Float?

  public init(id: Token, logProbability: Float, routerLogit: Float? = nil, expertLogit: Float? = nil) {
    self.id = id
    self.logProbability = logProbability
    self.routerLogit = routerLogit
    self.expertLogit = expertLogit
  }
}

extension TokenAlternative {
  init(_ entry: LogProbabilities.Entry, routerLogit: Float?) {
    self.init(
      id: entry.token, logProbability: entry.logProbability, routerLogit: routerLogit, expertLogit: entry.expertLogit)
  }
}

public enum FinishReason: String, Sendable, Codable {
  case stop
  case length
  case error
}

/// Where the time of an answer went, in nanoseconds, summed over its tokens.
public struct LatencySplit: Sendable, Equatable {
  public var routerQueue: UInt64 = 0
  public var routerCompute: UInt64 = 0
  /// Encoding, socket, threads: round trip less what the worker reports.
  public var wire: UInt64 = 0
  public var expertQueue: UInt64 = 0
  public var expertCompute: UInt64 = 0
  /// Scoring, certificate, text.
  public var merge: UInt64 = 0

  public init() {}

  public static func - (a: Self, b: Self) -> Self {
    var difference = a
    difference.routerQueue -= b.routerQueue
    difference.routerCompute -= b.routerCompute
    difference.wire -= b.wire
    difference.expertQueue -= b.expertQueue
    difference.expertCompute -= b.expertCompute
    difference.merge -= b.merge
    return difference
  }
}

public struct GenerationSummary: Sendable {
  public var text: String
  /// Text held back until the end was certain; it belongs behind the last token's.
  public var trailingText: String
  public var finishReason: FinishReason
  public var promptTokens: Int
  /// Prompt tokens that the router (in mode `expert:NAME` the expert) found in its KV cache.
  public var cachedTokens: Int
  public var generatedTokens: Int
  /// Tokens each expert decided.
  public var tokensPerExpert: [String: Int]
  /// Tokens that went through each model, by expert, and "router".
  public var evaluatedTokens: [String: Int]
  /// From the request's arrival until it got its slot.
  public var queued: Duration
  /// Until the first token, and from there to the last.
  public var prefill: Duration
  public var decode: Duration
  public var latency: LatencySplit
  /// The part of ``latency`` until the first token.
  public var prefillLatency: LatencySplit
  /// How much of the experts' rows the decisions took.
  public var certification: CertificationStatistics
  /// Sequences moved to another replica.
  public var failovers: Int
}

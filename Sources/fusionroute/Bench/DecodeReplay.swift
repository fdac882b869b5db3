internal import Coordinator
internal import Core
internal import Inference

/// The batch shapes of one answer: which model evaluated how many tokens, step by step.
struct DecodeTrace: Sendable {
  struct Step: Sendable {
    var token: Token
    var expert: String?
    /// Tokens that went through the router and the expert before this one was decided.
    var routerTokens: Int
    var expertTokens: Int
  }

  var prompt: [Token]
  var steps: [Step] = []

  init(prompt: [Token]) { self.prompt = prompt }

  mutating func append(_ token: GeneratedToken) {
    steps.append(
      Step(
        token: token.id, expert: token.expert, routerTokens: token.evaluatedByRouter,
        expertTokens: token.evaluatedByExpert))
  }

  /// Whether a replay of appends alone has the same shapes: nothing was evaluated twice or rolled back.
  var isReplayable: Bool {
    var held: [String: Int] = ["": 0]
    var length = prompt.count
    for step in steps {
      if step.routerTokens > 0, held["", default: 0] + step.routerTokens != length { return false }
      held["", default: 0] += step.routerTokens
      if let expert = step.expert {
        guard held["e:" + expert, default: 0] + step.expertTokens == length else { return false }
        held["e:" + expert] = length
      }
      length += 1
    }
    return true
  }
}

/// Runs a trace as plain llama.cpp calls, one model after the other, without anything around them.
struct DecodeReplay {
  let router: PlainContext
  let experts: [String: PlainContext]

  /// - Returns: time from the first token's decision to the last one's, as the runtime's `decode`.
  func run(_ trace: DecodeTrace) throws -> Duration {
    router.reset()
    for context in experts.values { context.reset() }
    let tokens = trace.prompt + trace.steps.map(\.token)
    let clock = ContinuousClock()
    var first: ContinuousClock.Instant?
    for step in trace.steps {
      if step.routerTokens > 0 {
        try router.evaluate(tokens[router.position..<(router.position + step.routerTokens)], hidden: true)
      }
      if let name = step.expert, let context = experts[name], step.expertTokens > 0 {
        try context.evaluate(tokens[context.position..<(context.position + step.expertTokens)])
      }
      if first == nil { first = clock.now }
    }
    return (first ?? clock.now).duration(to: clock.now)
  }
}

public import Core

/// Collab (Chakraborty and others 2025), as a baseline: at each token every expert proposes its greedy token; where the
/// proposals differ, each is followed by a short greedy rollout of its expert, a reward model rates the text so far with
/// each of them, and the best proposal is taken.
///
/// What an expert would write is a chain of greedy tokens, so one request serves as proposal, rollout and later proposals
/// at once: it stays valid for as long as the committed text follows it, and is made longer where a rollout needs more. The
/// decisions are the same as with a request for every token.
public struct Collab: Sendable {
  public enum Action: Sendable, Equatable {
    /// Ask experts to go on; each answer is for ``learn(expert:tokens:isComplete:)``.
    case ask([Question])
    /// Rate the committed text followed by each of these.
    case rate([[Token]])
    case finished
  }

  public struct Question: Sendable, Equatable {
    public var expert: Int
    /// What the expert has written already after the committed text.
    public var written: [Token]
    /// How many more tokens are wanted.
    public var tokens: Int
  }

  private struct Continuation {
    var tokens: [Token]
    /// Nothing follows the last token.
    var isComplete: Bool
    /// The expert writes no more than this: the answer ends, or the context does.
    var isFull: Bool
  }

  /// Tokens that follow a proposal before it is rated.
  public let rollout: Int
  public let maximumTokens: Int
  public private(set) var committed: [Token] = []
  /// Which expert's proposal each token is; nil where all proposed it.
  public private(set) var deciders: [Int?] = []
  /// Whether the answer ended by itself.
  public private(set) var isComplete = false
  /// Positions at which the proposals differed.
  public private(set) var disagreements = 0
  private var known: [Continuation?]
  /// Experts behind the texts that are being rated, by text.
  private var candidates: [(tokens: [Token], expert: Int)] = []

  public init(experts: Int, rollout: Int, maximumTokens: Int) {
    self.rollout = max(0, rollout)
    self.maximumTokens = maximumTokens
    known = Array(repeating: nil, count: experts)
  }

  /// What to do next; commits every token that all experts propose.
  public mutating func next() -> Action {
    candidates = []
    while !isComplete, committed.count < maximumTokens, !known.isEmpty {
      let silent = known.indices.filter { known[$0] == nil }
      guard silent.isEmpty else { return .ask(silent.map(question)) }
      let proposals = known.map { $0?.tokens.first }
      guard let first = proposals.first, let token = first, proposals.allSatisfy({ $0 == token }) else {
        return decide()
      }
      commit(token, by: nil, following: known.indices.map { $0 })
    }
    return .finished
  }

  private mutating func decide() -> Action {
    let short = known.indices.filter { index in
      guard let continuation = known[index] else { return true }
      return continuation.tokens.count < 1 + rollout && !continuation.isFull
    }
    guard short.isEmpty else { return .ask(short.map(question)) }
    for (index, continuation) in known.enumerated() {
      let text = Array((continuation?.tokens ?? []).prefix(1 + rollout))
      // An expert that has nothing to propose takes no part; of equal rollouts one is rated.
      guard !text.isEmpty, !candidates.contains(where: { $0.tokens == text }) else { continue }
      candidates.append((text, index))
    }
    guard !candidates.isEmpty else {
      isComplete = true
      return .finished
    }
    disagreements += 1
    return .rate(candidates.map(\.tokens))
  }

  private func question(to expert: Int) -> Question {
    let written = known[expert]?.tokens ?? []
    return Question(expert: expert, written: written, tokens: 1 + rollout - written.count)
  }

  /// Takes what an expert wrote when it was asked. Fewer tokens than were asked for are all that it can write.
  ///
  /// - Parameter isComplete: it ended there by itself.
  public mutating func learn(expert: Int, tokens: [Token], isComplete: Bool) {
    guard known.indices.contains(expert) else { return }
    let written = (known[expert]?.tokens ?? []) + tokens
    // No token at all: the context is full, or the answer had ended.
    known[expert] = Continuation(
      tokens: written, isComplete: isComplete || written.isEmpty, isFull: isComplete || written.count < 1 + rollout)
  }

  /// Takes the ratings of ``Action/rate(_:)``, in its order: the best wins, of equal ones the first. So does the first
  /// where no rating is a number: without one token more the same candidates would be rated for ever.
  public mutating func choose(_ rewards: [Double]) {
    guard !candidates.isEmpty else { return }
    let winner = candidates[AnswerChoice.best(Array(rewards.prefix(candidates.count))) ?? 0]
    candidates = []
    guard let token = winner.tokens.first else { return }
    commit(token, by: winner.expert, following: known.indices.filter { known[$0]?.tokens.first == token })
  }

  private mutating func commit(_ token: Token, by expert: Int?, following: [Int]) {
    committed.append(token)
    deciders.append(expert)
    let decider = expert ?? following.first
    if let decider, let continuation = known[decider], continuation.isComplete, continuation.tokens.count == 1 {
      isComplete = true
    }
    for index in known.indices {
      guard following.contains(index), var continuation = known[index] else {
        known[index] = nil
        continue
      }
      continuation.tokens.removeFirst()
      known[index] = continuation.tokens.isEmpty ? nil : continuation
    }
  }
}

internal import Core
internal import Evaluation
internal import Fusion
internal import Inference
internal import Synchronization

/// Collab on the runtime: proposals and rollouts are answers of single experts, ratings the reward model's.
///
/// Stop texts end the committed text and what is rated, but not what an expert writes: one may come about by tokens of
/// several experts.
struct CollabRunner: Sendable {
  let session: ClusterSession
  let decoder: AnswerDecoder
  let reward: RewardScorer
  let rollout: Int

  /// Answers under way at most.
  static let maximumWidth = 32

  /// Makes room for the ratings of so many answers at once.
  func prepare(_ tasks: [EvaluationTask], maximumTokens: Int, width: Int) throws {
    let longest = try tasks.map { try reward.tokens($0.messages, answer: "").count }.max() ?? 0
    // Experts' tokens may be more than one each of the reward model's, where a word is in parts.
    try reward.use(
      slots: width,
      // It rates while the experts compute: threads that wait for one another must not share cores with them.
      threads: 1, longest: longest + 2 * (maximumTokens + rollout))
  }

  func answer(_ task: EvaluationTask, maximumTokens: Int) async throws -> DecodedAnswer {
    let model = session.coordinator.router
    let experts = decoder.answerer.experts
    let prompt = try tokens(of: task, model: model)
    // As long as every expert has room for a token more. A prompt that has none is asked with, which says so.
    let limit = experts.map { session.coordinator.contextLimit(for: .expert($0)) }.min() ?? .max
    let room = limit == .max ? maximumTokens : max(1, limit - prompt.count + 1)
    var collab = Collab(experts: experts.count, rollout: rollout, maximumTokens: min(maximumTokens, room))
    func text(_ tokens: [Token]) throws -> StoppedText {
      try StoppedText(tokens.map { model.vocabulary.piece($0, special: false) }, stop: decoder.options.stop)
    }
    var evaluations: [String: Int] = [:]
    var seconds = 0.0
    while true {
      let action = collab.next()
      let written = try text(collab.committed)
      switch action {
      case _ where written.isStopped, .finished:
        return DecodedAnswer(
          text: written.text, pieces: written.pieces, experts: experts,
          deciders: Array(collab.deciders.prefix(written.pieces.count)),
          finish: written.isStopped || collab.isComplete ? "stop" : "length", promptTokens: prompt.count,
          busySeconds: seconds, evaluations: evaluations)
      case .ask(let questions):
        for (expert, answer, busy) in try await ask(questions, experts, after: prompt + collab.committed) {
          seconds += busy
          evaluations.merge(answer.summary?.evaluatedTokens.filter { $0.value > 0 } ?? [:], uniquingKeysWith: +)
          collab.learn(
            expert: expert, tokens: answer.tokens.map(\.id), isComplete: answer.summary?.finishReason == "stop")
        }
      case .rate(let candidates):
        var rewards: [Double] = []
        for candidate in candidates {
          let words = try text(collab.committed + candidate).text
          let (rating, busy) = try await decoder.time.measure { try await reward.rate(task.messages, answer: words) }
          rewards.append(rating.reward)
          evaluations[AnswerRecord.reward, default: 0] += rating.evaluated
          seconds += busy
        }
        collab.choose(rewards)
      }
      try Task.checkCancellation()
    }
  }

  private func tokens(of task: EvaluationTask, model: Model) throws -> [Token] {
    switch task.content {
    case .messages(let messages):
      try model.promptTokens(chat: messages.map { ChatMessage(role: $0.role, content: $0.content) })
    case .text(let text): try model.vocabulary.tokenize(text, addSpecial: true, parseSpecial: false)
    }
  }

  /// Greedy continuations, at once.
  private func ask(
    _ questions: [Collab.Question], _ experts: [String], after prefix: [Token]
  ) async throws -> [(Int, Answer, busySeconds: Double)] {
    try await withThrowingTaskGroup(of: (Int, Answer, busySeconds: Double).self) { group in
      for question in questions {
        group.addTask {
          let (answer, seconds) = try await decoder.timed(
            .tokens(prefix + question.written), mode: "expert:\(experts[question.expert])",
            maximumTokens: question.tokens, stop: [])
          return (question.expert, answer, seconds)
        }
      }
      var answers: [(Int, Answer, busySeconds: Double)] = []
      for try await answer in group { answers.append(answer) }
      return answers.sorted { $0.0 < $1.0 }
    }
  }
}

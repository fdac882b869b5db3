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
    // The slowest expert of each round and the ratings, as if the machine were this answer's alone: the waits for a place are
    // left out, as with every other method.
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
          seconds: seconds, evaluations: evaluations)
      case .ask(let asked, let count):
        let prefix = prompt + collab.committed
        let answers = try await ask(asked.map { ($0, experts[$0]) }, prefix, count)
        seconds += answers.compactMap { $0.1.summary.map { ($0.prefill + $0.decode).seconds } }.max() ?? 0
        for (expert, answer) in answers {
          evaluations.merge(answer.summary?.evaluatedTokens.filter { $0.value > 0 } ?? [:], uniquingKeysWith: +)
          collab.learn(
            expert: expert, tokens: answer.tokens.map(\.id), isComplete: answer.summary?.finishReason == "stop")
        }
      case .rate(let candidates):
        var rewards: [Double] = []
        for candidate in candidates {
          let rating = try await reward.rate(task.messages, answer: try text(collab.committed + candidate).text)
          rewards.append(rating.reward)
          evaluations[AnswerRecord.reward, default: 0] += rating.evaluated
          seconds += rating.seconds
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

  /// Each expert's greedy continuation, at once.
  private func ask(
    _ asked: [(index: Int, name: String)], _ prefix: [Token], _ count: Int
  ) async throws -> [(Int, Answer)] {
    try await withThrowingTaskGroup(of: (Int, Answer).self) { group in
      for expert in asked {
        group.addTask {
          (
            expert.index,
            try await decoder.answer(
              .tokens(prefix), mode: "expert:\(expert.name)", maximumTokens: count, stop: [])
          )
        }
      }
      var answers: [(Int, Answer)] = []
      for try await answer in group { answers.append(answer) }
      return answers.sorted { $0.0 < $1.0 }
    }
  }
}

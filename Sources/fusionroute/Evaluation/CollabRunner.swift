internal import Core
internal import Evaluation
internal import Fusion
internal import Inference
internal import Synchronization

/// Collab on the runtime: proposals and rollouts are answers of single experts, ratings the reward model's.
struct CollabRunner: Sendable {
  let session: ClusterSession
  let decoder: AnswerDecoder
  let reward: RewardScorer
  let rollout: Int

  func answer(_ task: EvaluationTask, maximumTokens: Int) async throws -> DecodedAnswer {
    let model = session.coordinator.router
    let experts = decoder.answerer.experts
    let prompt = try tokens(of: task, model: model)
    var collab = Collab(experts: experts.count, rollout: rollout, maximumTokens: maximumTokens)
    var evaluations: [String: Int] = [:]
    // The slowest expert of each round and the ratings, as if the machine were this answer's alone: the waits for a place are
    // left out, as with every other method.
    var seconds = 0.0
    while true {
      switch collab.next() {
      case .finished:
        var decoded = text(collab, model.vocabulary)
        decoded.experts = experts
        decoded.promptTokens = prompt.count
        decoded.evaluations = evaluations
        decoded.seconds = seconds
        return decoded
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
          let bytes = (collab.committed + candidate).flatMap { model.vocabulary.piece($0, special: false) }
          let rating = try await reward.rate(task.messages, answer: String(decoding: bytes, as: UTF8.self))
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
            try await decoder.answer(.tokens(prefix), mode: "expert:\(expert.name)", maximumTokens: count)
          )
        }
      }
      var answers: [(Int, Answer)] = []
      for try await answer in group { answers.append(answer) }
      return answers.sorted { $0.0 < $1.0 }
    }
  }

  private func text(_ collab: Collab, _ vocabulary: Vocabulary) -> DecodedAnswer {
    var assembler = TextAssembler()
    var pieces = collab.committed.map { assembler.append(vocabulary.piece($0, special: false)) }
    if let last = pieces.indices.last { pieces[last] += assembler.finish() }
    return DecodedAnswer(
      text: pieces.joined(), pieces: pieces, experts: [], deciders: collab.deciders,
      finish: collab.isComplete ? "stop" : "length", promptTokens: 0, seconds: 0, evaluations: [:])
  }
}

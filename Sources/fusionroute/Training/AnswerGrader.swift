internal import Core
internal import Evaluation
internal import Inference
internal import Launch
internal import Synchronization
internal import Training

/// Judges sampled answers: a command of the user, or a reward model.
enum AnswerGrader: Sendable {
  /// Runs with `{"prompt", "answer", "record"}` on stdin; exit 0 passes, 1 fails, anything else ends the sampling. What
  /// takes longer than `limit` for one answer is killed with all that it started, as by a cancellation.
  case command(String, limit: Duration = .seconds(120))
  /// The protocol of `fusionroute eval`, for prompts that are task lines.
  case service(GraderPool)
  case reward(RewardGrader)

  /// 1 for a passed and 0 for a failed answer of a command; a reward otherwise.
  func score(_ prompt: SamplePrompt, answer: String) async throws -> Double {
    switch self {
    case .service(let pool):
      guard let task = prompt.task else { throw FusionRouteError.internal("a prompt was not read as a task") }
      return try await pool.grade(task, text: answer).passed ? 1 : 0
    case .reward(let grader): return try await onThread { try grader.score(prompt: prompt.messages, answer: answer) }
    case .command(let command, let limit):
      let input = JSONText.object([
        ("prompt", .text(prompt.messages.last?.content ?? "")), ("answer", .text(answer)),
        ("record", .text(prompt.record)),
      ]).rendered
      let exit: ProcessExit
      do {
        exit = try await SystemCommands.runShell(command, input: input + "\n", limit: limit)
      } catch let error as FusionRouteError {
        throw FusionRouteError(error.code, "the grader \(error.message)", cause: error.cause)
      }
      switch exit {
      case .code(0): return 1
      case .code(1): return 0
      default:
        throw FusionRouteError.badInput(
          "the grader `\(command)` ended with \(exit): 0 is a passed answer, 1 a failed one; nothing else is expected")
      }
    }
  }
}

/// A reward model with its tokenizer, used by one answer at a time.
final class RewardGrader: Sendable {
  // The model is not for several threads at once; the lock sees to that.
  private let reward: Mutex<Box>
  private let encoder: ExampleEncoder

  private struct Box: ~Copyable {
    let model: RewardModel
  }

  init(model path: String, folder: String, threads: Int) throws {
    let stage = try TrainStart(resultsIn: folder, baseModel: path, for: .computing)
    guard let head = stage.head else {
      throw FusionRouteError.badInput("\(folder) has no head.gguf: give the directory of a finished `train reward`")
    }
    let model = try RewardModel(
      model: stage.model, adapter: stage.adapter, head: head, options: EngineOptions(threads: threads))
    encoder = try ExampleEncoder(
      model: try TrainSupport.vocabulary(of: stage.model), maximumLength: RewardGrader.maximumLength,
      isRaw: model.isRaw)
    reward = Mutex(Box(model: model))
  }

  /// Longest prompt and answer together, in tokens, if the model's context has room for them. Longer ones lose their
  /// beginning.
  static let maximumLength = 4_096

  func score(prompt: [ChatMessage], answer: String) throws -> Double {
    let tokens = try encoder.tokens(prompt + [.answer(toRate: answer)])
    return try reward.withLock { Double(try $0.model.scores([tokens]).first ?? 0) }
  }
}

extension ChatMessage {
  /// An answer for a reward model. Models may write a NUL character, which no chat template carries.
  static func answer(toRate text: String) -> ChatMessage {
    ChatMessage(
      role: "assistant",
      content: String(String.UnicodeScalarView(text.unicodeScalars.map { $0 == "\0" ? "\u{FFFD}" : $0 })))
  }
}

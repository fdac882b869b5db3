internal import Core
internal import Evaluation
internal import Foundation
internal import Inference
internal import Synchronization
internal import Training

/// Judges sampled answers: a command of the user, or a reward model.
enum AnswerGrader: Sendable {
  /// Runs with `{"prompt", "answer", "record"}` on stdin; exit 0 passes, 1 fails, anything else ends the sampling.
  case command(String)
  /// The protocol of `fusionroute eval`, for prompts that are task lines.
  case service(GraderPool)
  case reward(RewardGrader)

  /// Seconds that a command may take for one answer.
  static let commandTimeout = 120.0

  /// 1 for a passed and 0 for a failed answer of a command; a reward otherwise.
  func score(prompt: [ChatMessage], answer: String, record: String) async throws -> Double {
    switch self {
    case .service(let pool):
      let task = try EvaluationTask.parse(record, source: "a prompt")
      return try await pool.grade(task, text: answer).passed ? 1 : 0
    case .reward(let grader): return try await onThread { try grader.score(prompt: prompt, answer: answer) }
    case .command(let command):
      let input = JSONText.object([
        ("prompt", .text(prompt.last?.content ?? "")), ("answer", .text(answer)), ("record", .text(record)),
      ]).rendered
      let code = try await onThread { try Self.run(command, input: input) }
      guard code == 0 || code == 1 else {
        throw FusionRouteError.badInput(
          "the grader `\(command)` ended with \(code): 0 is a passed answer, 1 a failed one; nothing else is expected")
      }
      return code == 0 ? 1 : 0
    }
  }

  private static func run(_ command: String, input: String) throws -> Int32 {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/sh")
    process.arguments = ["-c", command]
    let pipe = Pipe()
    process.standardInput = pipe
    process.standardOutput = FileHandle.nullDevice
    do { try process.run() } catch {
      throw FusionRouteError.unavailable("the grader `\(command)` cannot be started", cause: error)
    }
    // A grader may end without reading all of it.
    try? pipe.fileHandleForWriting.write(contentsOf: Data((input + "\n").utf8))
    try? pipe.fileHandleForWriting.close()
    let deadline = Date(timeIntervalSinceNow: commandTimeout)
    while process.isRunning {
      guard Date() < deadline else {
        process.terminate()
        throw FusionRouteError.unavailable(
          "the grader `\(command)` took longer than \(Int(commandTimeout)) s for one answer")
      }
      Thread.sleep(forTimeInterval: 0.005)
    }
    process.waitUntilExit()
    return process.terminationReason == .exit ? process.terminationStatus : 128
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
    let stage = try TrainStart(resultsIn: folder, baseModel: path, isFull: false)
    guard let head = stage.head else {
      throw FusionRouteError.badInput("\(folder) has no head.gguf: give the directory of a finished `train reward`")
    }
    let model = try RewardModel(
      model: stage.model, adapter: stage.adapter, head: head, options: EngineOptions(threads: threads))
    reward = Mutex(Box(model: model))
    encoder = try ExampleEncoder(
      model: try TrainSupport.vocabulary(of: stage.model), maximumLength: RewardGrader.maximumLength)
  }

  /// Longest prompt and answer together, in tokens.
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

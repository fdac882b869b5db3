internal import Core
internal import Evaluation
internal import Fusion
internal import Inference
internal import Synchronization

/// An answer before it is graded.
struct DecodedAnswer: Sendable {
  var text: String
  var pieces: [String]
  var experts: [String]
  var deciders: [Int?]
  var finish: String
  var promptTokens: Int
  var busySeconds: Double?
  var evaluations: [String: Int]
  /// Answers of other methods were under way.
  var interleaved = false

  func record(_ job: EvaluationRun.Job, grade: Grade, chosen: String?) -> AnswerRecord {
    AnswerRecord(
      key: job.key, method: job.method.name, id: job.task.id, task: job.task.task, text: text, pieces: pieces,
      experts: experts, deciders: deciders, finish: finish, promptTokens: promptTokens, busySeconds: busySeconds,
      interleaved: interleaved, evaluations: evaluations, chosen: chosen, grade: grade)
  }
}

extension DecodedAnswer {
  init(_ record: AnswerRecord) {
    self.init(
      text: record.text, pieces: record.pieces, experts: record.experts, deciders: record.deciders,
      finish: record.finish, promptTokens: record.promptTokens, busySeconds: record.busySeconds,
      evaluations: record.evaluations, interleaved: record.interleaved)
  }

  init(_ answer: Answer, experts: [String], busySeconds: Double) {
    let places = Dictionary(experts.enumerated().map { ($1, $0) }) { first, _ in first }
    var pieces = answer.tokens.map(\.text)
    if let last = pieces.indices.last, let trailing = answer.summary?.trailingText { pieces[last] += trailing }
    let summary = answer.summary
    self.init(
      text: answer.text, pieces: pieces, experts: experts,
      deciders: answer.tokens.map { $0.expert.flatMap { places[$0] } }, finish: summary?.finishReason ?? "error",
      promptTokens: summary?.promptTokens ?? answer.promptTokens.count,
      busySeconds: busySeconds,
      evaluations: (summary?.evaluatedTokens ?? [:]).filter { $0.value > 0 })
  }
}

/// Asks the runtime, as many prompts at once as it decodes at once.
struct AnswerDecoder: Sendable {
  let answerer: any Answerer
  let options: GenerationOptions
  let limiter: Limiter
  let time = TimeSharing()

  func answer(_ task: EvaluationTask, mode: String, maximumTokens: Int) async throws -> DecodedAnswer {
    let content: Prompt.Content =
      switch task.content {
      case .messages(let messages):
        .messages(messages.map { ChatMessage(role: $0.role, content: $0.content) })
      case .text(let text): .document(text)
      }
    let (answer, seconds) = try await timed(content, mode: mode, maximumTokens: maximumTokens)
    return DecodedAnswer(answer, experts: answerer.experts, busySeconds: seconds)
  }

  /// - Parameter stop: texts that end the answer; nil: those of the options.
  func answer(
    _ content: Prompt.Content, mode: String, maximumTokens: Int, stop: [String]? = nil
  ) async throws -> Answer {
    try await timed(content, mode: mode, maximumTokens: maximumTokens, stop: stop).0
  }

  /// An answer, and its share of the time since it had a place.
  func timed(
    _ content: Prompt.Content, mode: String, maximumTokens: Int, stop: [String]? = nil
  ) async throws -> (Answer, busySeconds: Double) {
    var prompt = Prompt(label: nil, content: content)
    prompt.stop = stop
    guard let parsed = DecodingMode(parsing: mode) else {
      throw FusionRouteError.internal("there is no mode \"\(mode)\"")
    }
    prompt.mode = parsed
    prompt.maximumTokens = maximumTokens
    let collected = Mutex(Answer())
    let seconds: Double
    await limiter.enter()
    do {
      (_, seconds) = try await time.measure {
        try await answerer.answer(prompt, options: options) { event in collected.withLock { $0.add(event) } }
      }
      // A stream that ends by cancellation ends without an error.
      try Task.checkCancellation()
      await limiter.leave()
    } catch {
      await limiter.leave()
      throw error
    }
    let answer = collected.withLock { $0 }
    _ = try answer.checkedSummary()
    return (answer, seconds)
  }
}

/// Who is busy, by the machine's clock.
final class TimeSharing: Sendable {
  private let origin = ContinuousClock.now
  private let shared = Mutex(SharedTime())

  /// - Returns: what body returns, and its share of the time that it took.
  func measure<Value>(_ body: () async throws -> Value) async rethrows -> (Value, busySeconds: Double) {
    let start = shared.withLock { $0.begin(at: seconds) }
    do {
      let value = try await body()
      return (value, shared.withLock { $0.end(at: seconds, since: start) })
    } catch {
      _ = shared.withLock { $0.end(at: seconds, since: start) }
      throw error
    }
  }

  private var seconds: Double { (ContinuousClock.now - origin).seconds }
}

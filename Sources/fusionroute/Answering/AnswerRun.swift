internal import Core
internal import Foundation

/// Has prompts answered: several at once, shown in order.
struct AnswerRun: Sendable {
  var options: GenerationOptions
  /// Whether the legend and the closing summary are shown.
  var showsSummary: Bool
  /// Whether each answer is headed by its prompt.
  var showsPrompts: Bool

  private typealias Events = AsyncThrowingStream<AnswerEvent, any Error>

  /// One prompt's events, as its task produces them.
  private struct Job: Sendable {
    var prompt: Prompt?
    var events: Events
  }

  /// Returns when all prompts are answered. Throws the error with the highest exit code, after all have had their turn.
  func answer(_ source: PromptSource, with answerer: some Answerer) async throws {
    let style = Style(.standardOutput)
    let errorStyle = Style(.standardError)
    if showsSummary { Summary.showLegend(experts: answerer.experts) }
    var printer = AnswerPrinter(
      kind: options.format == .json ? .json : .text, style: style, experts: answerer.experts,
      showsPrompts: showsPrompts)
    var worst: FusionRouteError?
    let (jobs, queue) = AsyncStream<Job>.makeStream()
    let limiter = Limiter(answerer.parallelism)
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask {
        defer { queue.finish() }
        await withTaskGroup(of: Void.self) { decoding in
          for await item in source.items() {
            await limiter.enter()
            if Task.isCancelled { break }
            let (job, work) = prepare(item, answerer: answerer)
            queue.yield(job)
            decoding.addTask {
              await work()
              await limiter.leave()
            }
          }
        }
      }
      // Leaving early by an error cancels what is still being decoded.
      for await job in jobs {
        guard let error = try await show(job, printer: &printer) else { continue }
        if error.code.exitCode > (worst?.code.exitCode ?? 0) { worst = error }
      }
    }
    if showsSummary, printer.totals.answers > 0 {
      note("\n" + Summary.table(printer.totals, experts: answerer.experts, style: errorStyle))
    }
    if Task.isCancelled { throw FusionRouteError.interrupted("interrupted") }
    if let worst { throw Reported(error: worst) }
  }

  /// A prompt's job and the work that answers it; its events collect until they are shown.
  private func prepare(
    _ item: PromptSource.Item, answerer: some Answerer
  ) -> (job: Job, work: @Sendable () async -> Void) {
    let (events, continuation) = Events.makeStream()
    let prompt: Prompt
    do { prompt = try item.get() } catch {
      continuation.finish(throwing: error)
      return (Job(prompt: nil, events: events), {})
    }
    return (
      Job(prompt: prompt, events: events),
      {
        do {
          try await answerer.answer(prompt, options: options) { continuation.yield($0) }
          continuation.finish()
        } catch {
          continuation.finish(throwing: error)
        }
      }
    )
  }

  /// Shows a job to its end; returns the error that ended it, if one did.
  private func show(_ job: Job, printer: inout AnswerPrinter) async throws -> FusionRouteError? {
    try printer.begin(job.prompt)
    var failure: FusionRouteError?
    do {
      for try await event in job.events { try printer.add(event) }
      // Iteration ends without an error when this task is cancelled.
      if Task.isCancelled { failure = .interrupted("interrupted") }
    } catch {
      failure = Self.naming(job.prompt, Failure.known(error) ?? .internal("decoding failed", cause: error))
    }
    try printer.end(failure)
    if let failure, failure.code != .interrupted { Failure.report(failure) }
    return failure
  }

  /// The error with the prompt's place before its sentence.
  private static func naming(_ prompt: Prompt?, _ error: FusionRouteError) -> FusionRouteError {
    guard let label = prompt?.label, error.code != .interrupted else { return error }
    return FusionRouteError(error.code, "\(label): \(error.message)", cause: error.cause)
  }

  private func note(_ text: String) { try? FileHandle.standardError.write(contentsOf: Data(text.utf8)) }
}

/// An error whose sentence was shown when it happened; only its exit code is left.
struct Reported: Error { let error: FusionRouteError }

/// Lets a bounded number of tasks in; the others wait in order.
actor Limiter {
  private var free: Int
  private var waiting: [CheckedContinuation<Void, Never>] = []

  init(_ limit: Int) { free = limit }

  func enter() async {
    if free > 0 { free -= 1 } else { await withCheckedContinuation { waiting.append($0) } }
  }

  func leave() {
    if waiting.isEmpty { free += 1 } else { waiting.removeFirst().resume() }
  }
}

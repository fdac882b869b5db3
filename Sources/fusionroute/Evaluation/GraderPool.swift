internal import Core
internal import Evaluation
internal import Foundation
internal import Launch
internal import Synchronization

/// Several instances of a persistent grader (see ``GraderProtocol``), each with one answer at a time.
final class GraderPool: Sendable {
  /// What an instance may take for one answer.
  static let defaultTimeout = Duration.seconds(120)

  let command: String
  private let directory: String?
  private let timeout: Duration
  private let limiter: Limiter
  private let state: Mutex<State>

  private struct State {
    var idle: [LineProcess] = []
    /// Answers that were graded, and those that the grader failed on, by task.
    var graded: [String: Int]
    var failed: [String: Int] = [:]
  }

  /// The grader died or took too long, twice.
  private struct FailedTwice: Error {
    var error: any Error
  }

  /// - Parameters:
  ///   - directory: where the command runs; nil: here.
  ///   - instances: how many run at once; each starts when it is first needed.
  ///   - graded: answers of each task that it has graded before.
  init(
    command: String, directory: String?, instances: Int, timeout: Duration = defaultTimeout, graded: [String: Int] = [:]
  ) {
    self.command = command
    self.directory = directory
    self.timeout = timeout
    limiter = Limiter(max(1, instances))
    state = Mutex(State(graded: graded))
  }

  /// An answer that the grader fails on twice, by its end or by the timeout, is wrong. Throws `badInput` if the grader
  /// finds the task's line at fault, `unavailable` if it says that it lacks something, fails on an empty answer too, or on
  /// more than single ones.
  func grade(_ task: EvaluationTask, text: String) async throws -> Grade {
    await limiter.enter()
    do {
      let grade = try await verdict(task, text: text)
      await limiter.leave()
      return grade
    } catch {
      await limiter.leave()
      throw error
    }
  }

  /// Whether the task can be graded at all: it grades an empty answer, which counts for nothing. Throws as ``grade(_:text:)``.
  func check(_ task: EvaluationTask) async throws {
    await limiter.enter()
    do {
      _ = try await gradeOnce(task, text: "", isAgain: false)
      await limiter.leave()
    } catch {
      await limiter.leave()
      throw (error as? FailedTwice)?.error ?? error
    }
  }

  private func verdict(_ task: EvaluationTask, text: String) async throws -> Grade {
    do {
      let grade = try await gradeOnce(task, text: text, isAgain: false)
      state.withLock { $0.graded[task.task, default: 0] += 1 }
      return grade
    } catch let failure as FailedTwice {
      guard !Self.lacksSomething(failure.error), try await isAtFault(task) else { throw failure.error }
      let message = (failure.error as? FusionRouteError)?.message ?? "\(failure.error)"
      warn("the grader failed on an answer to \(task.id) twice, which counts as wrong: \(message)")
      return Grade(passed: false, reason: "the grader failed on this answer twice: \(message)")
    }
  }

  /// Whether the grader ended with the exit code that says so (``GraderProtocol``): no answer is to blame for that.
  private static func lacksSomething(_ error: any Error) -> Bool {
    let exited = (error as? FusionRouteError)?.cause as? LineProcess.Exited
    return exited?.code == FusionRouteError.Code.unavailable.exitCode
  }

  /// Whether an answer that the grader failed on is at fault, and not the grader.
  private func isAtFault(_ task: EvaluationTask) async throws -> Bool {
    let isSingle = state.withLock { state in
      // A grader that does not say that it lacks something may grade an empty answer and no other of this task.
      state.failed[task.task, default: 0] += 1
      return state.failed[task.task, default: 0] <= max(1, state.graded[task.task, default: 0])
    }
    guard isSingle else { return false }
    do { _ = try await gradeOnce(task, text: "", isAgain: true) } catch is FailedTwice { return false }
    return true
  }

  private func warn(_ text: String) {
    let style = Style(.standardError)
    let line = TokenPainter.printable(text).split(whereSeparator: \.isNewline).joined(separator: " ")
    // On a terminal the line of the progress stands there.
    let start = style.isTerminal ? "\r\u{1B}[K" : ""
    try? FileHandle.standardError.write(
      contentsOf: Data((start + style.paint("warning: ", .warning) + line + "\n").utf8))
  }

  private func gradeOnce(_ task: EvaluationTask, text: String, isAgain: Bool) async throws -> Grade {
    try Task.checkCancellation()
    // A fresh one the second time: each of those that are idle may have died of an earlier answer.
    let idle = isAgain ? nil : state.withLock { $0.idle.popLast() }
    let instance = try idle ?? LineProcess(command: command, directory: directory)
    let request = GraderProtocol.request(task, text: text)
    let reply: String
    do {
      reply = try await withTaskCancellationHandler {
        try await onThread { [timeout] in try instance.ask(request, timeout: timeout) }
      } onCancel: {
        instance.kill()
      }
    } catch {
      try Task.checkCancellation()
      guard isAgain else { return try await gradeOnce(task, text: text, isAgain: true) }
      throw FailedTwice(error: error)
    }
    do {
      let grade = try GraderProtocol.grade(reply, for: task, command: command)
      state.withLock { $0.idle.append(instance) }
      return grade
    } catch {
      // Out of step, or about to be: it is not asked again.
      try? await onThread { instance.stop() }
      throw error
    }
  }

  /// Ends all instances.
  func stop() async {
    let all = state.withLock { state in
      defer { state.idle = [] }
      return state.idle
    }
    try? await onThread { for instance in all { instance.stop() } }
  }
}

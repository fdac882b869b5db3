internal import Core
internal import Evaluation
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
  private let idle = Mutex<[LineProcess]>([])

  /// - Parameters:
  ///   - directory: where the command runs; nil: here.
  ///   - instances: how many run at once; each starts when it is first needed.
  init(command: String, directory: String?, instances: Int, timeout: Duration = defaultTimeout) {
    self.command = command
    self.directory = directory
    self.timeout = timeout
    limiter = Limiter(max(1, instances))
  }

  /// Throws `badInput` if the grader finds the task's line at fault, `unavailable` if it fails twice.
  func grade(_ task: EvaluationTask, text: String) async throws -> Grade {
    await limiter.enter()
    do {
      let grade = try await gradeOnce(task, text: text, mayRetry: true)
      await limiter.leave()
      return grade
    } catch {
      await limiter.leave()
      throw error
    }
  }

  private func gradeOnce(_ task: EvaluationTask, text: String, mayRetry: Bool) async throws -> Grade {
    try Task.checkCancellation()
    let instance = try idle.withLock { $0.popLast() } ?? LineProcess(command: command, directory: directory)
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
      // One that died may have died of an earlier answer.
      if mayRetry { return try await gradeOnce(task, text: text, mayRetry: false) }
      throw error
    }
    do {
      let grade = try GraderProtocol.grade(reply, for: task, command: command)
      idle.withLock { $0.append(instance) }
      return grade
    } catch {
      // Out of step, or about to be: it is not asked again.
      try? await onThread { instance.stop() }
      throw error
    }
  }

  /// Ends all instances.
  func stop() async {
    let all = idle.withLock { instances in
      defer { instances = [] }
      return instances
    }
    try? await onThread { for instance in all { instance.stop() } }
  }
}

internal import Core
internal import Evaluation
internal import Foundation
internal import Synchronization

/// Grades what a demo shows.
final class DemoGrader: Sendable {
  private let pool: GraderPool
  private let isOptional: Bool
  private let isGone = Atomic<Bool>(false)

  /// - Parameter isOptional: nobody asked for it: where it lacks something, such as a sandbox, answers are shown ungraded.
  init(command: String, isOptional: Bool) {
    pool = GraderPool(command: command, directory: nil, instances: 2)
    self.isOptional = isOptional
  }

  /// The grade of an answer; nil once an optional grader has failed. Throws as ``GraderPool/grade(_:text:)``.
  func grade(_ task: EvaluationTask, text: String) async throws -> Grade? {
    guard !isGone.load(ordering: .relaxed) else { return nil }
    do { return try await pool.grade(task, text: text) } catch let error as FusionRouteError
      where isOptional && error.code != .interrupted
    {
      if !isGone.exchange(true, ordering: .relaxed) {
        let sentence = TokenPainter.printable("answers are shown ungraded from here on: \(error.message)")
        try? FileHandle.standardError.write(contentsOf: Data((sentence + "\n").utf8))
      }
      return nil
    }
  }

  func stop() async { await pool.stop() }
}

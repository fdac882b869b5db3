import Core
import Foundation
import Launch
import Testing

@testable import Evaluation
@testable import fusionroute

/// What becomes of an answer that a grader does not survive: it is wrong if the grader grades others.
@Suite struct GraderPoolTests {
  /// Passes every answer, but ends at one that says "die" and at all of the task "broken", says that it lacks something for
  /// "lacking", and takes too long for "hang".
  private static let grader = """
    while read -r line; do
      case "$line" in
        *die* | *broken*) echo "no more" >&2; exit 1 ;;
        *lacking*) echo "no sandbox" >&2; exit 69 ;;
        *hang*) sleep 60 ;;
        *once*) echo '{"id":"p1","passed":true}'; exit ;;
      esac
      echo '{"id":"p1","passed":true}'
    done
    """

  // As the program does: a grader may be gone when it is asked.
  init() { SignalTrap.ignoreBrokenPipes() }

  private func task(_ name: String = "some") -> EvaluationTask {
    EvaluationTask(
      id: "p1", task: name, content: .messages([.init(role: "user", content: "q")]), prompt: "q", grader: .null,
      line: "q")
  }

  private func withPool(
    instances: Int, timeout: Duration = .seconds(20), graded: [String: Int] = [:],
    _ body: (GraderPool) async throws -> Void
  ) async throws {
    let pool = GraderPool(
      command: Self.grader, directory: nil, instances: instances, timeout: timeout, graded: graded)
    do { try await body(pool) } catch {
      await pool.stop()
      throw error
    }
    await pool.stop()
  }

  private func fails(_ pool: GraderPool, _ task: EvaluationTask) async {
    let error = await #expect(throws: FusionRouteError.self) { _ = try await pool.grade(task, text: "die") }
    #expect(error?.code == .unavailable && error?.message.contains("no more") == true, "\(String(describing: error))")
  }

  @Test func aGraderThatGradesNothingEndsAll() async throws {
    try await withPool(instances: 2, graded: ["broken": 9]) { pool in
      await fails(pool, task("broken"))
      // Nor do several at once make up for each other.
      await withTaskGroup(of: Void.self) { group in
        for _ in 0..<4 { group.addTask { await fails(pool, task("broken")) } }
      }
    }
  }

  /// Whatever it grades otherwise, empty answers too.
  @Test func whatTheGraderLacksIsNoAnswersFault() async throws {
    try await withPool(instances: 1, graded: ["some": 9]) { pool in
      for _ in 0..<2 {
        let error = await #expect(throws: FusionRouteError.self) { _ = try await pool.grade(task(), text: "lacking") }
        #expect(error?.code == .unavailable && error?.message.contains("no sandbox") == true)
        let other = try await pool.grade(task(), text: "words")
        #expect(other.passed)
      }
    }
  }

  /// Also if it is the first that is graded, or the only one that is left.
  @Test func theFirstAnswerMayBeWrong() async throws {
    try await withPool(instances: 1) { pool in
      let wrong = try await pool.grade(task(), text: "die")
      #expect(!wrong.passed)
    }
    try await withPool(instances: 1, graded: ["some": 2]) { pool in
      for _ in 0..<2 {
        let wrong = try await pool.grade(task(), text: "die")
        #expect(!wrong.passed)
      }
      await fails(pool, task())
    }
  }

  @Test func oneThatGradesOthersGoesOn() async throws {
    try await withPool(instances: 1) { pool in
      #expect(try await pool.grade(task(), text: "fine").passed)
      let wrong = try await pool.grade(task("another"), text: "die")
      let reason = wrong.reason ?? ""
      #expect(!wrong.passed && wrong.score == 0, "\(wrong)")
      #expect(reason.hasPrefix("the grader failed on this answer twice: ") && reason.contains("no more"), "\(reason)")
      #expect(try await pool.grade(task(), text: "fine").passed)
    }
  }

  @Test func timeoutsCountToo() async throws {
    try await withPool(instances: 1, timeout: .seconds(3)) { pool in
      #expect(try await pool.grade(task(), text: "fine").passed)
      let wrong = try await pool.grade(task(), text: "hang")
      #expect(!wrong.passed && wrong.reason?.contains("did not answer within 3 s") == true, "\(wrong)")
    }
  }

  /// One that can grade nothing of a task, for want of what it needs for it, is not taken for one that can.
  @Test func mostOfATaskMustBeGraded() async throws {
    try await withPool(instances: 1) { pool in
      for _ in 0..<3 {
        let fine = try await pool.grade(task(), text: "fine")
        #expect(fine.passed)
      }
      let first = try await pool.grade(task("code"), text: "die")
      #expect(!first.passed)
      await fails(pool, task("code"))
      let other = try await pool.grade(task(), text: "die")
      #expect(!other.passed)
    }
  }

  /// Instances that died of earlier answers are no fault of this one, however many they are.
  @Test func theSecondTryIsAFreshOne() async throws {
    try await withPool(instances: 3) { pool in
      let task = task()
      try await withThrowingTaskGroup(of: Bool.self) { group in
        for _ in 0..<3 { group.addTask { try await pool.grade(task, text: "once").passed } }
        for try await passed in group { #expect(passed) }
      }
      #expect(try await pool.grade(task, text: "fine").passed)
    }
  }
}

import Core
import Foundation
import Launch
import Testing

@testable import Evaluation
@testable import fusionroute

/// What becomes of an answer that a grader does not survive: it is wrong if the grader grades others.
@Suite struct GraderPoolTests {
  /// Passes every answer, but ends at one that says "die", takes a second for "late" and too long for "hang".
  private static let grader = """
    while read -r line; do
      case "$line" in
        *die*) echo "no more" >&2; exit 1 ;;
        *hang*) sleep 60 ;;
        *late*) : > "$MARK"; sleep 1 ;;
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
    instances: Int, timeout: Duration = .seconds(20), _ body: (GraderPool, _ mark: String) async throws -> Void
  ) async throws {
    let mark = FileManager.default.temporaryDirectory.appendingPathComponent("grader-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: mark) }
    let pool = GraderPool(
      command: "MARK='\(mark)'\n\(Self.grader)", directory: nil, instances: instances, timeout: timeout)
    do { try await body(pool, mark) } catch {
      await pool.stop()
      throw error
    }
    await pool.stop()
  }

  private func fails(_ pool: GraderPool, _ task: EvaluationTask) async {
    let error = await #expect(throws: FusionRouteError.self) { _ = try await pool.grade(task, text: "die") }
    #expect(error?.code == .unavailable && error?.message.contains("no more") == true, "\(String(describing: error))")
  }

  @Test func aGraderThatHasGradedNothingEndsAll() async throws {
    try await withPool(instances: 2) { pool, _ in
      await fails(pool, task())
      // Nor do several at once make up for each other.
      await withTaskGroup(of: Void.self) { group in
        for _ in 0..<4 { group.addTask { await fails(pool, task()) } }
      }
    }
  }

  @Test func oneThatGradesOthersGoesOn() async throws {
    try await withPool(instances: 1) { pool, _ in
      #expect(try await pool.grade(task(), text: "fine").passed)
      let wrong = try await pool.grade(task("another"), text: "die")
      let reason = wrong.reason ?? ""
      #expect(!wrong.passed && wrong.score == 0, "\(wrong)")
      #expect(reason.hasPrefix("the grader failed on this answer twice: ") && reason.contains("no more"), "\(reason)")
      #expect(try await pool.grade(task(), text: "fine").passed)
    }
  }

  @Test func timeoutsCountToo() async throws {
    try await withPool(instances: 1, timeout: .seconds(3)) { pool, _ in
      #expect(try await pool.grade(task(), text: "fine").passed)
      let wrong = try await pool.grade(task(), text: "hang")
      #expect(!wrong.passed && wrong.reason?.contains("did not answer within 3 s") == true, "\(wrong)")
    }
  }

  /// What a grader can do may show later: answers that others are grading meanwhile are waited for.
  @Test func laterVerdictsCount() async throws {
    try await withPool(instances: 2) { pool, mark in
      let (one, other) = (task(), task())
      async let late = pool.grade(one, text: "late")
      for _ in 0..<2_000 where !FileManager.default.fileExists(atPath: mark) {
        try await Task.sleep(for: .milliseconds(5))
      }
      #expect(try await pool.grade(other, text: "die").passed == false)
      #expect(try await late.passed)
    }
  }

  /// One that can grade nothing of a task, for want of what it needs for it, is not taken for one that can.
  @Test func mostOfATaskMustBeGraded() async throws {
    try await withPool(instances: 1) { pool, _ in
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
    try await withPool(instances: 3) { pool, _ in
      let task = task()
      try await withThrowingTaskGroup(of: Bool.self) { group in
        for _ in 0..<3 { group.addTask { try await pool.grade(task, text: "once").passed } }
        for try await passed in group { #expect(passed) }
      }
      #expect(try await pool.grade(task, text: "fine").passed)
    }
  }
}

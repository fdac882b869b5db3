import Core
import Foundation
import Inference
import Testing

@testable import fusionroute

/// Commands of `sample --grader`: what they read, and what ends them.
@Suite struct AnswerGraderTests {
  private let prompt = SamplePrompt(
    messages: [ChatMessage(role: "user", content: "say it")], isText: true, record: #"{"prompt": "say it", "id": 7}"#)

  /// A command whose processes can be told from all others, behind a shell that waits for them.
  struct Slow {
    let seconds = "97.\(UInt32.random(in: 100_000...999_999))"
    var command: String { "sleep \(seconds) | cat" }
    var processes: [Int32] { Product.processes { $0 == ["sleep", seconds] } }

    func wait(_ what: String, until condition: ([Int32]) -> Bool) async throws {
      for _ in 0..<1000 {
        if condition(processes) { return }
        try await Task.sleep(for: .milliseconds(20))
      }
      Issue.record("\(what) did not come: \(processes)")
    }
  }

  @Test func commandsReadAnAnswer() async throws {
    func score(_ command: String, _ answer: String = "words") async throws -> Double {
      try await AnswerGrader.command(command).score(prompt, answer: answer)
    }
    let look = "import json, sys; c = json.load(open(sys.argv[1])); "
    let isRight = #"c["prompt"] == "say it" and json.loads(c["record"])["id"] == 7 and c["answer"] == "words""#
    for source in ["/dev/stdin", "/proc/self/fd/0"] {
      #expect(try await score("python3 -c '\(look)sys.exit(0 if \(isRight) else 1)' \(source)") == 1)
    }
    // A line, as `read` needs it.
    #expect(try await score("read -r line && test \"${line#*words}\" != \"$line\"") == 1)
    #expect(try await score("exit 1") == 0)
    #expect(try await score("echo said; echo more > /dev/stdout") == 1)
    // More than any pipe holds, which nobody reads.
    let long = String(repeating: "word ", count: 1 << 18)
    #expect(try await score("exit 1", long) == 0)
    #expect(try await score("test $(wc -c) -gt \(long.utf8.count)", long) == 1)
    for (command, word) in [("exit 3", "exit code 3"), ("kill -9 $$", "signal 9")] {
      let error = await #expect(throws: FusionRouteError.self) { _ = try await score(command) }
      #expect(error?.code == .badInput && error?.message.contains(word) == true, "\(String(describing: error))")
    }
  }

  @Test func whatTakesTooLongEndsWithAllThatItStarted() async throws {
    let slow = Slow()
    // However much it is given to read.
    let grader = AnswerGrader.command(slow.command, limit: .milliseconds(500))
    let start = ContinuousClock.now
    let error = await #expect(throws: FusionRouteError.self) {
      _ = try await grader.score(prompt, answer: String(repeating: "word ", count: 1 << 18))
    }
    #expect(ContinuousClock.now - start < .seconds(60))
    #expect(error?.code == .unavailable && error?.message.contains("the grader `\(slow.command)` took longer") == true)
    try await slow.wait("the end") { $0.isEmpty }
  }

  @Test func aCancellationEndsAllThatItStarted() async throws {
    let slow = Slow()
    let task = Task { try await AnswerGrader.command(slow.command).score(prompt, answer: "words") }
    try await slow.wait("the beginning") { !$0.isEmpty }
    let start = ContinuousClock.now
    task.cancel()
    await #expect(throws: CancellationError.self) { try await task.value }
    #expect(ContinuousClock.now - start < .seconds(60))
    try await slow.wait("the end") { $0.isEmpty }
  }
}

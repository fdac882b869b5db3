import Core
import Foundation
import Testing

@testable import Launch

@Suite struct CommandRunTests {
  private func shell(_ script: String, input: String = "", limit: Duration = .seconds(20)) async throws -> CommandResult
  {
    try await SystemCommands.run(HostCommand("sh", ["-c", script], input: input, limit: limit))
  }

  @Test func streamsAndExits() async throws {
    let result = try await shell("cat; echo oops >&2; exit 3", input: "one\ntwo\n")
    #expect(result == CommandResult(exit: .code(3), output: "one\ntwo\n", errors: "oops\n"))
    #expect(try await shell("kill -9 $$").exit == .signal(9))
  }

  /// More than a pipe holds, in both directions at once.
  @Test func largeStreams() async throws {
    let text = String(repeating: "0123456789abcde\n", count: 40_000)
    let result = try await shell("cat; cat /dev/zero | head -c 300000 >&2", input: text)
    #expect(result.output == text)
    #expect(result.errors.utf8.count == 300_000)
    // A reader that goes away early.
    #expect(try await shell("head -c 1; exit 0", input: text).exit == .code(0))
    // Output beyond the bound is dropped, not kept.
    #expect(try await shell("head -c 3000000 /dev/zero").output.utf8.count == 1 << 20)
  }

  @Test func timeIsUp() async throws {
    do {
      _ = try await shell("sleep 60 & sleep 60", limit: .milliseconds(200))
      Issue.record("it was not stopped")
    } catch let error as FusionRouteError {
      #expect(error.code == .unavailable && error.message.contains("sleep 60"), "\(error)")
    }
  }

  @Test func cancellationEndsTheProcess() async throws {
    let task = Task { try await shell("echo $$; sleep 60") }
    try await Task.sleep(for: .milliseconds(100))
    task.cancel()
    await #expect(throws: CancellationError.self) { try await task.value }
  }

  /// What it reads is a file, so that it may open it by its name; what it writes is for nobody.
  @Test func shellCommandsTellByTheirExit() async throws {
    func exit(_ script: String, limit: Duration = .seconds(20)) async throws -> ProcessExit {
      try await SystemCommands.runShell(script, input: "one\ntwo\n", limit: limit)
    }
    #expect(try await exit("exit $(cat | wc -l)") == .code(2))
    #expect(try await exit("exit $(grep -c two /dev/stdin)") == .code(1))
    #expect(try await exit("cat /dev/zero | head -c 3000000") == .code(0))
    #expect(try await exit("kill -9 $$") == .signal(9))
    let error = await #expect(throws: FusionRouteError.self) {
      _ = try await exit("sleep 60", limit: .milliseconds(200))
    }
    #expect(error?.code == .unavailable && error?.message.contains("`sleep 60` took longer than 0.2 s") == true)
  }

  @Test func missingProgram() async throws {
    do {
      _ = try await SystemCommands.run(HostCommand("no-such-program", ["a b"]), environment: ["PATH": "/usr/bin"])
      Issue.record("it ran")
    } catch let error as FusionRouteError {
      #expect(
        error.message == "there is no no-such-program on PATH, which `no-such-program 'a b'` needs: install it here")
    }
  }

  /// Relative folders on PATH are never looked at.
  @Test func relativeFoldersOfPathAreLeftOut() throws {
    #expect(Spawn.find("sh", environment: ["PATH": ".:bin:/bin:/usr/bin"])?.hasPrefix("/") == true)
    #expect(Spawn.find("sh", environment: ["PATH": "."]) == nil)
  }

  @Test func complaints() {
    let own = CommandResult(exit: .code(65), output: "", errors: "12:00 INFO x\nerror: no such model\nlast\n")
    #expect(own.complaint == "no such model")
    #expect(
      CommandResult(exit: .code(255), output: "", errors: "Permission denied (publickey).\r\n").complaint
        == "Permission denied (publickey).")
    #expect(CommandResult(exit: .code(1), output: "\n", errors: " \n").complaint == nil)
  }
}

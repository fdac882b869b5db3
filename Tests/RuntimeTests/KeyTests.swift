import Core
import Foundation
import Testing

/// Who is let in, and what is refused without keys.
extension ProcessSuites {
  @Suite(.serialized) struct KeyTests {
    @Test("keys: unknown, missing, foreign and revoked ones are shut out with a sentence and 69; others go on")
    func keys() async throws {
      let scratch = try Scratch("keys")
      func keys(_ arguments: [String]) async throws {
        let program = try Program(["keys"] + arguments, in: scratch)
        #expect(try await program.wait() == .exit(0), "\(program.errors)")
      }
      let directory = scratch.path("keys")
      try await keys([directory, "--worker", "a", "--worker", "b", "--worker", "c"])
      try await keys(["revoke", directory, "c"])
      let other = scratch.path("other")
      try await keys([other, "--worker", "a"])
      // A worker's own pair, the right coordinator's key, and not on the list.
      try FileManager.default.createDirectory(atPath: scratch.path("own/workers"), withIntermediateDirectories: true)
      for (from, to) in [
        ("keys/coordinator.pub", "own/coordinator.pub"), ("other/workers/a.pub", "own/workers/a.pub"),
        ("other/workers/a.key", "own/workers/a.key"),
      ] {
        try FileManager.default.copyItem(atPath: scratch.path(from), toPath: scratch.path(to))
      }
      let (run, endpoint, _) = try AttachedRun.coordinator(scratch, extra: "security: { keys: \(directory) }\n")
      func worker(_ expert: Int, _ arguments: [String]) throws -> Program {
        try SecurityWorker.start(expert, endpoint, in: scratch, ["--orphan-after", "4s"] + arguments)
      }
      let math = try worker(0, ["--keys", directory, "--key", "a"])
      let code = try worker(1, ["--keys", directory, "--key", "b"])
      try await run.until("two workers") { FaultTests.registered($0).count == 2 }
      let (reference, _) = try await FaultTests.answer(run, FaultTests.prompts[1])
      #expect(reference.error == nil && reference.tokens.count == FaultTests.length)

      for (name, arguments, words) in [
        ("no key", [], ["keys"]), ("not on the list", ["--keys", scratch.path("own"), "--key", "a"], ["allow-list"]),
        ("revoked", ["--keys", directory, "--key", "c"], ["allow-list"]),
        ("another coordinator's", ["--keys", other, "--key", "a"], ["key"]),
      ] as [(String, [String], [String])] {
        let stranger = try worker(0, arguments)
        let start = ContinuousClock.now
        let end = try await stranger.wait(15)
        print("keys: \(name): \(end) after \(ContinuousClock.now - start): \(stranger.errorLines)")
        #expect(end == .exit(69), "\(name): \(stranger.errors)")
        #expect(stranger.errorLines.count == 1, "\(name): \(stranger.errors)")
        for word in words { #expect(stranger.errorLines.first?.contains(word) == true, "\(name): \(stranger.errors)") }
      }
      #expect(FaultTests.registered(run).count == 2)
      #expect(try await FaultTests.answer(run, FaultTests.prompts[1]).answer.tokens == reference.tokens)

      // Revoked while it works: its expert is lost at once, the other goes on.
      try await keys(["revoke", directory, "b"])
      let (lost, _) = try await FaultTests.answer(run, FaultTests.prompts[1])
      #expect(lost.error?.message.contains("\"code\"") == true, "\(lost.error?.message ?? "answered")")
      let alone = #"{"prompt":"One","raw":true,"max_tokens":5,"mode":"expert:math"}"#
      #expect(try await FaultTests.answer(run, alone).answer.error == nil)
      #expect(try await code.wait(20) == .exit(69))
      #expect(code.errorLines.count == 1, "\(code.errors)")
      try await keys(["add", directory, "d"])
      let next = try worker(1, ["--keys", directory, "--key", "d"])
      try await run.until("the successor") { FaultTests.registered($0).count == 3 }
      #expect(try await FaultTests.answer(run, FaultTests.prompts[1]).answer.tokens == reference.tokens)
      try await AttachedRun.end(run, [math, next], code: 69)
    }

    @Test("endpoints beyond loopback without keys are refused with 65, on both sides; so are bad keys")
    func refusedWithoutKeys() async throws {
      let scratch = try Scratch("nokeys")
      let models = try FaultModels.shared.get()
      let cluster = try models.cluster(in: scratch, extra: "listen: { workers: \"tcp://0.0.0.0:0\" }\n")
      for command in [
        ["run", "-c", cluster, "--prompt", "One"], ["run", "-c", cluster, "--attach"], ["workers", "-c", cluster],
      ] {
        try await BadInputTests.expectRefused(command, in: scratch, words: ["security.keys", ":5:"])
      }
      let worker = ["worker", "--expert", "math", "--model", models.expert(0), "--coordinator"]
      try await BadInputTests.expectRefused(
        worker + ["tcp://192.0.2.1:5570"], in: scratch, words: ["192.0.2.1", "--keys"])
      try await BadInputTests.expectRefused(
        worker + ["tcp://127.0.0.1:5570", "--keys", scratch.path("none")], in: scratch, words: ["none"])
      let directory = scratch.path("keys")
      let made = try Program(["keys", directory], in: scratch)
      #expect(try await made.wait() == .exit(0))
      try await BadInputTests.expectRefused(["keys", directory], in: scratch, words: [directory, "--force"])
      try await BadInputTests.expectRefused(["keys", "revoke", directory, "nobody"], in: scratch, words: ["nobody"])
      // A secret key that others may read.
      let secret = directory + "/workers/workers.key"
      chmod(secret, 0o644)
      try await BadInputTests.expectRefused(
        worker + ["tcp://127.0.0.1:5570", "--keys", directory], in: scratch, words: [secret])
      chmod(secret, 0o600)
      try Data("no key".utf8).write(to: URL(fileURLWithPath: secret))
      try await BadInputTests.expectRefused(
        worker + ["tcp://127.0.0.1:5570", "--keys", directory], in: scratch, words: [secret])
    }
  }
}

import Core
import Foundation
import Testing

@testable import fusionroute

/// `keys` as people and scripts use it.
@Suite struct KeysCommandTests {
  private func withKeys(_ body: (String) async throws -> Void) async throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("keys-command-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: folder) }
    try await body(folder.path)
  }

  private func rows(_ folder: String) async throws -> [[String]] {
    let list = try await Product.run(["keys", "list", folder])
    #expect(list.code == 0 && list.errors.isEmpty, "\(list.errors)")
    return list.output.split(separator: "\n").map { $0.components(separatedBy: "\t") }
  }

  private func publicKey(_ folder: String, _ name: String) throws -> String {
    try String(contentsOfFile: "\(folder)/workers/\(name).pub", encoding: .utf8).trimmingCharacters(
      in: .whitespacesAndNewlines)
  }

  /// One line for each key that may connect: name, role, experts, key.
  @Test func whatTheListSays() async throws {
    try await withKeys { folder in
      let made = try await Product.run(["keys", "generate", folder, "--worker", "gpu2", "--worker", "gpu1"])
      #expect(made.code == 0 && made.output.contains("keys of the coordinator and of gpu2, gpu1"), "\(made.errors)")
      var expected = try ["gpu1", "gpu2"].map { [$0, "worker", "any", try publicKey(folder, $0)] }
      #expect(try await rows(folder) == expected)

      let narrow = try await Product.run(
        ["keys", "add", folder, "narrow", "--expert", "math", "--expert", "code"])
      #expect(narrow.code == 0, "\(narrow.errors)")
      expected.append(["narrow", "worker", "code,math", try publicKey(folder, "narrow")])
      #expect(try await rows(folder) == expected)

      // The same pair as a coordinator's: it serves nothing.
      let other = try await Product.run(
        ["keys", "allow", folder, "narrow", "\(folder)/workers/narrow.pub", "--role", "coordinator", "--force"])
      #expect(other.code == 0, "\(other.errors)")
      expected[2][1...2] = ["coordinator", "-"]
      #expect(try await rows(folder) == expected)

      #expect(try await Product.run(["keys", "revoke", folder, "gpu1"]).code == 0)
      #expect(try await rows(folder) == Array(expected.dropFirst()))
    }
  }

  @Test func narrowedWhenMade() async throws {
    try await withKeys { folder in
      let made = try await Product.run(
        ["keys", folder, "--worker", "a", "--worker", "b", "--expert", "math", "--expert", "code"])
      #expect(made.code == 0, "\(made.errors)")
      #expect(
        try await rows(folder)
          == (try ["a", "b"].map { [$0, "worker", "code,math", try publicKey(folder, $0)] }))
      let allowed = try String(contentsOfFile: "\(folder)/allowed/a.pub", encoding: .utf8)
      #expect(
        allowed.hasPrefix(try publicKey(folder, "a") + "\n") && allowed.contains("experts: code, math\n"), "\(allowed)")
      let wrong = try await Product.run(["keys", folder + "-2", "--expert", "a,b"])
      #expect(wrong.code == 65 && wrong.errors.contains("\"a,b\" cannot name an expert"), "\(wrong.errors)")
    }
  }

  @Test func anEmptyListIsNoError() async throws {
    try await withKeys { folder in
      let none = try await Product.run(["keys", "list", folder])
      #expect(none.code == 0 && none.output.isEmpty)
    }
  }
}

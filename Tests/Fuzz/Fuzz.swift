import Foundation
import FuzzSupport

/// Usage: fusionroute-fuzz [MESSAGES [SEED]]
///
/// Sends so many damaged messages of every type through the codec, a coordinator's and a worker's side, and says what came
/// of it. Meant for a build with a sanitizer; see Deploy/checks/fuzz.
@main
enum Fuzz {
  static func main() async throws {
    #if DEBUG
      let arguments = CommandLine.arguments.dropFirst()
      let messages = arguments.first.flatMap { Int($0) } ?? 1_000_000
      let seed = arguments.dropFirst().first.flatMap { UInt64($0) } ?? UInt64.random(in: 0...UInt64.max)
      tell("fuzz: \(messages) messages, seed \(seed)")
      let violations = try await FuzzSession(messages: messages, seed: seed, rounds: 10).run(print: tell)
      for violation in violations { tell("VIOLATION: \(violation)") }
      tell(violations.isEmpty ? "fuzz: no crash, no violation, no growth" : "fuzz: FAILED")
      exit(violations.isEmpty ? 0 : 1)
    #else
      tell("fusionroute-fuzz needs a debug build")
      exit(64)
    #endif
  }

  /// At once, also into a file.
  private static func tell(_ line: String) { FileHandle.standardOutput.write(Data((line + "\n").utf8)) }
}

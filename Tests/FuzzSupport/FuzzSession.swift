// `@testable` exists in debug builds only.
#if DEBUG
  import Foundation

  /// Codec, coordinator and worker in turn, in rounds, so that memory can be compared from one to the next.
  package struct FuzzSession {
    package var messages: Int
    package var seed: UInt64
    package var rounds: Int

    package init(messages: Int, seed: UInt64, rounds: Int) {
      self.messages = messages
      self.seed = seed
      self.rounds = max(1, rounds)
    }

    /// Prints what came of each part; returns what was wrong.
    package func run(print: (String) -> Void) async throws -> [String] {
      var violations: [String] = []
      var memory: [Int] = []
      var damaged = 0
      func tell(_ what: String, _ report: FuzzReport) {
        print("\(what): \(report.description)")
        damaged += report.damaged
        violations += report.violations.map { "\(what): \($0)" }
      }
      for round in 0..<rounds {
        let part = messages / rounds
        let own = seed &+ UInt64(round)
        tell("codec", CodecFuzz.run(messages: part / 2, seed: own))
        tell("coordinator", await CoordinatorFuzz(seed: own).run(messages: part * 2 / 5))
        tell("worker", try await WorkerFuzz(seed: own).run(messages: part - part / 2 - part * 2 / 5))
        memory.append(Self.residentKilobytes)
        print("memory: \(memory[round]) KiB")
      }
      print("\(damaged) damaged messages in all")
      // The first rounds fill caches and a sanitizer's quarantine.
      if rounds >= 6, let late = memory.last, late > memory[2] + memory[2] / 5 + 16_384 {
        violations.append("memory grew from \(memory[2]) to \(late) KiB")
      }
      return violations
    }

    /// Kibibytes that this process has in memory; 0 where the system does not say.
    private static var residentKilobytes: Int {
      let text = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
      let line = text.split(separator: "\n").first { $0.hasPrefix("VmRSS:") } ?? ""
      return line.split { $0 == " " || $0 == "\t" }.dropFirst().first.flatMap { Int($0) } ?? 0
    }
  }
#endif

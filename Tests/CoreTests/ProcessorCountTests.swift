import Foundation
import Testing

@testable import Core

@Suite struct ProcessorCountTests {
  @Test(
    "the affinity mask of /proc/self/status",
    arguments: [
      ("Name:\tx\nCpus_allowed:\t3\nCpus_allowed_list:\t0-1\n", 2),
      ("Cpus_allowed:\tff,ffffffff,00000000\nCpus_allowed_list:\t32-71\n", 40),
      ("Cpus_allowed:\t00000000,00000004\n", 1), ("Name:\tx\n", nil), ("", nil),
    ] as [(String, Int?)])
  func mask(status: String, count: Int?) { #expect(ProcessorCount.allowed(inStatus: status) == count) }

  #if os(Linux)
    @Test("no more processors than coreutils counts, which heeds the mask too")
    func likeNproc() throws {
      let process = Process()
      process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
      process.arguments = ["-u", "OMP_NUM_THREADS", "-u", "OMP_THREAD_LIMIT", "nproc"]
      let output = Pipe()
      process.standardOutput = output
      try process.run()
      let text = String(decoding: try output.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
      process.waitUntilExit()
      let count = try #require(Int(text.trimmingCharacters(in: .whitespacesAndNewlines)))
      #expect(ProcessorCount.usable == max(1, min(count, ProcessInfo.processInfo.activeProcessorCount)))
    }
  #endif
}

import Foundation
import Testing

@testable import fusionroute

/// `bench scale`: every step of every stub is checked by the bench itself; here, that it measures what it says.
@Suite(.serialized) struct ScaleBenchTests {
  private struct Report: Decodable {
    struct Row: Decodable {
      var workers: Int
      var streams: Int
      var steps_per_second: Double
      var limit_steps_per_second: Double
      var steps_per_coordinator_core: Double
      var added_p99_ms: Double
      var failovers: Int
    }
    var rows: [Row]
    var streams_per_worker: Int
  }

  @Test func measuresEachNumberOfWorkers() async throws {
    let result = try await Product.run([
      "bench", "scale", "--workers", "1,2", "--streams", "3", "--base", "10ms", "--per-sequence", "5ms", "--time",
      "500ms", "--format", "json",
    ])
    #expect(result.code == 0, "\(result.errors)")
    let report = try JSONDecoder().decode(Report.self, from: Data(result.output.utf8))
    #expect(report.rows.map(\.workers) == [1, 2] && report.rows.map(\.streams) == [3, 6])
    for row in report.rows {
      // A batch of three takes 25 ms, so no more than 120 steps per second and worker.
      #expect(abs(row.limit_steps_per_second - 120 * Double(row.workers)) < 0.01)
      #expect(row.steps_per_second > 0 && row.steps_per_second <= row.limit_steps_per_second * 1.2)
      #expect(row.steps_per_coordinator_core > 0 && row.added_p99_ms > 0 && row.failovers == 0)
    }
  }

  @Test func refusesWhatMakesNoSense() async throws {
    for arguments in [
      ["--workers", "0"], ["--workers", "1,x"], ["--workers", ""], ["--streams", "0"], ["--time", "1ms"],
      ["--base", "0s", "--per-sequence", "0s"],
    ] { #expect(try await Product.run(["bench", "scale"] + arguments).code == 64, "\(arguments)") }
    #expect(WorkerCounts(argument: "1,2,64")?.counts == [1, 2, 64])
    #expect(StubArgument(argument: "20ms+2ms")?.model.perSequence == .milliseconds(2))
    #expect(StubArgument(argument: "20ms") == nil)
  }
}

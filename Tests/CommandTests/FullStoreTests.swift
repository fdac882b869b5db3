#if os(Linux)
  import Core
  import Foundation
  import Testing

  @testable import Evaluation
  @testable import fusionroute

  /// Files of answers on a disk that takes the beginning of a line only, and has room again when that is taken back.
  @Suite(.enabled(if: SmallDisk.isPossible, "needs the right to mount a tmpfs"))
  struct FullStoreTests {
    private static let bytes = 1 << 16

    /// - Parameter add: adds the answer of a number, which is of this text.
    private func fill(_ path: String, _ add: (Int, String) throws -> Void) throws {
      try add(0, "a")
      let before = try Data(contentsOf: URL(fileURLWithPath: path))
      // Others are under way when one does not fit.
      var errors: [FusionRouteError] = []
      for (number, text) in [(1, String(repeating: "x", count: 2 * Self.bytes)), (2, "b"), (3, "c")] {
        let error = #expect(throws: FusionRouteError.self, "\(number)") { try add(number, text) }
        errors += [error].compactMap { $0 }
      }
      #expect(errors.count == 3 && errors.allSatisfy { $0.code == .unavailable && $0.message.contains(path) })
      #expect(Set(errors.map(\.description)).count == 1, "\(errors)")
      #expect(try Data(contentsOf: URL(fileURLWithPath: path)) == before)
    }

    @Test func samplesStayWhole() throws {
      let disk = try #require(SmallDisk(bytes: Self.bytes))
      let path = "\(disk.path)/samples"
      func answer(_ number: Int, _ text: String) -> SampledAnswer {
        SampledAnswer(prompt: number, sample: 0, text: text, isComplete: true, score: 1, tokens: 1)
      }
      let store = try SampleStore(path: path, identity: "one")
      try fill(path) { try store.add(answer($0, $1)) }
      #expect(store.answers == [answer(0, "a")])
      let again = try SampleStore(path: path, identity: "one")
      try again.add(answer(1, "b"))
      #expect(try SampleStore(path: path, identity: "one").answers == [answer(0, "a"), answer(1, "b")])
    }

    @Test func gradedAnswersStayWhole() throws {
      let disk = try #require(SmallDisk(bytes: Self.bytes))
      let path = "\(disk.path)/results.jsonl"
      func record(_ number: Int, _ text: String) -> AnswerRecord {
        AnswerRecord(
          key: "k\(number)", method: "m", id: "p\(number)", task: "t", text: text, grade: Grade(passed: true))
      }
      let store = try AnswerStore(path: path)
      try fill(path) { try store.add(record($0, $1)) }
      #expect(store.counts == ["t": 1])
      let again = try AnswerStore(path: path)
      try again.add(record(1, "b"))
      let left = try AnswerStore(path: path)
      for (number, text) in [(0, "a"), (1, "b")] {
        #expect(try left.record("k\(number)", method: "m") == record(number, text))
      }
    }
  }
#endif

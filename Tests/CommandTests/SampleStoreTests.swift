import Core
import Foundation
import TestSupport
import Testing

@testable import fusionroute

@Suite struct SampleStoreTests {
  /// Of power that goes or a disk that is full, wherever in the last line that was.
  @Test func aLineThatWasCutOffIsDropped() throws {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("samples-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    let answers = ["für", "zwei ü"].enumerated().map { index, text in
      SampledAnswer(prompt: index, sample: 0, text: text, isComplete: true, score: 1)
    }
    do {
      let store = try SampleStore(path: path, identity: "one")
      for answer in answers { try store.add(answer) }
    }
    let whole = try #require(FileManager.default.contents(atPath: path))
    // From the line feed alone to the text's last character, of two bytes, and before it.
    for cut in 1...8 {
      try whole.dropLast(cut).write(to: URL(fileURLWithPath: path))
      let left = try SampleStore(path: path, identity: "one").answers
      #expect(left == (cut == 1 ? answers : Array(answers.prefix(1))), "without the last \(cut) bytes")
    }
    #expect(throws: FusionRouteError.self) { _ = try SampleStore(path: path, identity: "another") }
  }
}

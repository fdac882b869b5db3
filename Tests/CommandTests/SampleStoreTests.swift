import Core
import Foundation
import Testing

@testable import fusionroute

@Suite struct SampleStoreTests {
  /// Of power that goes or a disk that is full, wherever in the last line that was.
  @Test func aLineThatWasCutOffIsDropped() throws {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("samples-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    let answers = ["für", "zwei ü"].enumerated().map { index, text in
      SampledAnswer(prompt: index, sample: 0, text: text, isComplete: true, score: 1, tokens: index == 0 ? nil : 3)
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

  /// A run with a mistake in its settings must not stand in the way of the mended one.
  @Test func aFileWithoutAnswersIsTakenOver() throws {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("samples-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    _ = try SampleStore(path: path, identity: "one")
    let other = try SampleStore(path: path, identity: "another")
    try other.add(SampledAnswer(prompt: 0, sample: 0, text: "a", isComplete: true, score: 1))
    #expect(throws: FusionRouteError.self) { _ = try SampleStore(path: path, identity: "one") }
    // What is no file of answers is not.
    for text in ["my notes", "my notes\n", "{\"samples_of\":\"one\",\"more\":1}\n"] {
      try Data(text.utf8).write(to: URL(fileURLWithPath: path))
      #expect(throws: FusionRouteError.self, "\(text)") { _ = try SampleStore(path: path, identity: "one") }
      #expect(try String(contentsOfFile: path, encoding: .utf8) == text)
    }
  }
}

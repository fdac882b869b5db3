import Foundation
import Logging
import Testing

@testable import fusionroute

@Suite struct LogTests {
  private let plain = Style(isTerminal: false, depth: .none)
  private let time = Date(timeIntervalSince1970: 1_764_040_001.25)

  private func line(_ metadata: Logger.Metadata, message: String = "done", level: Logger.Level = .info) -> LogLine {
    LogLine(time: time, level: level, label: "a.b", message: message, metadata: metadata)
  }

  private func object(_ text: String) throws -> [String: Any] {
    #expect(text.hasSuffix("\n") && text.dropLast().allSatisfy { !$0.isNewline })
    return try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
  }

  @Test func jsonLines() throws {
    let metadata: Logger.Metadata = [
      "request_id": "r-1", "nested": ["in": ["deep": "x"], "list": ["1", "2\n"]], "level": "own",
    ]
    let fields = try object(line(metadata, message: "two\nlines \"q\"").rendered(.json, style: plain))
    #expect(fields["ts"] as? String == "2025-11-25T03:06:41.250Z")
    #expect(fields["level"] as? String == "info" && fields["label"] as? String == "a.b")
    #expect(fields["message"] as? String == "two\nlines \"q\"")
    #expect(fields["request_id"] as? String == "r-1" && fields["nested.in.deep"] as? String == "x")
    #expect(fields["nested.list"] as? [String] == ["1", "2\n"])
    #expect(fields["metadata.level"] as? String == "own")
    #expect(fields.count == 8)
  }

  /// Foundation's own formatter agrees on the time, whatever the date.
  @Test func timestamps() {
    let formatter = ISO8601DateFormatter()
    formatter.formatOptions = [.withInternetDateTime, .withFractionalSeconds]
    for seconds in [0.0, 951_782_400.5, 1_764_040_001.999, 4_102_444_799.125] {
      let date = Date(timeIntervalSince1970: seconds)
      #expect(LogLine.timestamp(date) == formatter.string(from: date))
    }
  }

  @Test func textAndJournal() {
    let line = line(["n": "1", "why": "a b"], message: "two\nlines", level: .warning)
    #expect(line.rendered(.journal, style: plain) == "<4>two lines n=1 why=\"a b\"\n")
    #expect(line.rendered(.text, style: plain).hasSuffix(" warning  two lines n=1 why=\"a b\"\n"))
  }

  @Test func linesOfWorkers() throws {
    #expect(LogFormat.text.relayed("hello", worker: "ant.0", style: plain) == "[ant.0] hello\n")
    #expect(LogFormat.journal.relayed("<3>broken", worker: "ant.0", style: plain) == "<3>[ant.0] broken\n")
    #expect(LogFormat.journal.relayed("no mark", worker: "ant.0", style: plain) == "<6>[ant.0] no mark\n")
    let own = line(["k": "v"]).rendered(.json, style: plain).trimmingCharacters(in: .newlines)
    let relayed = try object(LogFormat.json.relayed(own, worker: "ant.0", style: plain))
    #expect(relayed["worker"] as? String == "ant.0" && relayed["message"] as? String == "done")
    for other in ["Fatal error: x", "{\"ts\":\"cut", "{}", ""] {
      let wrapped = try object(LogFormat.json.relayed(other, worker: "ant.0", style: plain))
      #expect(wrapped["worker"] as? String == "ant.0" && wrapped["message"] as? String == other)
    }
  }

  @Test func journalIsRecognised() throws {
    let descriptor = open("/dev/null", O_WRONLY)
    defer { close(descriptor) }
    var status = stat()
    try #require(fstat(descriptor, &status) == 0)
    func format(_ stream: String?) -> LogFormat {
      LogFormat.automatic(
        environment: stream.map { ["JOURNAL_STREAM": $0] } ?? [:], descriptor: descriptor)
    }
    #expect(format("\(status.st_dev):\(status.st_ino)") == .journal)
    #expect(format("\(status.st_dev):\(status.st_ino + 1)") == .text)
    #expect(format("x") == .text && format(nil) == .text)
  }
}

import Core
import Foundation
import Testing

@testable import Evaluation

@Suite struct ReportTests {
  private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

  /// One palette for the page and the report.
  @Test func coloursAreThePages() throws {
    let path = Self.root.appendingPathComponent("Sources/Gateway/Page/Site/base.css")
    let page = try String(contentsOf: path, encoding: .utf8)
    let declarations = ReportStyle.palette.split(separator: "\n")
    #expect(declarations.count == 28)
    for declaration in declarations { #expect(page.contains("  \(declaration)\n"), "\(declaration)") }
    let marks = try String(
      contentsOf: Self.root.appendingPathComponent("Sources/Gateway/Page/Site/answer.css"), encoding: .utf8)
    for index in 0..<8 {
      let own = try #require(
        ReportStyle.css.firstMatch(
          of: try Regex(".m\(index)\\{text-decoration-line:([a-z ]+);text-decoration-style:([a-z]+)\\}")))
      let (line, kind) = (own.output[1].substring ?? "", own.output[2].substring ?? "")
      #expect(
        marks.contains(".m\(index) { text-decoration-line: \(line); text-decoration-style: \(kind);"), "m\(index)")
    }
    // 64 experts differ in colour or mark.
    #expect(Set((0..<64).map { ReportStyle.classes($0) }).count == 64)
  }

  private func page(_ text: String) -> (html: String, results: EvaluationResults) {
    let tasks = [Make.task("a<1>"), Make.task("b")]
    var records: [String: [String: AnswerRecord]] = [:]
    for (index, task) in tasks.enumerated() {
      for method in ["fusionroute", "x&y"] {
        var record = Make.record(method, task, passed: index == 0, deciders: [0, 0, 1, nil])
        record.pieces = [text, "one ", "two ", text]
        record.text = record.pieces.joined()
        records[method, default: [:]][task.id] = record
      }
    }
    let results = Make.results(tasks, records, methods: ["x&y", "fusionroute"], resamples: 200)
    return (
      EvaluationReport.page(results, results.summary(), title: "T<b>", facts: [("k", "<v>")]), results
    )
  }

  /// What models write cannot leave its place, and nothing is fetched from elsewhere.
  @Test func pageIsSelfContained() throws {
    let (html, _) = page("</script><img src=x onerror=alert(1)>\u{2028}")
    for (word, count) in [
      ("<img", 0), ("T<b>", 0), ("T&lt;b&gt;", 2), ("&lt;v&gt;", 1), ("</script>", 2), ("\u{2028}", 0), ("<svg", 2),
    ] {
      let found = html.components(separatedBy: word).count - 1
      #expect(found == count, "\(word)")
    }
    // A scalar that makes one Character of itself and what follows.
    let (hidden, _) = page("\u{600}</script><img src=x>\u{600}\u{2028}")
    let bytes = Array(hidden.utf8)
    for (word, count) in [("<img", 0), ("</script>", 2), ("\u{2028}", 0)] {
      let found = bytes.indices.count { bytes[$0...].starts(with: word.utf8) }
      #expect(found == count, "\(word)")
    }
    let (harmless, _) = page("plain")
    for word in ["http://", "https://", "src=", "@import", "url("] {
      let isThere = harmless.contains(word)
      #expect(!isThere, "\(word)")
    }
    // The data reads back as JSON, with the text whole.
    let start = try #require(html.range(of: "<script id=\"data\" type=\"application/json\">"))
    let end = try #require(html.range(of: "</script>", range: start.upperBound..<html.endIndex))
    let data = try JSONSerialization.jsonObject(with: Data(html[start.upperBound..<end.lowerBound].utf8))
    let prompts = try #require((data as? [String: Any])?["prompts"] as? [[String: Any]])
    let answers = try #require(prompts.first?["answers"] as? [[String: Any]])
    let spans = try #require(answers.first?["s"] as? [[Any]])
    #expect(spans.count == 3 && spans.compactMap { $0[0] as? Int } == [0, 1, -1])
    #expect(spans.compactMap { $0[1] as? String }.joined().hasPrefix("</script><img"))
  }

  @Test func numbersAreWrittenPlainly() {
    for (value, places, text) in [
      (1.25, 1, "1.3"), (-0.05, 2, "-0.05"), (12, 0, "12"), (0.004, 2, "0.00"), (99.999, 1, "100.0"),
    ] {
      #expect(HTML.decimal(value, places) == text)
    }
    #expect(HTML.decimal(.nan, 1) == "–" && HTML.points(0.0401) == "+4.0" && HTML.points(-0.00001) == "0.0")
    #expect(HTML.percent(0.4321) == "43.2" && HTML.pValue(0.0001).hasSuffix("0.001"))
  }
}

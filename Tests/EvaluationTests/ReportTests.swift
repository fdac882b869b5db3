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
      ("<img", 0), ("T<b>", 0), ("T&lt;b&gt;", 2), ("&lt;v&gt;", 1), ("</script>", 2), ("\u{2028}", 0), ("<svg", 3),
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

  /// What each claim needs stands in the page: differences by task, with links to the answers behind them.
  @Test func differencesLeadToAnswers() throws {
    let tasks = (0..<4).map { Make.task("p\($0)", task: $0 < 2 ? "one & two" : "three") }
    var records: [String: [String: AnswerRecord]] = [:]
    for (index, task) in tasks.enumerated() {
      records["fusionroute", default: [:]][task.id] = Make.record("fusionroute", task, passed: index != 1)
      records["a#b", default: [:]][task.id] = Make.record("a#b", task, passed: index == 1)
    }
    var results = Make.results(
      tasks, records, methods: ["a#b", "fusionroute"], changesFrom: ["a#b"], expected: ["a#b": 5], resamples: 200)
    results.descriptions = ["a#b": "what <it> is"]
    let html = EvaluationReport.page(results, results.summary(), title: "T", facts: [])
    for (place, count) in [
      ("href='#task=one%20%26%20two&amp;with=a%23b&amp;show=won'>1</a>", 2),
      ("href='#task=one%20%26%20two&amp;with=a%23b&amp;show=lost'>1</a>", 2),
      ("href='#task=three&amp;with=a%23b&amp;show=won'>2</a>", 2), ("what &lt;it&gt; is", 1), ("1 missing", 1),
      // Two plots of accuracies, two of differences and one of their mean, two of shares.
      ("<svg", 7), ("<td>2 × 2", 2),
    ] {
      let found = html.components(separatedBy: place).count - 1
      #expect(found == count, "\(place)")
    }
    // As JavaScript's encodeURIComponent.
    #expect(ReportTables.encoded("é &'=~") == "%C3%A9%20%26%27%3D~")
  }

  /// The first prompts of every task, as far as there is room.
  @Test func browserTakesWhatFits() {
    let tasks = [(0..<5).map { Make.task("a\($0)") }, (0..<2).map { Make.task("b\($0)") }]
    func chosen(_ limit: Int?, _ bytes: Int) -> [[String]] {
      ReportBrowser.chosen(tasks, limit: limit, maximumBytes: bytes) { .string($0.id) }.map { list in
        list.compactMap { if case .string(let id) = $0 { id } else { nil } }
      }
    }
    #expect(chosen(nil, 1_000) == [["a0", "a1", "a2", "a3", "a4"], ["b0", "b1"]])
    #expect(chosen(1, 1_000) == [["a0"], ["b0"]] && chosen(0, 1_000) == [[], []])
    // Four bytes each, with the quotation marks.
    #expect(chosen(nil, 15) == [["a0", "a1"], ["b0"]] && chosen(nil, 3) == [[], []])
  }

  @Test func methodsAreDescribed() {
    let decoding = Method.Decoding(cluster: "/c.yaml", model: "/x/sft/model.gguf", scale: 0.5)
    for (kind, text) in [
      (Method.Kind.decode(.init(cluster: "/c.yaml", mode: "expert:ant")), "the expert ant by itself"),
      (.decode(.init(model: "/m/union/model.gguf", mode: "router")), "one model by itself (model union/model.gguf)"),
      (.decode(.init(cluster: "/c.yaml", mode: "router")), "the router by itself"),
      (.decode(decoding), "the logits of the selected expert and the router’s times 0.5 (model sft/model.gguf)"),
      (.oracle(["a", "b", "c"]), "of the answers of a, b and c a right one, if there is one: an upper bound"),
    ] {
      #expect(Method(name: "x", kind: kind).description == text)
    }
    let limited = Method(name: "x", kind: .mean(["a", "b"]), limit: 3, note: "λ = 1")
    #expect(limited.description == "the mean of a and b; the first 3 prompts of each task; λ = 1")
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

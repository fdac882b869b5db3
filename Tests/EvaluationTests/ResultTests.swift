import Core
import Foundation
import Testing

@testable import Evaluation

@Suite struct ResultTests {
  @Test func recordsSurviveTheirLines() throws {
    var random = seededGenerator("records", default: 61)
    let scalars: [String] = ["a", "\n", "\"", "\\", "é", "\u{2028}", "\u{0}", "👩‍👩‍👧", "</script>", "\t", " "]
    func text(_ random: inout SplitMix64) -> String {
      (0..<random.below(8)).map { _ in scalars[random.below(scalars.count)] }.joined()
    }
    for _ in 0..<200 {
      let pieces = (0..<random.below(6)).map { _ in text(&random) }
      let record = AnswerRecord(
        key: "k\(random.next())", method: "m" + text(&random), id: text(&random), task: "t", text: text(&random),
        pieces: pieces, experts: ["x", "y" + text(&random)],
        deciders: pieces.map { _ in random.below(3) == 0 ? nil : random.below(2) }, finish: "length",
        promptTokens: random.below(100), busySeconds: random.below(3) == 0 ? nil : random.uniform(),
        interleaved: random.below(2) == 0,
        evaluations: ["router": random.below(9), "x": 3],
        chosen: random.below(2) == 0 ? nil : text(&random),
        grade: Grade(
          passed: random.below(2) == 0, score: random.uniform(), parts: [.init(name: "f", passed: true)],
          reason: text(&random), version: random.below(2) == 0 ? nil : text(&random)))
      let line = record.line
      #expect(!line.contains("\n"))
      #expect(AnswerRecord(line: line) == record)
      // A line that was cut off is none.
      let bytes = Array(line.utf8)
      let cut = String(decoding: bytes.prefix(random.below(bytes.count)), as: UTF8.self)
      #expect(AnswerRecord(line: cut) == nil)
    }
  }

  /// Sums of them would overflow.
  @Test func countsThatNoAnswerHasAreNone() throws {
    let line = Make.record("ours", Make.task("m1"), passed: true).line
    #expect(AnswerRecord(line: line) != nil)
    for (before, after) in [("\"ant\":8", "\"ant\":\(Int64.max)"), ("\"ant\":8", "\"ant\":-1")] {
      #expect(line.contains(before) && AnswerRecord(line: line.replacing(before, with: after)) == nil)
    }
    let prompt = try #require(line.firstMatch(of: /"prompt_tokens":\d+/))
    #expect(AnswerRecord(line: line.replacing(prompt.0, with: "\"prompt_tokens\":\(Int64.max)")) == nil)
  }

  /// A share of prompts, those included whose answers failed as a whole; not where sub-goals differ from prompt to prompt.
  @Test func subgoalsAreSharesOfPrompts() throws {
    func parts(_ given: [[Grade.Part]]) throws -> [EvaluationSummary.Cell.Part] {
      let tasks = given.indices.map { Make.task("m\($0)") }
      let records = zip(tasks, given).map { ($0.id, Make.record("fusionroute", $0, passed: false, parts: $1)) }
      let results = Make.results(
        tasks, ["fusionroute": Dictionary(uniqueKeysWithValues: records)], methods: ["fusionroute"])
      return try #require(results.summary().rows.first?.cells.first).parts
    }
    let (x, y) = (Grade.Part(name: "x", passed: true), Grade.Part(name: "y", passed: false))
    #expect(try parts([[x], []]) == [.init(name: "x", share: 0.5)])
    #expect(try parts([[x, y], [x, y], [], []]) == [.init(name: "x", share: 0.5), .init(name: "y", share: 0)])
    #expect(try parts([[x], [y], []]) == [.init(name: "x", share: 1), .init(name: "y", share: 0)])
  }

  /// What something else answered: with no more than ids and texts, or as an evaluation writes it.
  @Test func givenAnswersAreReadByMethod() throws {
    var own = Make.record("ours", Make.task("m1"), passed: true, deciders: [0])
    let text = """
      {"id": "m1", "text": "first"}
      {"id": "m2", "text": "of another", "method": "theirs"}

      {"id": "m2", "text": "second", "method": "ours"}
      {"id": "m1", "text": "later", "tokens": 3}
      \(Make.record("theirs", Make.task("m3"), passed: true).line)
      \(Make.record("ours", Make.task("m3"), passed: true, deciders: [0]).line)
      """
    let answers = try GivenAnswers.read(text, source: "file", method: "ours")
    #expect(answers.mapValues(\.text) == ["m1": "later", "m2": "second", "m3": own.text])
    #expect(answers["m2"]?.pieces == [])
    // Grades are not taken over.
    own = Make.record("ours", Make.task("m3"), passed: false, deciders: [0])
    own.key = ""
    own.grade = Grade(passed: false)
    #expect(answers["m3"] == own)
  }

  /// An evaluation that went on with another model leaves the old answers behind; which are wanted is not to be guessed.
  @Test func answersOfTwoStatesOfAMethodAreRefused() throws {
    var (old, new) = (
      Make.record("ours", Make.task("m1"), passed: true), Make.record("ours", Make.task("m1"), passed: false)
    )
    (old.key, new.key) = ("a", "b")
    let error = #expect(throws: FusionRouteError.self) {
      try GivenAnswers.read("\(old.line)\n\(new.line)\n", source: "file", method: "ours")
    }
    #expect(error?.message.contains("file:2: there are answers of two states of \"ours\" to m1") == true)
    // The same state twice, as after --regrade.
    #expect(try GivenAnswers.read("\(old.line)\n\(old.line)\n", source: "file", method: "ours").count == 1)
  }

  @Test(arguments: [
    (#"{"id": "m1"}"#, "file:2: an answer needs"), (#"{"id": 1, "text": "x"}"#, "file:2: an answer needs"),
    (#"{"id": "", "text": "x"}"#, "file:2: an answer needs"),
    (#"{"id": "m1", "text": "x", "method": 1}"#, "\"method\" must be a text"),
    ("[]", "file:2: a line must be an object"),
    ("{", "file:2: this is no JSON"),
    (#"{"id": "m1", "text": "x", "method": "b"}"#, "no answers of \"ours\", but of b"),
    ("", "file has no answers of \"ours\""),
  ])
  func faultsOfGivenAnswersAreNamed(line: String, message: String) throws {
    let error = #expect(throws: FusionRouteError.self) {
      try GivenAnswers.read("\n\(line)\n", source: "file", method: "ours")
    }
    #expect(error?.code == .badInput && error?.message.contains(message) == true, "\(String(describing: error))")
  }

  /// Two tasks by hand: 4 prompts of math, 2 of code.
  private static let math = (1...4).map { Make.task("m\($0)", tags: [.init(name: "steps", value: $0 < 3 ? "2" : "3")]) }
  private static let code = (1...2).map { Make.task("c\($0)", task: "code") }

  private func results(averaged: [String]? = nil) -> EvaluationResults {
    func outcomes(_ method: String, _ passed: [Bool], deciders: [Int?] = [0]) -> [String: AnswerRecord] {
      Dictionary(
        uniqueKeysWithValues: zip(Self.math + Self.code, passed).map {
          ($0.id, Make.record(method, $0, passed: $1, deciders: deciders, parts: [.init(name: "f", passed: true)]))
        })
    }
    return Make.results(
      Self.math + Self.code,
      [
        "fusionroute": outcomes("fusionroute", [true, true, true, false, true, false], deciders: [0, 0, 1, nil]),
        "ant": outcomes("ant", [true, false, false, true, true, false]),
        // Only math's first two prompts.
        "part": outcomes("part", [false, true]),
      ], methods: ["ant", "part", "fusionroute"], averaged: averaged, changesFrom: ["ant", "part"],
      expected: ["ant": 6, "part": 4])
  }

  @Test func rowsAreTheMeansOfTheirTasks() throws {
    let summary = results().summary()
    #expect(summary.tasks == ["math", "code"] && summary.rows.map(\.method) == ["ant", "part", "fusionroute"])
    let own = try #require(summary.rows.last)
    #expect(own.cells.map(\.accuracy) == [0.75, 0.5] && own.average == 0.625 && own.comparison == nil)
    #expect(own.cells[0].passedWithSeveralExperts == 3)
    // Two tokens of one expert and one of the other.
    #expect(own.cells[0].shareOfOtherExperts.map { abs($0 - 1.0 / 3) < 1e-12 } == true)
    #expect(summary.rows[0].cells[0].shareOfOtherExperts == nil)
    #expect(summary.rows.map(\.missing) == [0, 2, 0])
    #expect(own.cells[0].parts == [.init(name: "f", share: 1)])
    let interval = try #require(own.averageInterval)
    #expect(interval.lower < 0.625 && interval.upper > 0.625 && interval.lower >= 0 && interval.upper <= 1)
    #expect(own.cost.generatedTokens == 24 && own.cost.expertEvaluations == 72 && own.cost.routerEvaluations == 42)
    #expect(own.cost.perToken(own.cost.expertEvaluations) == 3 && own.cost.tokensPerSecond == 8)
    // A method without prompts of a task has no average.
    let part = summary.rows[1]
    #expect(part.average == nil && part.cells.map(\.count) == [2, 0] && part.cells[1].accuracy == nil)
    let alone = results(averaged: ["math"]).summary()
    #expect(alone.rows[1].average == 0.5 && alone.averaged == ["math"])
  }

  @Test func comparisonsArePaired() throws {
    let summary = results().summary()
    let ant = try #require(summary.rows[0].comparison)
    // math: + + + − against + − − +, so two won and one lost; code is the same.
    #expect(ant.won == 2 && ant.lost == 1 && ant.count == 6 && ant.difference == 0.125)
    #expect(ant.tasks.map(\.difference) == [0.25, 0] && ant.signTest == 1)
    #expect(ant.tasks[1].interval == Interval(lower: 0, upper: 0))
    let part = try #require(summary.rows[1].comparison)
    // Without an answer to any prompt of code there is no mean to compare.
    #expect(part.count == 2 && part.won == 1 && part.lost == 0 && part.difference == nil && part.pValue == nil)
    #expect(part.tasks.map(\.difference) == [0.5])
    let alone = try #require(results(averaged: ["math"]).summary().rows[1].comparison)
    #expect(alone.difference == 0.5)
    #expect(summary.changes.map(\.from) == ["ant", "part"])
    let changes = summary.changes[0].tasks
    #expect(changes.map(\.fixed) == [["m2", "m3"], []] && changes.map(\.broken) == [["m4"], []])
    #expect(changes.map(\.signTest) == [1, 1])
    // The same results give the same numbers.
    #expect(results().summary() == summary)
  }

  /// The mean of two seeds has half an outcome where they disagree.
  @Test func meansAreTakenPromptByPrompt() throws {
    func outcomes(_ method: String, _ passed: [Bool]) -> [String: AnswerRecord] {
      Dictionary(uniqueKeysWithValues: zip(Self.math, passed).map { ($0.id, Make.record(method, $0, passed: $1)) })
    }
    let results = Make.results(
      Self.math,
      [
        "one": outcomes("one", [true, true, false, false]), "two": outcomes("two", [true, false, false]),
        "fusionroute": outcomes("fusionroute", [true, true, true, true]),
      ], methods: ["one", "two", "both", "fusionroute"], means: ["both": ["one", "two"]])
    let summary = results.summary()
    let both = try #require(summary.rows.first { $0.method == "both" })
    // The last prompt lacks one of them.
    #expect(both.cells[0].count == 3 && both.cells[0].accuracy == 0.5 && both.average == 0.5)
    // Three right answers of six, to three prompts.
    #expect(both.cells[0].answers == 6 && both.cells[0].passed == 3)
    #expect(summary.rows.map(\.cells[0].answers) == [4, 3, 6, 4])
    let page = EvaluationReport.page(results, summary, title: "means", facts: [])
    #expect(page.contains("<td title='3 of 6'>"))
    // 2/3 and 1/3 right on the three prompts that both have answered.
    let spread = try #require(both.cells[0].spread)
    #expect(abs(spread.lowest - 1.0 / 3) < 1e-12 && abs(spread.highest - 2.0 / 3) < 1e-12)
    #expect(abs(spread.deviation - 1.0 / 18.0.squareRoot()) < 1e-12 && both.averageSpread == spread)
    #expect(page.contains("± 23.6 (33.3 … 66.7)"))
    // A mean has no answers that a number could lead to; a page without answers has no such links.
    #expect(page.contains("with=one&amp;show=won") && !page.contains("with=both"))
    let bare = EvaluationReport.page(results, summary, title: "means", facts: [], browsable: 0)
    #expect(!bare.contains("href=") && !bare.contains("id=\"data\""))
    let comparison = try #require(both.comparison)
    #expect(comparison.count == 3 && comparison.difference == 0.5 && comparison.won == 2 && comparison.lost == 0)
    // Half an outcome is neither right nor wrong.
    #expect(comparison.signTest == nil && comparison.tasks.map(\.signTest) == [nil])
    #expect(summary.rows[0].comparison?.signTest == 0.5)
  }

  /// Blanks and the end of the text are nobody's work.
  @Test func onlyTokensThatShowAreDecided() {
    var record = Make.record("fusionroute", Self.math[0], passed: true, deciders: [0, 1, 1, 1, 0, nil])
    record.pieces = ["def", "\n", "  ", "", "\u{a0}x", "y"]
    #expect(record.visibleTokens == ["ant": 2] && record.decidingExperts == ["ant"])
    #expect(record.pieces.indices.map { record.visibleDecider($0) } == ["ant", nil, nil, nil, "ant", nil])
    #expect(record.visibleDecider(6) == nil)
    record.pieces[1] = "\nb"
    #expect(record.visibleTokens == ["ant": 2, "bee": 1])
    let summary = Make.results(Self.math, ["fusionroute": [record.id: record]], methods: ["fusionroute"]).summary()
    #expect(summary.rows[0].cells[0].passedWithSeveralExperts == 1)
    #expect(summary.shares.first?.overall.map { ($0 * 3).rounded() } == [2, 1])
  }

  /// A model by itself runs in a cluster with an expert that nobody asks, which is none of the table's.
  @Test func expertsAreThoseThatDecide() {
    var alone = Make.record("alone", Self.math[0], passed: true, deciders: [nil, nil])
    alone.experts = ["none"]
    var all = results()
    all.methods.insert("alone", at: 0)
    all.records["alone"] = [alone.id: alone]
    #expect(all.summary().experts == ["ant", "bee"])
    all.reference = "alone"
    #expect(all.summary().experts == ["ant", "bee"])
  }

  @Test func tagsAndSharesAreCounted() throws {
    let summary = results().summary()
    #expect(summary.tags.map(\.tag.value) == ["2", "3"] && summary.tags.map(\.count) == [2, 2])
    #expect(summary.tags[0].accuracies == [0.5, 0.5, 1] && summary.tags[1].accuracies == [0.5, nil, 0.5])
    let math = try #require(summary.shares.first)
    // Tokens ant, ant, bee, none at positions 0, 2, 5 and 7 of ten.
    #expect(math.byPosition[0] == [1, 0] && math.byPosition[2] == [1, 0] && math.byPosition[5] == [0, 1])
    #expect(math.byPosition[7] == [0, 0])
    #expect(math.overall.count == 2 && zip(math.overall, [2.0 / 3, 1.0 / 3]).allSatisfy { abs($0 - $1) < 1e-12 })
    guard case .object(let json) = try JSONParser.parse(Array(summary.json.text.utf8)) else {
      return #expect(Bool(false))
    }
    #expect(json["reference"] == .string("fusionroute"))
    // A tag with a value for every prompt is a label.
    let many = (0..<60).map { Make.task("p\($0)", tags: [.init(name: "number", value: "\($0)")]) }
    #expect(Make.results(many, [:], methods: ["fusionroute"]).summary().tags.isEmpty)
  }

  /// The accuracies of the summary are those of a plain count, whatever is missing.
  @Test func countsHoldForRandomResults() {
    var random = seededGenerator("summary", default: 62)
    for _ in 0..<30 {
      let tasks = (0..<(1 + random.below(40))).map { Make.task("p\($0)", task: ["a", "b", "c"][random.below(3)]) }
      let methods = ["fusionroute", "x", "y"]
      var records: [String: [String: AnswerRecord]] = [:]
      for method in methods {
        for task in tasks where random.below(5) > 0 {
          records[method, default: [:]][task.id] = Make.record(method, task, passed: random.below(2) == 0)
        }
      }
      let summary = Make.results(tasks, records, methods: methods, resamples: 100).summary()
      #expect(summary.rows.map(\.method) == methods)
      for row in summary.rows {
        #expect(row.cells.map(\.task).sorted() == Set(tasks.map(\.task)).sorted())
        for cell in row.cells {
          let own = tasks.filter { $0.task == cell.task }.compactMap { records[row.method]?[$0.id]?.grade.passed }
          let accuracy = own.isEmpty ? nil : Double(own.count { $0 }) / Double(own.count)
          #expect(cell.count == own.count && cell.passed == own.count { $0 } && cell.accuracy == accuracy)
          #expect((cell.interval == nil) == own.isEmpty)
          if let interval = cell.interval, let accuracy {
            #expect(interval.lower <= accuracy + 1e-9 && accuracy <= interval.upper + 1e-9)
          }
        }
        let both = tasks.compactMap { task -> (Bool, Bool)? in
          guard let a = records["fusionroute"]?[task.id], let b = records[row.method]?[task.id] else { return nil }
          return (a.grade.passed, b.grade.passed)
        }
        // The reference is not compared with itself, nor a method with it that shares no prompt.
        #expect((row.comparison != nil) == (row.method != "fusionroute" && !both.isEmpty))
        guard let comparison = row.comparison else { continue }
        #expect(comparison.count == both.count && comparison.won == both.count { $0.0 && !$0.1 })
        #expect(comparison.lost == both.count { !$0.0 && $0.1 })
      }
    }
  }
}

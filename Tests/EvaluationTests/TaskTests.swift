import Core
import Testing

@testable import Evaluation

@Suite struct TaskTests {
  private static let line =
    #"{"id":"math/1","task":"math","messages":[{"role":"system","content":"be brief"},{"role":"user","content":"2+2?"}],"grader":{"name":"number","expected":4},"tags":{"template":"sum","held_out":false,"steps":2},"completion":"4"}"#

  @Test func linesAreRead() throws {
    let tasks = try EvaluationTask.read("\n\(Self.line)\r\n  \n", source: "f")
    let task = try #require(tasks.first)
    #expect(tasks.count == 1 && task.id == "math/1" && task.task == "math" && task.prompt == "2+2?")
    #expect(task.messages.map(\.role) == ["system", "user"])
    #expect(task.question == "system: be brief\n\nuser: 2+2?")
    #expect(
      task.tags == [
        .init(name: "template", value: "sum"), .init(name: "held_out", value: "false"),
        .init(name: "steps", value: "2"),
      ])
  }

  @Test func faultsNameTheLine() {
    func bad(_ from: String, _ to: String) -> String { Self.line.replacing(from, with: to) }
    for (line, word) in [
      ("{", "no JSON"), ("[]", "an object"), (bad("\"id\":\"math/1\"", "\"id\":7"), "\"id\""),
      (bad("\"task\":\"math\"", "\"task\":\"two words\""), "one word"),
      (bad("\"role\":\"user\"", "\"role\":\"x\""), "role"),
      (bad("\"user\"", "\"assistant\""), "user's"), (bad("\"grader\":{", "\"graders\":{"), "grader"),
      (bad("\"held_out\":false", "\"held_out\":[]"), "held_out"), (Self.line + "\n" + Self.line, "already"),
      ("", "no tasks"),
    ] {
      let error = #expect(throws: FusionRouteError.self) { try EvaluationTask.read(line, source: "f") }
      #expect(error?.code == .badInput && error?.message.contains(word) == true, "\(word): \(error?.message ?? "")")
    }
  }

  @Test func gradersAreAskedAndUnderstood() throws {
    let task = try #require(try EvaluationTask.read(Self.line, source: "f").first)
    let request = GraderProtocol.request(task, text: "4\n\u{2028}</x>")
    #expect(!request.contains("\n"))
    guard case .object(let object) = try JSONParser.parse(Array(request.utf8)) else { return #expect(Bool(false)) }
    #expect(object.members.map(\.key) == ["id", "task", "prompt", "messages", "grader", "text"])
    #expect(object["text"] == .string("4\n\u{2028}</x>") && object["prompt"] == .string("2+2?"))

    func read(_ line: String) throws -> Grade { try GraderProtocol.grade(line, for: task, command: "g") }
    #expect(try read(#"{"id":"math/1","passed":true}"#) == Grade(passed: true, score: 1))
    let full = try read(#"{"id":"math/1","passed":false,"score":0.25,"parts":{"b":true,"a":false},"reason":"no"}"#)
    #expect(full.parts == [.init(name: "b", passed: true), .init(name: "a", passed: false)])
    #expect(full.score == 0.25 && full.reason == "no")
    for (line, code, word) in [
      ("oops", FusionRouteError.Code.unavailable, "oops"), (#"{"id":"math/2","passed":true}"#, .unavailable, "math/2"),
      (#"{"id":"math/1"}"#, .unavailable, "passed"),
      (#"{"id":"math/1","passed":true,"score":2}"#, .unavailable, "score"),
      (#"{"id":"math/1","passed":true,"parts":{"a":1}}"#, .unavailable, "\"a\""),
      (#"{"id":"math/1","error":"no such grader"}"#, .badInput, "no such grader"),
    ] {
      let error = #expect(throws: FusionRouteError.self) { try read(line) }
      #expect(error?.code == code && error?.message.contains(word) == true, "\(line): \(error?.message ?? "")")
    }
  }

  /// Records as their authors publish them.
  @Test func benchmarksAreRead() throws {
    let records: [(Benchmark, String, String, String)] = [
      (.gsm8k, #"{"question":"How many?","answer":"2+2\n#### 4"}"#, "How many?", "gsm8k/1"),
      (.gsm8k, #"{"prompt":"How many?","expected":"4","upstream_answer":"…"}"#, "How many?", "gsm8k/1"),
      (.gsm8k, #"{"question":"How many?","answer":4}"#, "How many?", "gsm8k/1"),
      (.math500, #"{"problem":"Find $x$.","answer":2.5}"#, "Find $x$.", "math500/1"),
      (
        .math500,
        #"{"problem":"Find $x$.","solution":"s","answer":"3","subject":"Algebra","level":2,"unique_id":"a/1"}"#,
        "Find $x$.", "math500/a/1"
      ),
      (
        .mbpp, #"{"task_id":11,"text":"Write f.","code":"c","test_list":["assert f()==1"],"test_setup_code":""}"#,
        "assert f()==1", "mbpp/11"
      ),
      (
        .humaneval,
        #"{"task_id":"HumanEval/0","prompt":"def f():\n","entry_point":"f","canonical_solution":"","test":"check"}"#,
        "def f():", "humaneval/HumanEval/0"
      ),
      (
        .ifeval, #"{"key":1000,"prompt":"Write.","instruction_id_list":["a:b"],"kwargs":[{}]}"#, "Write.", "ifeval/1000"
      ),
    ]
    for (benchmark, record, word, id) in records {
      let paper = try #require(try benchmark.read(record, source: "f", frame: .paper).first)
      guard case .text(let text) = paper.content else { return #expect(Bool(false)) }
      #expect(text.hasPrefix("Below is an instruction that describes a task.") && text.hasSuffix("\n\nAssistant:"))
      #expect(
        text.contains("Instruction: ") && text.contains(word) && paper.id == id && paper.task == benchmark.rawValue)
      guard case .object(let grader) = paper.grader else { return #expect(Bool(false)) }
      #expect(grader["name"] == .string(benchmark.rawValue))
      #expect(grader["record"] == (try? JSONParser.parse(Array(record.utf8))))
      let chat = try #require(try benchmark.read(record, source: "f", frame: .chat).first)
      #expect(chat.messages.count == 1 && chat.messages[0].content == chat.prompt && chat.line != paper.line)
      for other in Benchmark.allCases where other != benchmark {
        #expect(throws: FusionRouteError.self, "\(benchmark) as \(other)") {
          try other.read(record, source: "f", frame: .paper)
        }
      }
    }
    let wrong = #expect(throws: FusionRouteError.self) {
      try Benchmark.gsm8k.read(#"{"question":"How many?","answer":true}"#, source: "f", frame: .paper)
    }
    #expect(wrong?.message.contains(#""answer" (a boolean)"#) == true, "\(wrong?.message ?? "")")
    let tags = try Benchmark.math500.read(records[4].1, source: "f", frame: .paper).first?.tags
    #expect(tags == [.init(name: "subject", value: "Algebra"), .init(name: "level", value: "2")])
    // MBPP's sanitized problems are published as one array.
    let list = "  [\(records[5].1),\n  \(records[5].1.replacing("11", with: "12"))\n]\n"
    let ofList = try Benchmark.mbpp.read(list, source: "f", frame: .chat)
    #expect(ofList.map(\.id) == ["mbpp/11", "mbpp/12"])
    #expect(try ofList[0].grader == Benchmark.mbpp.read(records[5].1, source: "f", frame: .chat)[0].grader)
    for (text, word) in [("[1]", "f, record 1"), ("[", "f: "), ("[]", "no records")] {
      let error = #expect(throws: FusionRouteError.self) {
        try Benchmark.mbpp.read(text, source: "f", frame: .chat)
      }
      #expect(error?.code == .badInput && error?.message.contains(word) == true, "\(error?.message ?? "")")
    }
    let twice = records[5].1 + "\n" + records[5].1
    #expect(try Benchmark.mbpp.read(twice, source: "f", frame: .chat).map(\.id) == ["mbpp/11", "mbpp/11#2"])
  }

  @Test func judgesScoresAreOnTheFirstLine() {
    let accepted: [(String, (Double, Double))] = [
      ("8 9\nbecause", (8, 9)), ("\n  7.5, 3\n", (7.5, 3)), ("Scores: 10 1.", (10, 1)), ("8/10 6/10", (8, 6)),
      ("(8, 1)", (8, 1)), ("Assistant 1: 8, Assistant 2: 9", (8, 9)), ("A: 8, B: 9", (8, 9)), ("1. 8 2. 9", (8, 9)),
      ("**Assistant 1:** 7.5/10; **Assistant 2:** 2/10", (7.5, 2)), ("Model A 1 Model B 2", (1, 2)),
      ("Assistant 1's score: 2 | Assistant 2's score: 1", (2, 1)), ("Assistant 1 and assistant 2: 8 9", (8, 9)),
      // Thoughts that a server leaves in the reply.
      ("\n<think>\n1 2\n</think>\n\n8 9\nbecause", (8, 9)), ("<think></think>8 9", (8, 9)),
      // Those that the template began.
      ("Answer 1 gets 5, answer 2 gets 7.\nOr 5 7?\n</think>\n\n9 3\nbecause", (9, 3)),
    ]
    for (reply, expected) in accepted {
      let scores = JudgePrompt.scores(in: reply)
      #expect(scores?.first == expected.0 && scores?.second == expected.1, "\(reply)")
    }
    for reply in [
      "", "eight nine", "8", "8 9 10", "0 5", "5 11", "Both are good.\n8 9", "8½ 9", "7.5.3 8 9",
      // One score, another order, no order.
      "Assistant 1: 8", "Assistant 1: 8\nAssistant 2: 9", "A: 8", "1. 8", "1: 2", "B: 9, A: 8",
      "Assistant 2: 9, Assistant 1: 8", "Assistant 1: 8, Assistant 1: 9", "Assistant 1: 8-9, Assistant 2: 7",
      "<think>\n8 9", "<think>8 9</think>\nBoth.", "8 9\n</think>\nBoth.", "Assistant 2 is better: 8 9",
      "8 for assistant 1, 9 for assistant 2", "Assistant 1: 8, B: 9",
    ] {
      #expect(JudgePrompt.scores(in: reply) == nil, "\(reply)")
    }
    let text = JudgePrompt.text(question: "Q?", first: "one", second: "two")
    #expect(text.firstRange(of: "one\n[The end")!.lowerBound < text.firstRange(of: "two\n[The end")!.lowerBound)
  }

  @Test func winRatesCountTiesByHalf() throws {
    func judged(_ first: (Double, Double), _ second: (Double, Double)) -> Judgement {
      Judgement(id: "x", methodFirst: first, methodSecond: second)
    }
    // A judge that always prefers the first place decides nothing.
    let biased = judged((9, 5), (5, 9))
    #expect(biased.outcome == .tie)
    let all = [biased, judged((9, 5), (8, 5)), judged((6, 5), (5, 5)), judged((3, 9), (5, 4))]
    let rate = WinRate(all, bootstrap: Bootstrap(resamples: 500))
    #expect(rate.wins == 2 && rate.ties == 1 && rate.losses == 1 && rate.rate == 0.625)
    let some = WinRate(all, unjudged: ["y"], bootstrap: Bootstrap(resamples: 500))
    #expect(some.rate == rate.rate && some.json.text.contains(#""pairs":4,"#), "\(some.json.text)")
    #expect(some.json.text.contains(#""unjudged":["y"]"#) && rate.json.text.contains(#""unjudged":[]"#))
    let read = try #require(Judgement.parse(all[1].line(key: "k")))
    #expect(read.key == "k" && read.judgement == all[1])
    #expect(Judgement.parse("{\"key\":\"k\",\"id\":\"x\"") == nil)
  }
}

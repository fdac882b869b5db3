import Coordinator
import Core
import Foundation
import Inference
import Testing

@testable import Evaluation
@testable import fusionroute

extension EvalTests {
  /// A service is known by its models, not by the contexts of its experts. What these refused or cut off is answered
  /// anew when they have more, and only then; all the rest stays.
  @Test func aServiceWithMoreContextIsAskedAgain() async throws {
    let folder = try await reward()
    let (command, _) = try grader("roomy")
    let short = (1...4).map { "say \($0) words" }
    let long = String(repeating: "say some words ", count: 6)
    let tasks = try write(
      "roomy-tasks.jsonl",
      (short + [long]).enumerated().map {
        #"{"id": "p\#($0)", "task": "a", "messages": [{"role": "user", "content": "\#($1)"}], "grader": {"rest": 0}}"#
      }.joined(separator: "\n"))
    let model = try Model.load(path: models.path("router.gguf"))
    func length(_ prompt: String) throws -> Int {
      try model.promptTokens(chat: [ChatMessage(role: "user", content: prompt)]).count
    }
    // A token more than the context holds comes out: three of the longest of the short prompts.
    let context = try #require(try short.map(length).max()) + 2
    #expect(try length(long) > context)
    let out = models.path("roomy-out")
    func lines() throws -> [String] {
      try String(contentsOfFile: "\(out)/results.jsonl", encoding: .utf8).split(separator: "\n").map(String.init)
    }
    func ask(context: Int) async throws -> Product.Result {
      let experts = ToyModels.experts.map { "  \($0): { model: \($0).gguf, context: \(context) }" }
      let cluster = try write(
        "eval-roomy.yaml",
        """
        router: { model: router.gguf, head: head.gguf, context: 512, slots: 3 }
        experts:
        \(experts.joined(separator: "\n"))
        listen: { workers: "ipc://eval-roomy.sock", http: "127.0.0.1:0" }

        """)
      let service = try await RunningService.start(["up", "-c", cluster])
      try await service.waitUntilReady()
      let result = try await Product.run([
        "eval", tasks, "--url", service.url, "--out", out, "--grader", command, "--max-tokens", "12", "--resamples",
        "100", "--reward", folder, "--reward-model", models.path("router.gguf"),
      ])
      _ = try await service.stop()
      return result
    }

    let first = try await ask(context: context)
    #expect(first.code == 0 && first.errors.contains("fusionroute: 1 prompt does not fit"), "\(first.errors)")
    let (before, written) = (try records("roomy-out"), try lines())
    #expect(before.count == 9)
    let again = try await ask(context: context)
    #expect(again.code == 0 && again.errors.contains("fusionroute: 1 prompt does not fit"), "\(again.errors)")
    #expect(try lines() == written)

    let more = try await ask(context: 512)
    #expect(more.code == 0 && !more.errors.contains("not fit") && !more.errors.contains("left out"), "\(more.errors)")
    let after = try records("roomy-out")
    var cut = 0
    for (method, answers) in before {
      for (id, record) in answers {
        let new = try #require(after[method]?[id])
        #expect(!new.didNotFit && new.key == record.key, "\(method) \(id)")
        // The router had room from the beginning; what chooses is looked at below.
        guard method != "router", record.chosen == nil || method == "per-prompt" else { continue }
        if record.didNotFit {
          #expect(id == "p4" && new.generatedTokens > 0, "\(method) \(id)")
        } else if record.finish == "length", record.generatedTokens < 12 {
          cut += 1
          #expect(new.generatedTokens > record.generatedTokens, "\(method) \(id)")
        } else {
          #expect(new == record, "\(method) \(id)")
        }
      }
    }
    #expect(cut > 0 && after["router"] == before["router"])
    // Chosen among the answers that there are now.
    for method in ["sequence-selection", "oracle"] {
      for (id, record) in after[method] ?? [:] {
        let candidates = try ToyModels.experts.map { try #require(after[$0]?[id]) }
        #expect(record.text == candidates.first { $0.method == record.chosen }?.text, "\(method) \(id)")
        #expect(record.expertEvaluations == candidates.reduce(0) { $0 + $1.expertEvaluations }, "\(method) \(id)")
      }
    }
    let whole = try lines()
    let last = try await ask(context: 512)
    #expect(try last.code == 0 && lines() == whole, "\(last.errors)")
  }
}

/// The parts of `eval` that resumed runs and services need.
@Suite struct EvalContextTests {
  /// The least context of the models that take part, as the coordinator counts it.
  @Test func limitsOfAService() throws {
    func limits(_ changes: (String, String)..., line: Int = #line) throws -> [Int?] {
      var json = StatusViewTests.json
      for (old, new) in changes {
        #expect(json.contains(old), "line \(line)")
        json = json.replacing(old, with: new)
      }
      let decoder = JSONDecoder()
      decoder.keyDecodingStrategy = .convertFromSnakeCase
      let served = ServedModels(
        url: "http://h:1", status: try decoder.decode(CoordinatorStatus.self, from: Data(json.utf8)))
      return ["router", "expert:ant", "expert:cat", "fusion", "no-complement"].map { served.contextLimit($0) }
    }
    let alone = ("\"cat\",\"routed\":true", "\"cat\",\"routed\":false")
    let draining = "\"draining\",\"slots\":4,\"context\":"
    // Of an expert without replicas nothing is known, nor of what it takes part in.
    #expect(try limits() == [4096, 4096, nil, nil, nil])
    #expect(try limits(alone) == [4096, 4096, nil, 4096, 4096])
    #expect(try limits(alone, (draining + "4096", draining + "64")) == [4096, 64, nil, 64, 64])
    // One that does not take steps yet does not count.
    let verifying = "\"verifying\",\"slots\":4,\"context\":"
    #expect(try limits(alone, (draining + "4096", verifying + "64")) == [4096, 4096, nil, 4096, 4096])
    let router = "router.gguf\",\"context\":"
    #expect(try limits(alone, (router + "4096", router + "128")) == [128, 4096, nil, 128, 128])
  }

  /// What is on disk counts, but takes no time.
  @Test func progressOfAResumedRun() {
    func line(_ count: Int, known: Int, done: Int, passed: Int, after seconds: Int) -> String {
      let state = EvaluationProgress.State(name: "router", count: count, known: known, done: done, passed: passed)
      return EvaluationProgress.line(
        state, now: state.started + .seconds(seconds), style: Style(isTerminal: false, depth: .none, unicode: false))
    }
    #expect(line(10, known: 0, done: 5, passed: 2, after: 20) == "router 5/10, 40 % right, 20 s left")
    #expect(line(100, known: 88, done: 90, passed: 45, after: 8) == "router 90/100, 50 % right, 40 s left")
    #expect(line(100, known: 88, done: 100, passed: 50, after: 48) == "router 100/100, 50 % right")
  }
}

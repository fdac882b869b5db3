import Core
import Foundation
import Launch
import Testing

@testable import fusionroute

/// `train PLAN.yaml` as users run it: several steps, each done once.
@Suite(.serialized) struct PlanTests {
  let models: ToyModels

  init() throws { models = try ToyModels.shared.get() }

  @Test func makeTheirData() async throws {
    let cluster = try models.cluster("making")
    func write(word: String) throws {
      try Data(
        #"""
        steps:
          - run: |
              echo "$FUSIONROUTE" >> ran.txt
              printf '{"prompt": "\#(word)"}\n' > made.jsonl
            reads: source.txt
            out: made.jsonl
          - { sample: made.jsonl, cluster: \#(cluster), grader: "true", answers: 1, max_tokens: 3, out: kept.jsonl }
          - { run: "test -s kept.jsonl.answers && mkdir made", reads: [made.jsonl, kept.jsonl], out: made }
        """#.utf8
      ).write(to: URL(fileURLWithPath: models.path("making-plan.yaml")))
    }
    func count() throws -> Int {
      try String(contentsOfFile: models.path("ran.txt"), encoding: .utf8).split(separator: "\n").count
    }
    func answers() throws -> [[String: Any]] {
      try String(contentsOfFile: models.path("kept.jsonl.answers"), encoding: .utf8).split(separator: "\n").map {
        try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
      }
    }
    try write(word: "ab")
    let first = try await Product.run(["train", models.path("making-plan.yaml")])
    #expect(first.code == 0, "\(first.errors)")
    #expect(first.output.contains("sample → kept.jsonl") && first.output.contains("min"), "\(first.output)")
    let line = try String(contentsOfFile: models.path("ran.txt"), encoding: .utf8)
    #expect(line.contains("fusionroute"))
    // One answer of at most three tokens.
    let sampled = try #require(PlanReport.tokens(of: models.path("kept.jsonl")))
    #expect((1...3).contains(sampled) && first.output.contains("\(Int(sampled)) tokens"), "\(first.output)")
    #expect(PlanReport.tokens(of: models.path("made.jsonl")) == nil)
    let old = try answers()
    // Nothing has changed, so nothing is done.
    #expect(try await Product.run(["train", models.path("making-plan.yaml")]).code == 0)
    #expect(try count() == 1)
    // Something that it reads has: all that rests on it follows, with new answers. What the old ones took, let it be much,
    // is no longer told.
    let report = PlanReport(plan: models.path("making-plan.yaml"))
    let steps = try TrainingPlan.load(models.path("making-plan.yaml")).steps
    for step in steps { try report.add(step, seconds: 6e4, isFinished: true) }
    _ = try models.write("source.txt", ["new"])
    try write(word: "cd")
    try FileManager.default.removeItem(atPath: models.path("made"))
    let third = try await Product.run(["train", models.path("making-plan.yaml")])
    #expect(third.code == 0, "\(third.errors)")
    #expect(steps.count == 3 && steps.allSatisfy { report.seconds()[$0.out] ?? 0 < 600 }, "\(third.output)")
    #expect(try count() == 2)
    // One line that says what they are answers of, and the only answer, which is the new prompt's.
    let new = try answers()
    try #require(old.count == 2 && new.count == 2, "\(old), \(new)")
    let (before, after) = (old[0]["samples_of"] as? String, new[0]["samples_of"] as? String)
    #expect(before != nil && after != nil && before != after)
    let told = try await Product.run(
      ["run", "-c", cluster, "--prompt", "cd", "--max-tokens", "3", "--format", "json"])
    let answer = try #require(try AnswerObject.list(told.output).first, "\(told.errors)")
    #expect(new[1]["text"] as? String == answer.text)
    // An answer that was cut off is none to learn from.
    let isExample = answer.finish_reason == "stop" && !answer.text.allSatisfy(\.isWhitespace)
    let kept = try String(contentsOfFile: models.path("kept.jsonl"), encoding: .utf8)
    #expect(isExample ? kept.contains("cd") : kept.isEmpty, "\(answer.finish_reason): \(kept)")
    _ = try models.write("nothing.yaml", ["steps: [{ run: 'true', out: nothing }]"])
    let none = try await Product.run(["train", models.path("nothing.yaml")])
    #expect(none.code == 65 && none.errors.contains("nothing"), "\(none.errors)")
  }

  @Test func skipWhatIsDone() async throws {
    _ = try models.write("plan-data.jsonl", TrainingLines.questions)
    let plan = models.path("plan.yaml")
    func write(steps: Int) throws {
      let options = "steps: \(steps), rank: 4, batch: 4, threads: 1, precision: f32, library: builtin"
      try Data(
        """
        steps:
          - { train: lm, model: router.gguf, data: [plan-data.jsonl], out: plan1, \(options) }
          - { train: dpo, model: router.gguf, from: plan1, data: plan-pairs.jsonl, length_ratio: 0, out: plan2, \(options) }
        """.utf8
      ).write(to: URL(fileURLWithPath: plan))
    }
    try write(steps: 2)
    // The second step fails for want of its data, the first one is done by then.
    let first = try await Product.run(["train", plan])
    #expect(first.code == 65 && first.errors.contains("plan-pairs.jsonl"), "\(first.errors)")
    let adapter = try models.bytes("plan1/adapter.gguf")
    _ = try models.write("plan-pairs.jsonl", TrainingLines.pairs)
    let stamp = try FileManager.default.attributesOfItem(atPath: models.path("plan1/adapter.gguf"))[.modificationDate]
    let second = try await Product.run(["train", plan])
    #expect(second.code == 0, "\(second.errors)")
    // What each run computed is kept: of two steps of four texts not nothing.
    let told = try String(contentsOfFile: "\(plan).report.jsonl", encoding: .utf8).split(separator: "\n").compactMap {
      try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any]
    }
    #expect(told.filter { $0["finished"] as? Bool == true }.compactMap { $0["tokens"] as? Int }.allSatisfy { $0 > 8 })
    #expect(told.count { $0["finished"] as? Bool == true && $0["tokens"] != nil } == 2)
    let kept = try FileManager.default.attributesOfItem(atPath: models.path("plan1/adapter.gguf"))[.modificationDate]
    #expect(stamp as? Date == kept as? Date)
    #expect(FileManager.default.fileExists(atPath: models.path("plan2/adapter.gguf")))
    // Changed data makes both steps run again, from their beginning.
    _ = try models.write("plan-data.jsonl", Array(TrainingLines.questions.dropFirst()))
    let third = try await Product.run(["train", plan])
    #expect(third.code == 0, "\(third.errors)")
    #expect(try models.bytes("plan1/adapter.gguf") != adapter)
    for (text, word) in [
      ("steps: [{ train: x, out: a }]", "lm"), ("steps: [{ train: lm }]", "out"), ("step: []", "steps"),
      ("steps: [{ train: lm, out: a, data: { b: c } }]", "data"), ("steps: [", "YAML"),
      ("steps: [{ run: x, sample: y, out: a }]", "one of"), ("steps: [{ run: x }]", "out"),
      ("steps: [{ run: x, out: a, epochs: 1 }]", "reads"), ("steps: [{ train: lm, reads: x, out: a }]", "reads"),
    ] {
      try Data(text.utf8).write(to: URL(fileURLWithPath: models.path("bad.yaml")))
      let result = try await Product.run(["train", models.path("bad.yaml")])
      #expect(result.code == 65 && result.errors.contains(word), "\(text): \(result.errors)")
    }
  }

  /// A changed grader is as good a reason to sample again as changed prompts.
  @Test func samplingDependsOnItsGradersFiles() throws {
    _ = try models.write("reads-prompts.jsonl", ["{\"prompt\": \"a\"}"])
    _ = try models.write("reads-grader.py", ["old"])
    let plan = try models.write(
      "reads.yaml",
      ["steps: [{ sample: reads-prompts.jsonl, reads: reads-grader.py, grader: ./g, out: reads.jsonl }]"])
    let step = try #require(try TrainingPlan.load(plan).steps.first)
    #expect(!step.arguments.contains { $0.contains("reads-grader") }, "\(step.arguments)")
    let before = try step.fingerprint()
    #expect(try step.fingerprint() == before)
    _ = try models.write("reads-grader.py", ["new"])
    #expect(try step.fingerprint() != before)
  }

  /// A command of the user's, which knows nothing of its plan, and what it has started.
  @Test func commandsEndWithTheirPlan() async throws {
    let marker = "86\(getpid())"
    func sleepers() -> [Int32] { Product.processes { $0.first == "sleep" && $0.last?.hasPrefix(marker) == true } }
    for (index, signal) in [SIGINT, SIGKILL].enumerated() {
      let script = try models.write(
        "command-\(index).sh",
        [
          "trap 'sleep 1; echo > cleaned-\(index); exit 1' INT", "sleep \(marker)\(index) & sleep \(marker)\(index)",
          "echo > late-\(index)",
        ])
      let plan = try models.write(
        "command-\(index).yaml", ["steps: [{ run: \"bash \(script); echo > late-\(index)\", out: late-\(index) }]"])
      let running = try Product.Running(["train", plan])
      try await running.wait("both have started") { sleepers().count == 2 }
      let begin = ContinuousClock.now
      running.send(signal)
      let result = try await running.result()
      if signal == SIGINT {
        // It waits for what the command does about its interruption, and not for what takes no notice of it.
        #expect(result.code == 130 && ContinuousClock.now - begin < .seconds(30), "\(result.code) \(result.errors)")
        #expect(FileManager.default.fileExists(atPath: models.path("cleaned-\(index)")))
        #expect(sleepers().isEmpty)
      }
      for _ in 0..<1_500 where !sleepers().isEmpty { try await Task.sleep(for: .milliseconds(10)) }
      #expect(sleepers().isEmpty, "signal \(signal)")
      #expect(!FileManager.default.fileExists(atPath: models.path("late-\(index)")), "signal \(signal)")
      for pid in sleepers() { kill(pid, SIGKILL) }
    }
    // The command's own exit code and its empty stdin.
    let plan = try models.write("command-code.yaml", ["steps: [{ run: \"cat; exit 69\", out: never }]"])
    #expect(try await Product.run(["train", plan]).code == 69)
  }

  /// Mistakes of later steps are found before the first one has taken its hours.
  @Test func optionsAreCheckedFirst() async throws {
    for (step, word) in [
      ("{ train: lm, model: router.gguf, data: x.jsonl, out: checked, epochz: 1 }", "epochz"),
      ("{ train: dpo, model: router.gguf, data: x.jsonl, out: checked, length_ratio: nan }", "--length-ratio"),
      ("{ sample: x.jsonl, out: checked, grader: g, answers: 0 }", "--answers"),
      ("{ run: \"true\", out: ./first.txt }", "line 2"), ("{ run: \"true\", out: \"\" }", "empty"),
      ("{ run: \"true\", out: [checked, more] }", "out"),
    ] {
      let plan = try models.write(
        "checked.yaml", ["steps:", "  - { run: \"echo > first.txt\", out: first.txt }", "  - \(step)"])
      let result = try await Product.run(["train", plan])
      #expect(result.code == 65 && result.errors.contains("checked.yaml:3"), "\(step): \(result.errors)")
      #expect(result.errors.contains(word), "\(step): \(result.errors)")
      #expect(!FileManager.default.fileExists(atPath: models.path("first.txt")), "\(step)")
    }
  }

  /// That a command of the user's fails is no defect of this program, and is said.
  @Test func failedCommandsAreNamed() async throws {
    let plan = try models.write("failing.yaml", ["steps: [{ run: \"exit 3\", out: never }]"])
    let result = try await Product.run(["train", plan])
    #expect(result.code == 65 && result.errors.contains("failing.yaml:1: run ended with 3"), "\(result.errors)")
  }

  /// Hours of sampling by hand are no plan's to throw away.
  @Test func whatWasBegunByHandStays() throws {
    let answers = try models.write("by-hand.jsonl.answers", ["{\"samples_of\":\"x\"}"])
    let step = TrainingPlan.Step(action: .sample, out: models.path("by-hand.jsonl"), line: 1)
    #expect(try step.prepare("a") == false)
    #expect(FileManager.default.fileExists(atPath: answers))
  }

  /// What another step has begun to overwrite is no longer the first one's result, though that step never ended.
  @Test func aStepIsNotDoneOnceAnotherHasBegunInItsPlace() throws {
    let out = models.path("begun-over")
    for action in [TrainingPlan.Step.Action.run("true"), .sample, .train("lm")] {
      let place = action == .train("lm") ? "\(out)-folder" : out
      let step = TrainingPlan.Step(action: action, out: place, line: 1)
      _ = try step.prepare("a")
      if action == .train("lm") {
        try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
        try Data().write(to: URL(fileURLWithPath: "\(place)/adapter.gguf"))
      } else {
        try Data().write(to: URL(fileURLWithPath: place))
      }
      try step.markDone("a")
      #expect(step.isDone("a") && !step.isDone("b"))
      _ = try step.prepare("b")
      #expect(!step.isDone("a") && !step.isDone("b"), "\(action)")
    }
  }

  /// A step's minutes are those since it was begun from nothing, whatever became of its runs since.
  @Test func reportsCountFromTheLastBeginning() throws {
    let report = PlanReport(plan: models.path("counted.yaml"))
    let (one, other) = (models.path("counted"), models.path("counted.jsonl"))
    let training = TrainingPlan.Step(action: .train("lm"), out: one, line: 1)
    let sampling = TrainingPlan.Step(action: .sample, out: other, line: 2)
    // As older versions wrote it.
    _ = try models.write(
      "counted.yaml.report.jsonl",
      [2, 3].map { "{\"step\":\"train lm\",\"out\":\"\(one)\",\"seconds\":\($0),\"finished\":false}" })
    try report.add(training, seconds: 4, isFinished: true)
    try report.add(sampling, seconds: 8, isFinished: true)
    #expect(report.seconds() == [one: 9, other: 8])
    try report.begin(training)
    #expect(report.seconds() == [one: 0, other: 8])
    try report.add(training, seconds: 16, isFinished: false)
    try report.add(training, seconds: 32, isFinished: true)
    #expect(report.seconds() == [one: 48, other: 8])

    // It goes on from what the same step has left, and from nothing else.
    for (step, kept) in [(training, "counted/checkpoints/kept"), (sampling, "counted.jsonl.answers")] {
      #expect(try step.prepare("a"))
      let place = URL(fileURLWithPath: models.path(kept))
      try FileManager.default.createDirectory(
        at: place.deletingLastPathComponent(), withIntermediateDirectories: true)
      try Data("kept".utf8).write(to: place)
      #expect(try step.prepare("a") == false)
      #expect(try step.prepare("b"))
      #expect(!FileManager.default.fileExists(atPath: place.path))
    }
  }

  /// No step goes on alone when its plan was killed: begun again, it would meet itself in its directory.
  @Test func stepsEndWithTheirPlan() async throws {
    _ = try models.write("orphan.jsonl", TrainingLines.questions)
    let (plan, log) = (models.path("orphan-plan.yaml"), models.path("orphan/log.jsonl"))
    try Data(
      """
      steps:
        - { train: lm, model: router.gguf, data: orphan.jsonl, out: orphan, steps: 1000000, threads: 1, evaluate_every: 0 }
      """.utf8
    ).write(to: URL(fileURLWithPath: plan))
    func steps() -> [Int32] { Product.processes { $0.contains("--out=\(models.path("orphan"))") } }
    let running = try Product.Running(["train", plan])
    try await running.wait("the first step") { FileManager.default.fileExists(atPath: log) }
    #expect(steps().count == 1)
    running.send(SIGKILL)
    _ = try await running.result()
    for _ in 0..<3_000 where !steps().isEmpty { try await Task.sleep(for: .milliseconds(10)) }
    #expect(steps().isEmpty)
    for pid in steps() { kill(pid, SIGKILL) }
  }

  /// What a step reads may take minutes: an interruption meanwhile is not lost, and the step does not begin.
  @Test func interruptedWhileItReads() async throws {
    // Read until its writer closes it.
    let pipe = models.path("slow-input")
    #expect(mkfifo(pipe, 0o600) == 0)
    let plan = try models.write(
      "slow.yaml", ["steps: [{ run: \"echo > slow.txt\", reads: slow-input, out: slow.txt }]"])
    let running = try Product.Running(["train", plan])
    var writer: Int32 = -1
    for _ in 0..<1_000 where writer < 0 {
      try await Task.sleep(for: .milliseconds(10))
      // Fails until there is a reader.
      writer = open(pipe, O_WRONLY | O_NONBLOCK)
    }
    if writer < 0 { running.send(SIGKILL) }
    try #require(writer >= 0, "\(running.errorsSoFar)")
    try await Task.sleep(for: .milliseconds(100))
    running.send(SIGINT)
    try await Task.sleep(for: .milliseconds(300))
    close(writer)
    let result = try await running.result()
    #expect(result.code == 130, "\(result.code) \(result.errors)")
    #expect(!FileManager.default.fileExists(atPath: models.path("slow.txt")))
    #expect(!FileManager.default.fileExists(atPath: models.path("slow.txt.plan-begun")))
  }

  /// Nor is one that comes just before the step's process.
  @Test func nothingStartsAfterAnInterruption() {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/sh")
    process.arguments = ["-c", "exit 0"]
    let box = TrainPlanCommand.ProcessBox(process, isGroup: false)
    box.interrupt()
    #expect(throws: CancellationError.self) { try box.start() }
    #expect(!box.process.isRunning)
  }

  /// A grader is where the plan is, like everything that it names, and not where its caller is.
  @Test func gradersWorkInThePlansDirectory() async throws {
    _ = try models.cluster("placing")
    try models.put("placed/prompts.jsonl", "{\"prompt\": \"ab\"}\n")
    try models.put("placed/grade", "#!/bin/sh\ntest -x \"$FUSIONROUTE\" && echo graded >> graded.txt\n")
    try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: models.path("placed/grade"))
    func run(answers: Int) async throws -> Product.Result {
      try models.put(
        "placed/plan.yaml",
        """
        steps:
          - sample: prompts.jsonl
            cluster: ../placing.yaml
            grader: ./grade
            answers: \(answers)
            temperature: 1.5
            max_tokens: 8
            out: placed.jsonl
        """)
      let command = "cd '\(models.folder.path)' && exec '\(Product.path)' train placed/plan.yaml"
      return try await Product.Running(["-c", command], executable: "/bin/sh").result()
    }
    func lines(_ name: String) throws -> [String] {
      try String(contentsOfFile: models.path("placed/\(name)"), encoding: .utf8).split(separator: "\n").map(String.init)
    }
    let first = try await run(answers: 4)
    #expect(first.code == 0, "\(first.errors)")
    #expect(try lines("graded.txt").count > 0)
    let four = try lines("placed.jsonl.answers")
    #expect(four.count == 5)
    // More answers are as many more, and the minutes go on.
    let second = try await run(answers: 6)
    #expect(second.code == 0, "\(second.errors)")
    let six = try lines("placed.jsonl.answers")
    #expect(six.count == 7 && Set(six).isSuperset(of: four), "\(six)")
    let report = try lines("plan.yaml.report.jsonl")
    #expect(report.count { $0.contains("\"begun\"") } == 1 && report.count == 3, "\(report)")
  }

  @Test func stepsFindWhatTheirPlanFinds() {
    let own = ["FUSIONROUTE_CACHE": "cache", "FUSIONROUTE_STATE": "/state", "FUSIONROUTE": "./fusionroute", "A": "b"]
    let steps = TrainPlanCommand.environment(from: own, executable: "/bin/fusionroute")
    let here = URL(fileURLWithPath: FileManager.default.currentDirectoryPath).standardizedFileURL.path
    #expect(
      steps == [
        "FUSIONROUTE_CACHE": "\(here)/cache", "FUSIONROUTE_STATE": "/state", "FUSIONROUTE": "/bin/fusionroute",
        "A": "b",
      ])
  }

  /// What a command of the user's leaves may look like a log of training, and may say anything.
  @Test func foreignLogsTellNoTokens() throws {
    let report = PlanReport(plan: models.path("foreign.yaml"))
    let step = TrainingPlan.Step(action: .run("x"), out: models.path("foreign"), line: 1)
    for (seconds, speed, tokens) in [
      ("1e400", "1", nil), ("0", "1e400", nil), ("1e200", "1e200", nil), ("1e18", "100", nil), ("2", "6.2", 12),
    ] as [(String, String, Double?)] {
      try models.put("foreign/log.jsonl", "{\"seconds\": \(seconds), \"tokens_per_second\": \(speed)}\n")
      #expect(PlanReport.tokens(of: step.out) == tokens, "\(seconds) × \(speed)")
      try report.add(step, seconds: 1, isFinished: true)
      #expect(report.lines(of: [step]).first?.contains("tokens") == (tokens != nil), "\(seconds) × \(speed)")
    }
    #expect(report.seconds() == [step.out: 5])
  }
}

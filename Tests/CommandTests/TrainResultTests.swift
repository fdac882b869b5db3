import Core
import Foundation
import Inference
import ModelFiles
import Testing

@testable import Evaluation
@testable import fusionroute

/// What runs leave in their directories, one after the other, and what is taken of it.
@Suite(.serialized) struct TrainResultTests {
  let models: ToyModels
  private static let fast = ["--threads", "1", "--precision", "f32", "--library", "builtin"]

  init() throws { models = try ToyModels.shared.get() }

  private func train(_ arguments: [String], _ out: String, _ more: [String] = []) async throws -> Product.Result {
    try await Product.run(
      ["train"] + arguments + ["--out", models.path(out), "--steps", "1", "--batch", "16", "--checkpoint-every", "0"]
        + Self.fast + more)
  }

  /// A directory of its own with files, each made so many minutes ago and with its name as contents.
  private func folder(_ name: String, _ files: [(name: String, minutes: Double)]) throws -> String {
    let folder = models.path(name)
    try? FileManager.default.removeItem(atPath: folder)
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    for (file, minutes) in files {
      try Data(file.utf8).write(to: URL(fileURLWithPath: "\(folder)/\(file)"))
      try FileManager.default.setAttributes(
        [.modificationDate: Date(timeIntervalSince1970: 1e9 - 60 * minutes)], ofItemAtPath: "\(folder)/\(file)")
    }
    return folder
  }

  private func results(_ name: String) -> [String] {
    RunResults.names.filter { FileManager.default.fileExists(atPath: models.path("\(name)/\($0)")) }
  }

  /// A run in another mode leaves its own results alone: what others were is gone.
  @Test func modesAreNotMixed() async throws {
    let pairs = try models.write("modes-pairs.jsonl", TrainingLines.pairs)
    let reward = ["reward", models.path("router.gguf"), "--data", pairs]
    for (more, left, removed) in [
      (["--rank", "2", "--bake", "bf16"], ["adapter.gguf", "model.gguf", "head.gguf"], nil),
      (["--rank", "2"], ["adapter.gguf", "head.gguf"], "model.gguf"),
      (["--full"], ["model.gguf", "head.gguf"], "adapter.gguf"),
      (["--rank", "2"], ["adapter.gguf", "head.gguf"], "model.gguf"),
    ] as [([String], [String], String?)] {
      let result = try await train(reward, "modes", more)
      #expect(result.code == 0, "\(more): \(result.errors)")
      #expect(results("modes") == left, "\(more)")
      let lines = result.output.split(separator: "\n").filter { $0.hasPrefix("removed") }
      #expect(lines.count == (removed == nil ? 0 : 1) && lines.allSatisfy { $0.contains("modes/\(removed ?? "")") })
    }
  }

  /// What no run has left there is not removed: neither is it what another run goes on from.
  @Test func othersFilesStay() async throws {
    let data = try models.write("foreign-data.jsonl", TrainingLines.questions)
    let router = ["lm", models.path("router.gguf"), "--data", data, "--rank", "2"]
    let head = try models.bytes("head.gguf")
    _ = try folder("foreign-run", [])
    try head.write(to: URL(fileURLWithPath: models.path("foreign-run/head.gguf")))
    let refused = try await train(router, "foreign-run")
    #expect(refused.code == 64 && refused.errors.contains("foreign-run/head.gguf"), "\(refused.errors)")
    #expect(try models.bytes("foreign-run/head.gguf") == head && results("foreign-run") == ["head.gguf"])

    _ = try folder("foreign-base", [])
    let base = models.path("foreign-base/model.gguf")
    let ant = try models.bytes("ant.gguf")
    try ant.write(to: URL(fileURLWithPath: base))
    // A run that reads it leaves its adapter beside it, and another one that does not would mix the two.
    let beside = try await train(["lm", base, "--data", data, "--rank", "2"], "foreign-base")
    #expect(beside.code == 0, "\(beside.errors)")
    let other = try await train(router, "foreign-base")
    #expect(other.code == 64 && other.errors.contains("foreign-base/model.gguf"), "\(other.errors)")
    #expect(try models.bytes("foreign-base/model.gguf") == ant)
  }

  /// Everything is gone before anything new is written, so that no crash leaves files of two runs.
  @Test func roomIsMadeFirst() throws {
    func clear(_ old: [String], _ new: [String], reading: String? = nil) throws -> (stale: [String], left: [String]) {
      let folder = try folder("room", old.map { ($0, 5) })
      try RunResults(folder: folder, written: old, inputs: []).list()
      let results = RunResults(folder: folder, written: new, inputs: reading.map { ["\(folder)/\($0)"] } ?? [])
      try results.check()
      return (try results.clear(), self.results("room"))
    }
    let (adapter, model, head) = ("adapter.gguf", "model.gguf", "head.gguf")
    for (old, new, stale) in [
      ([adapter, head], [model, head], [adapter]), ([model, head], [adapter, head], [model]),
      ([adapter, head], [adapter, head], []), ([adapter, head], [adapter], [head]),
      ([adapter, model, head], [adapter, head], [model]),
    ] as [([String], [String], [String])] {
      let cleared = try clear(old, new)
      #expect(cleared.stale == stale && cleared.left.isEmpty, "\(old), \(new): \(cleared)")
    }
    // One file alone is replaced at once, and what is read is not in the way.
    let alone = try clear([adapter], [adapter])
    #expect(alone.stale.isEmpty && alone.left == [adapter])
    let beside = try clear([adapter, model], [adapter], reading: model)
    #expect(beside.stale.isEmpty && beside.left == [adapter, model])
  }

  /// Who goes on from results, and who computes with them, takes what was left together.
  @Test func oneChoiceForAll() throws {
    let (adapter, model, head) = ("adapter.gguf", "model.gguf", "head.gguf")
    for (files, adapters, everyWeight, computing) in [
      ([(adapter, 9), (head, 9)], adapter, nil, adapter), ([(model, 9), (head, 9)], model, model, model),
      ([(adapter, 9), (model, 8), (head, 8)], adapter, model, model),
      ([(model, 9), (adapter, 2), (head, 2)], adapter, nil, adapter), ([(head, 1)], nil, nil, nil),
    ] as [([(String, Double)], String?, String?, String?)] {
      let folder = try folder("choice", files.map { ($0.0, $0.1) })
      for (purpose, expected) in [
        (.adapters, adapters), (.everyWeight, everyWeight), (.computing, computing),
      ] as [(TrainStart.Purpose, String?)] {
        let what: Comment = "\(files), \(purpose)"
        guard let expected else {
          let error = #expect(throws: FusionRouteError.self, what) {
            _ = try TrainStart(resultsIn: folder, baseModel: "base", for: purpose)
          }
          #expect(error?.code == .badInput && error?.message.contains("model.gguf") == true, what)
          continue
        }
        let start = try TrainStart(resultsIn: folder, baseModel: "base", for: purpose)
        #expect(start.model == (expected == model ? "\(folder)/model.gguf" : "base"), what)
        #expect(start.adapter == (expected == adapter ? "\(folder)/adapter.gguf" : nil), what)
        #expect(start.head == "\(folder)/head.gguf", what)
      }
    }
  }

  /// Both ways to compute rewards take the whole model where there is one: the adapter here is none.
  @Test func rewardsAreOfOneResult() async throws {
    let pairs = try models.write("whole-pairs.jsonl", TrainingLines.pairs)
    let trained = try await train(["reward", models.path("router.gguf"), "--data", pairs], "whole-reward", ["--full"])
    #expect(trained.code == 0, "\(trained.errors)")
    let adapter = models.path("whole-reward/adapter.gguf")
    try Data("no adapter".utf8).write(to: URL(fileURLWithPath: adapter))
    try FileManager.default.setAttributes(
      [.modificationDate: Date(timeIntervalSince1970: 1e9)], ofItemAtPath: adapter)
    try await expectOneReward("whole-reward", model: "router.gguf", answers: ["good words", "old words 7 and more"])
  }

  /// Trained without a template, a reward is computed without one; and what is longer than the model takes is cut.
  @Test func rawRewardsOfShortModels() async throws {
    var recipe = ModelRecipe(seed: 11)
    (recipe.context, recipe.chatTemplate) = (256, false)
    try ModelMaker.make(recipe, to: models.path("short.gguf"))
    let pairs = try models.write("raw-pairs.jsonl", TrainingLines.pairs)
    let trained = try await train(
      ["reward", models.path("short.gguf"), "--data", pairs, "--rank", "2", "--raw"], "raw-reward")
    #expect(trained.code == 0, "\(trained.errors)")
    #expect(try RoutingHead.read(models.path("raw-reward/head.gguf")).isRaw)
    try await expectOneReward(
      "raw-reward", model: "short.gguf",
      answers: ["good words 7", String(repeating: "many more words ", count: 100)])
    // Just the texts, as the data had them.
    let scorer = try RewardScorer(model: models.path("short.gguf"), folder: models.path("raw-reward"))
    let vocabulary = try Model.load(
      path: models.path("short.gguf"), options: ModelLoadOptions(vocabularyOnly: true)
    ).vocabulary
    let tokens = try scorer.tokens([.init(role: "user", content: "say 7")], answer: "good words 7")
    let expected =
      try vocabulary.tokenize("say 7", addSpecial: true, parseSpecial: false)
      + vocabulary.tokenize("good words 7", addSpecial: false, parseSpecial: false)
    #expect(tokens == expected + [try #require(vocabulary.endOfSequence)])

    // A head of the same weights without that note goes through a template, which this model lacks.
    let head = try RoutingHead.read(models.path("raw-reward/head.gguf"))
    try RoutingHead(experts: head.experts, weight: head.weight, bias: head.bias, embeddingWidth: head.embeddingWidth)
      .write(models.path("raw-reward/head.gguf"))
    let error = #expect(throws: FusionRouteError.self) {
      _ = try RewardGrader(model: models.path("short.gguf"), folder: models.path("raw-reward"), threads: 1)
    }
    #expect(error?.message.contains("chat template") == true, "\(String(describing: error))")
  }

  /// The training engine and llama.cpp agree on the rewards of a directory.
  private func expectOneReward(_ name: String, model: String, answers: [String]) async throws {
    let grader = try RewardGrader(model: models.path(model), folder: models.path(name), threads: 1)
    let scorer = try RewardScorer(model: models.path(model), folder: models.path(name))
    try scorer.use(slots: 2, threads: 1, longest: RewardScorer.maximumLength)
    defer { scorer.stop() }
    for answer in answers {
      let expected = try grader.score(prompt: [.init(role: "user", content: "say 7")], answer: answer)
      let rating = try await scorer.rate([.init(role: "user", content: "say 7")], answer: answer)
      // The KV cache is F16 unless the weights are F32.
      #expect(
        abs(rating.reward - expected) <= 2e-2 * max(1, abs(expected)), "\(answer): \(rating) against \(expected)")
    }
  }

  /// --max-length beyond the model's context does not end a run in the middle.
  @Test func longDataOfShortModels() async throws {
    var recipe = ModelRecipe(seed: 13)
    recipe.context = 64
    try ModelMaker.make(recipe, to: models.path("shorter.gguf"))
    let long = String(repeating: "many more words ", count: 60)
    let data = try models.write(
      "long-data.jsonl", TrainingLines.questions + ["{\"prompt\": \"say it\", \"completion\": \"\(long)\"}"])
    let model = models.path("shorter.gguf")
    let result = try await train(["lm", model, "--data", data, "--rank", "2", "--max-length", "4096"], "long-run")
    #expect(result.code == 0, "\(result.errors)")
    #expect(result.errors.contains("at most 65 tokens") && result.errors.contains("1 cut to 65 tokens"))
    // Where nothing is left, the model is the reason.
    let prompts = try models.write(
      "long-prompts.jsonl", ["{\"prompt\": \"\(long)\", \"chosen\": \"a\", \"rejected\": \"b\"}"])
    let none = try await train(["dpo", model, "--data", prompts, "--rank", "2"], "long-none")
    #expect(none.code == 65 && none.errors.contains("the model takes no more"), "\(none.errors)")
    #expect(!none.errors.contains("--max-length"), "\(none.errors)")
  }

  /// Pairs that teach a reward nothing are counted, and are not called too long.
  @Test func equalPairsAreTold() async throws {
    let line = "{\"prompt\": \"say\", \"chosen\": \"same words\", \"rejected\": \"same words\"}"
    let equal = try models.write("equal-pairs.jsonl", [line, line])
    let mixed = try models.write("mixed-pairs.jsonl", [line] + TrainingLines.pairs)
    let reward = ["reward", models.path("router.gguf"), "--rank", "2", "--data"]
    let none = try await train(reward + [equal], "equal-none")
    #expect(none.code == 65 && none.errors.contains("equal-pairs.jsonl are equal"), "\(none.errors)")
    #expect(!none.errors.contains("--max-length"), "\(none.errors)")
    let some = try await train(reward + [mixed], "equal-some")
    #expect(some.code == 0 && some.errors.contains("10 used"), "\(some.errors)")
    #expect(some.errors.contains("0 left out as too long, 1 with two equal answers"), "\(some.errors)")
  }

  // MARK: Interruptions

  private func entries(_ name: String) -> Int {
    let text = (try? String(contentsOfFile: models.path("\(name)/log.jsonl"), encoding: .utf8)) ?? ""
    return text.split(separator: "\n").count
  }

  /// Ctrl-C in the evaluation before the first step ends it at once.
  @Test func heldOutPassesAreInterrupted() async throws {
    let data = try models.write("held-out-short.jsonl", TrainingLines.questions)
    let long = String(repeating: "many more words ", count: 10)
    let heldOut = try models.write(
      "held-out-long.jsonl", (1...800).map { "{\"prompt\": \"say \($0)\", \"completion\": \"\(long)\($0)\"}" })
    let running = try Product.Running(
      [
        "train", "lm", models.path("router.gguf"), "--data", data, "--held-out", heldOut, "--out",
        models.path("held-out-run"), "--rank", "2", "--steps", "5",
      ] + Self.fast)
    try await running.wait("the log") {
      FileManager.default.fileExists(atPath: models.path("held-out-run/log.jsonl"))
    }
    running.send(SIGINT)
    let result = try await running.result()
    #expect(result.code == 130 && result.errors.contains("interrupted before the first step"), "\(result.errors)")
    // It was in the middle of it.
    #expect(entries("held-out-run") == 0)
  }

  /// Ctrl-C where no checkpoint can be written: what is lost is said.
  @Test func lostCheckpointsAreTold() async throws {
    let data = try models.write("lost-data.jsonl", TrainingLines.questions)
    let folder = try folder("lost", [("checkpoints", 1)])
    let running = try Product.Running(
      [
        "train", "lm", models.path("router.gguf"), "--data", data, "--out", folder, "--rank", "2", "--steps", "100000",
        "--checkpoint-every", "100000", "--batch", "2",
      ] + Self.fast)
    try await running.wait("a step") { entries("lost") > 0 }
    running.send(SIGINT)
    let result = try await running.result()
    #expect(result.code == 130, "\(result.errors)")
    #expect(result.errors.contains("error: interrupted after step "), "\(result.errors)")
    #expect(result.errors.contains("begins again"), "\(result.errors)")
    #expect(result.errors.contains("\(folder)/checkpoints"), "\(result.errors)")
  }

  /// What fails while a run is interrupted is told beside that, where the reason of an interruption is wanted.
  @Test func faultsOfInterruptedRunsAreTold() {
    let fault = Result<Void, any Error>.failure(FusionRouteError.unavailable("the disk is full"))
    let end = Result<Void, any Error>.failure(FusionRouteError.interrupted("interrupted after step 3"))
    for (result, keepsReason, text) in [
      (fault, true, "interrupted (the disk is full)"), (fault, false, "interrupted"),
      (end, true, "interrupted after step 3"), (end, false, "interrupted"), (.success(()), true, "interrupted"),
      (.failure(CancellationError()), true, "interrupted"),
    ] as [(Result<Void, any Error>, Bool, String)] {
      let error = interruption(of: result, keepsReason: keepsReason)
      #expect(error.code == .interrupted && error.description == text)
    }
  }
}

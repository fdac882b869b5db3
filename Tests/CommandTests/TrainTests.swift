import Core
import Foundation
import Inference
import Launch
import ModelFiles
import Testing

@testable import fusionroute

/// `train` as users run it, with real workers.
@Suite(.serialized) struct TrainTests {
  let models: ToyModels
  private static let fast = ["--threads", "1", "--precision", "f32", "--library", "builtin"]

  init() throws { models = try ToyModels.shared.get() }

  private func entries(_ folder: String) throws -> [[String: Any]] {
    let text = try String(contentsOfFile: models.path("\(folder)/log.jsonl"), encoding: .utf8)
    return try text.split(separator: "\n").map { line in
      try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
    }
  }

  /// Both stages, from data to a cluster that answers with what was learnt.
  @Test func bothStages() async throws {
    let cluster = try models.cluster("train", head: "not-there.gguf")
    let data = try models.write("sft.jsonl", TrainingLines.questions)
    let heldOut = try models.write("sft-held-out.jsonl", Array(TrainingLines.questions.prefix(2)))
    let pairs = try models.write("pairs.jsonl", TrainingLines.pairs)
    let cache = ["FUSIONROUTE_CACHE": models.path("train-cache")]
    let sft = [
      "train", "sft", "-c", cluster, "--data", data, "--held-out", heldOut, "--out", models.path("stage1"), "--steps",
      "4", "--batch", "4", "--rank", "4", "--evaluate-every", "0",
    ]
    let first = try await Product.run(sft + Self.fast, environment: cache)
    #expect(first.code == 0, "\(first.errors)")
    for name in ["adapter.gguf", "head.gguf", "report.html", "log.jsonl"] {
      #expect(FileManager.default.fileExists(atPath: models.path("stage1/\(name)")), "\(name)")
    }
    let log = try entries("stage1")
    #expect(log.filter { $0["held_out"] == nil }.compactMap { $0["step"] as? Int } == [1, 2, 3, 4])
    // A head of zeros is undecided between three experts.
    let entropy = try #require(log.first?["routing_entropy"] as? Double)
    #expect(abs(entropy - log3) <= 1e-5)
    #expect(log.allSatisfy { ($0["route"] as? Double)?.isFinite == true })
    let head = try RoutingHead.read(models.path("stage1/head.gguf"))
    #expect(head.experts == ToyModels.experts && head.weight.contains { $0 != 0 })

    // The experts' answers are known by now: nothing is asked, and the result is the same.
    let scores = try FileManager.default.contentsOfDirectory(atPath: models.path("train-cache/scores")).sorted()
    #expect(scores.count == 3)
    let sizes = try scores.map { try models.bytes("train-cache/scores/\($0)").count }
    var again = sft
    again[again.firstIndex(of: models.path("stage1"))!] = models.path("stage1-again")
    #expect(try await Product.run(again + Self.fast, environment: cache).code == 0)
    #expect(try scores.map { try models.bytes("train-cache/scores/\($0)").count } == sizes)
    #expect(try models.bytes("stage1-again/adapter.gguf") == models.bytes("stage1/adapter.gguf"))

    let second = try await Product.run(
      [
        "train", "cdpo", "-c", cluster, "--from", models.path("stage1"), "--data", pairs, "--mix", data, "--out",
        models.path("stage2"), "--steps", "4", "--batch", "6", "--mix-batch", "2", "--max-bias", "0", "--length-ratio",
        "0",
      ] + Self.fast, environment: cache)
    #expect(second.code == 0, "\(second.errors)")
    // Those that it learnt from, for another run.
    #expect(try models.bytes("stage2/pairs.jsonl") == (try Data(contentsOf: URL(fileURLWithPath: pairs))))
    let pairLog = try entries("stage2").filter { $0["pairs"] != nil && $0["held_out"] == nil }
    #expect(try #require(pairLog.first?["largest_margin"] as? Double) <= 1e-5)
    #expect(pairLog.contains { ($0["bias_quantiles"] as? [Double])?.contains { $0 != 0 } == true })

    // Pairs alone leave the head as it is, to the bit.
    let alone = try await Product.run(
      [
        "train", "cdpo", "-c", cluster, "--from", models.path("stage1"), "--data", pairs, "--out",
        models.path("stage2-pairs"), "--steps", "3", "--batch", "4", "--max-bias", "0", "--length-ratio", "0",
      ] + Self.fast, environment: cache)
    #expect(alone.code == 0, "\(alone.errors)")
    #expect(try models.bytes("stage2-pairs/head.gguf") == models.bytes("stage1/head.gguf"))
    #expect(try models.bytes("stage2-pairs/adapter.gguf") != models.bytes("stage1/adapter.gguf"))

    // What was trained serves.
    let text = try String(contentsOfFile: cluster, encoding: .utf8).replacingOccurrences(
      of: "head: not-there.gguf", with: "head: stage2/head.gguf, lora: stage2/adapter.gguf")
    let trained = models.path("trained.yaml")
    try Data(text.utf8).write(to: URL(fileURLWithPath: trained))
    let answer = try await Product.run(["run", "-c", trained, "--prompt", "say 3 words", "--max-tokens", "8"])
    #expect(answer.code == 0 && !answer.output.isEmpty, "\(answer.errors)")
  }

  private var log3: Double { 1.0986122886681098 }

  /// Killed at any moment and started again until it is done, a run ends with the same bytes.
  @Test func killedRunsGoOn() async throws {
    let seed = UInt64.random(in: 0...999)
    var generator = SplitMix64(seed: seed)
    let data = try models.write(
      "texts.jsonl", (1...24).map { "{\"text\": \"the first of \($0) words and then one more\"}" })
    func command(_ folder: String) -> [String] {
      [
        "train", "lm", models.path("router.gguf"), "--data", data, "--out", models.path(folder), "--full", "--steps",
        "30", "--batch", "4", "--checkpoint-every", "3", "--evaluate-every", "0",
      ] + Self.fast
    }
    let whole = try await Product.run(command("whole"))
    #expect(whole.code == 0, "\(whole.errors)")
    func latestCheckpoint() -> Int {
      let names = (try? FileManager.default.contentsOfDirectory(atPath: models.path("killed/checkpoints"))) ?? []
      return names.compactMap { $0.wholeMatch(of: /checkpoint-(\d+)\.gguf/).flatMap { Int($0.1) } }.max() ?? 0
    }
    func log() throws -> [String] {
      String(decoding: try models.bytes("killed/log.jsonl"), as: UTF8.self).split(separator: "\n").map(String.init)
    }
    var kills = 0
    // Lines of the steps that the last kill left a checkpoint of.
    var done: [String] = []
    while kills < 20 {
      let running = try Product.Running(command("killed"))
      switch kills {
      // At its beginning, and when there is something to go on from.
      case 0:
        try await running.wait("the log") { FileManager.default.fileExists(atPath: models.path("killed/log.jsonl")) }
      case 1: try await running.wait("a checkpoint") { latestCheckpoint() > 0 }
      default: try await Task.sleep(for: .milliseconds(100 + Int(generator.next() % 900)))
      }
      if !running.isRunning { break }
      running.send(SIGKILL)
      _ = try await running.result()
      kills += 1
      done = Array(try log().prefix(latestCheckpoint()))
    }
    #expect(kills > 1, "seed \(seed)")
    let last = try await Product.run(command("killed"))
    #expect(last.code == 0, "\(last.errors)")
    // Lines tell how long their steps took: those of steps that were done again would be others.
    let kept = Array(try log().prefix(done.count))
    #expect(!done.isEmpty && kept == done, "seed \(seed), \(kills) kills")
    #expect(try models.bytes("killed/model.gguf") == models.bytes("whole/model.gguf"), "seed \(seed)")
    #expect(try entries("killed").filter { $0["held_out"] == nil }.compactMap { $0["step"] as? Int } == Array(1...30))
    // Another seed is another run.
    let other = try await Product.run(command("killed") + ["--seed", "7"])
    #expect(other.code == 65, "\(other.errors)")
  }

  @Test func dpoWithoutExperts() async throws {
    let pairs = try models.write("dpo.jsonl", TrainingLines.pairs)
    let result = try await Product.run(
      [
        "train", "dpo", models.path("router.gguf"), "--data", pairs, "--out", models.path("dpo"), "--steps", "6",
        "--batch", "5", "--rank", "4", "--learning-rate", "2e-3", "--warmup", "1", "--length-ratio", "0", "--bake",
        "bf16", "--adapter-type", "f16",
      ] + Self.fast)
    #expect(result.code == 0, "\(result.errors)")
    let losses = try entries("dpo").compactMap { $0["preference"] as? Double }
    // At the reference every pair's loss is log 2.
    #expect(abs(try #require(losses.first) - 0.6931471805599453) <= 1e-5)
    #expect(try #require(losses.last) < 0.69)
    #expect(try GGUFFile.read(models.path("dpo/model.gguf")).tensor(named: "blk.0.ffn_up.weight")?.type == .bf16)
    let adapter = try GGUFFile.read(models.path("dpo/adapter.gguf"))
    #expect(!adapter.tensors.isEmpty && adapter.tensors.allSatisfy { $0.type == .f16 })
    // The model is the base with what was written of the adapter, and what `merge` makes of the two by other code.
    let merged = try await Product.run([
      "merge", models.path("router.gguf"), models.path("dpo/adapter.gguf"), "--out", models.path("dpo-merged.gguf"),
      "--type", "f32",
    ])
    #expect(merged.code == 0, "\(merged.errors)")
    // Taken away instead of added: a number that looks like an option.
    let negated = try await Product.run([
      "merge", models.path("router.gguf"), models.path("dpo/adapter.gguf"), "--out", models.path("dpo-negated.gguf"),
      "--lambda", "-1",
    ])
    #expect(negated.code == 0, "\(negated.errors)")
    let (whole, baked) = try (
      GGUFFile.read(models.path("dpo-merged.gguf")), GGUFFile.read(models.path("dpo/model.gguf"))
    )
    for tensor in baked.tensors where tensor.type == .bf16 {
      let expected = try whole.floats(of: try #require(whole.tensor(named: tensor.name)))
      let isClose = try zip(baked.floats(of: tensor), expected).allSatisfy { abs($0 - $1) <= abs($1) / 256 + 1e-7 }
      #expect(isClose, "\(tensor.name)")
    }
  }

  /// Pairs from a cluster's own answers, judged by a command; a reward model from them; answers judged by that.
  @Test func samplesBecomeData() async throws {
    let cluster = try models.cluster("sampling")
    let prompts = try models.write("prompts.jsonl", (1...5).map { "{\"prompt\": \"say \($0)\", \"id\": \($0)}" })
    let asked = [
      "sample", prompts, "-c", cluster, "--answers", "4", "--temperature", "1.5", "--seed", "5", "--max-tokens", "12",
      "--stop", "e", "--length-ratio", "0", "--per-prompt", "2",
    ]
    // A judge that looks at the answer and its record.
    let judge = "python3 -c 'import json, sys; c = json.load(sys.stdin); json.loads(c[\"record\"])[\"id\"]; "
    let grader = judge + "sys.exit(len(c[\"answer\"]) % 2)'"
    func sample(_ out: String, _ more: [String]) async throws -> [[String: Any]] {
      let result = try await Product.run(asked + ["--out", models.path(out)] + more)
      #expect(result.code == 0, "\(result.errors)")
      return try String(contentsOfFile: models.path(out), encoding: .utf8).split(separator: "\n").map {
        try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
      }
    }
    let pairs = try await sample("sampled-pairs.jsonl", ["--as", "pairs", "--grader", grader])
    #expect(!pairs.isEmpty)
    for pair in pairs {
      let (chosen, rejected) = (try #require(pair["chosen"] as? String), try #require(pair["rejected"] as? String))
      #expect(chosen.unicodeScalars.count % 2 == 0 && rejected.unicodeScalars.count % 2 == 1)
    }
    // Cut off in the middle, sampling goes on and ends with the same data.
    let kept = try models.bytes("sampled-pairs.jsonl")
    let answers = URL(fileURLWithPath: models.path("sampled-pairs.jsonl.answers"))
    let data = try Data(contentsOf: answers)
    try data.prefix(data.count / 2).write(to: answers)
    _ = try await sample("sampled-pairs.jsonl", ["--as", "pairs", "--grader", grader])
    #expect(try models.bytes("sampled-pairs.jsonl") == kept)
    // Other settings do not take these answers over.
    let other = try await Product.run(
      asked + ["--out", models.path("sampled-pairs.jsonl"), "--grader", grader, "--top-k", "5"])
    #expect(other.code == 65, "\(other.errors)")

    let trained = try await Product.run(
      [
        "train", "reward", models.path("router.gguf"), "--data", models.path("sampled-pairs.jsonl"), "--out",
        models.path("reward"), "--steps", "5", "--rank", "4", "--held-out",
        try models.write(
          "held-pairs.jsonl",
          ["math", "code"].map {
            "{\"task\": \"\($0)\", \"prompt\": \"say\", \"chosen\": \"a b\", \"rejected\": \"c\"}"
          }),
      ] + Self.fast)
    #expect(trained.code == 0, "\(trained.errors)")
    // One pair twice: both in the right order, or none.
    let told = trained.output + trained.errors
    #expect(
      told.contains("held out 100 % of 2 pairs (code 100 % of 1, math 100 % of 1) in the right order")
        || told.contains("held out 0 % of 2 pairs (code 0 % of 1, math 0 % of 1) in the right order"), "\(told)")
    #expect(
      try String(contentsOfFile: models.path("reward/report.html"), encoding: .utf8).contains(
        "pairs in the right order"))
    #expect(try RoutingHead.read(models.path("reward/head.gguf")).experts == ["reward"])
    let best = try await sample(
      "sampled-best.jsonl",
      ["--reward", models.path("reward"), "--model", models.path("router.gguf"), "--threshold", "-1000"])
    #expect(best.count >= 5 && best.allSatisfy { ($0["completion"] as? String)?.isEmpty == false })
    let broken = try await Product.run(asked + ["--out", models.path("broken.jsonl"), "--grader", "exit 3"])
    #expect(broken.code == 65 && !FileManager.default.fileExists(atPath: models.path("broken.jsonl")))
  }

  /// Two that write one result would write over each other's work, hours of it.
  @Test func whatIsBeingWrittenIsHeld() async throws {
    let cluster = try models.cluster("held")
    let data = try models.write("held-data.jsonl", TrainingLines.questions)
    let plan = try models.write("held-plan.yaml", ["steps: [{ run: 'touch held.txt', out: held.txt }]"])
    try FileManager.default.createDirectory(atPath: models.path("held"), withIntermediateDirectories: true)
    let commands = [
      ("held/.lock", ["lm", models.path("router.gguf"), "--data", data, "--out", models.path("held"), "--steps", "1"]),
      ("held/.lock", ["sft", "-c", cluster, "--data", data, "--out", models.path("held"), "--steps", "1"]),
      (".held-plan.yaml.lock", [plan]),
    ].map { ($0.0, ["train"] + $0.1) }
    let sample = [
      "sample", data, "-c", cluster, "--answers", "1", "--max-tokens", "2", "--grader", "true", "--out",
      models.path("held.jsonl"),
    ]
    // A plan does not take away either what another process is writing.
    let steps = try models.write(
      "held-steps.yaml",
      [
        "steps:", "  - { sample: held-data.jsonl, cluster: \(cluster), answers: 1, grader: \"true\", out: held.jsonl }",
      ])
    _ = try models.write("held.jsonl.answers", ["another's"])
    for (lock, command) in commands + [(".held.jsonl.lock", sample), (".held.jsonl.lock", ["train", steps])] {
      let held = try ServiceLock(path: models.path(lock))
      let result = try await Product.run(command)
      #expect(result.code == 69 && result.errors.contains("another process holds"), "\(command): \(result.errors)")
      withExtendedLifetime(held) {}
    }
    #expect(try String(contentsOfFile: models.path("held.jsonl.answers"), encoding: .utf8).hasPrefix("another's"))
    try FileManager.default.removeItem(atPath: models.path("held.jsonl.answers"))
    #expect(try FileManager.default.contentsOfDirectory(atPath: models.path("held")) == [".lock"])
    #expect(!["held.txt", "held.jsonl"].contains { FileManager.default.fileExists(atPath: models.path($0)) })
    // Whoever held them is gone.
    for command in [["train", plan], sample] {
      let result = try await Product.run(command)
      #expect(result.code == 0, "\(result.errors)")
    }
  }

  /// From nothing: a vocabulary from the data, a model of a given size, and training that lowers its loss.
  @Test func fromNothing() async throws {
    let data = try models.write(
      "corpus.jsonl", (1...30).map { "{\"text\": \"the cat \($0) sat on the mat and looked at the cat \($0)\"}" })
    let made = try await Product.run([
      "make-model", models.path("fresh.gguf"), "--vocabulary-from", data, "--vocabulary-size", "320", "--layers", "2",
      "--width", "64", "--feed-forward", "128",
    ])
    #expect(made.code == 0, "\(made.errors)")
    let result = try await Product.run(
      [
        "train", "lm", models.path("fresh.gguf"), "--data", data, "--held-out", data, "--out", models.path("fresh"),
        "--full", "--steps", "40", "--batch", "6", "--learning-rate", "3e-3", "--evaluate-every", "0",
      ] + Self.fast)
    #expect(result.code == 0, "\(result.errors)")
    let losses = try entries("fresh").filter { $0["held_out"] != nil }.compactMap { $0["lm"] as? Double }
    #expect(losses.count == 2 && losses[1] < 0.5 * losses[0], "\(losses)")
    let model = try Model.load(path: models.path("fresh/model.gguf"))
    // " cat" is frequent enough to be one token.
    #expect(try model.vocabulary.tokenize(" cat", addSpecial: false, parseSpecial: false).count == 1)
  }

  @Test func headsAreImported() async throws {
    let values: [Float] = [1, 2, 3, -4, 0.5, 6]
    let header = "{\"router.head\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}}"
    var data = withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Data($0) }
    data += Data(header.utf8) + values.withUnsafeBytes { Data($0) }
    try data.write(to: URL(fileURLWithPath: models.path("head.safetensors")))
    func run(_ more: [String]) async throws -> Product.Result {
      try await Product.run(["import-head", models.path("head.safetensors"), models.path("imported.gguf")] + more)
    }
    let result = try await run(["--tensor", "router.head", "--experts", "x,y", "--complement-scale", "0.5"])
    #expect(result.code == 0, "\(result.errors)")
    let head = try RoutingHead.read(models.path("imported.gguf"))
    #expect(head.experts == ["x", "y"] && head.weight == values && head.complementScale == 0.5)
    let missing = try await run(["--tensor", "head", "--experts", "x,y"])
    #expect(missing.code == 65 && missing.errors.contains("router.head"), "\(missing.errors)")
    #expect(try await run(["--tensor", "router.head", "--experts", "x,y,z"]).code == 65)
    #expect(try await run(["--tensor", "router.head"]).code == 64)
    #expect(try await run([]).code == 65)

    let scaled = models.path("scaled.gguf")
    let again = try await Product.run([
      "import-head", models.path("imported.gguf"), scaled, "--complement-scale", "0.75",
    ])
    #expect(again.code == 0, "\(again.errors)")
    let copy = try RoutingHead.read(scaled)
    #expect(copy.experts == head.experts && copy.weight == values && copy.complementScale == 0.75)
    let refused = try await Product.run(["import-head", models.path("imported.gguf"), scaled, "--complement-scale=-1"])
    #expect(refused.code == 65 && refused.errors.contains("complement_scale"), "\(refused.errors)")
  }

  @Test func faultsAreSaidInOneSentence() async throws {
    let bad = try models.write(
      "bad.jsonl", TrainingLines.questions.prefix(2) + ["{\"prompt\": \"a\", \"completion\": \"\"}"])
    let good = try models.write("good.jsonl", TrainingLines.questions)
    let uneven = try models.write(
      "uneven.jsonl", ["{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"many more words than that\"}"])
    let model = models.path("router.gguf")
    for (arguments, code, word) in [
      (["lm", model, "--data", bad], Int32(65), "bad.jsonl:3"), (["lm", model, "--data", "nowhere"], 65, "nowhere"),
      (["lm", models.path("head.gguf"), "--data", good], 65, "head.gguf"),
      (["dpo", model, "--data", good], 65, "good.jsonl:1"),
      (["lm", model, "--data", good, "--rank", "0"], 64, "rank"),
      (["lm", model, "--data", good, "--targets", "attn_x"], 64, "targets"),
      (["lm", model, "--data", good, "--max-length", "2"], 65, "max-length"),
      (["lm", model, "--data", good, "--bake", "q9"], 64, "q9"),
      (["lm", model, "--data", good, "--rank", "9223372036854775807"], 64, "rank"),
      (["lm", model, "--data", good, "--full", "--rank", "4"], 64, "--rank"),
      (["dpo", model, "--data", good, "--length-ratio", "nan"], 64, "--length-ratio"),
      (["dpo", model, "--data", good, "--length-ratio=-1"], 64, "--length-ratio"),
      (["dpo", model, "--data", good, "--mix-batch", "2"], 64, "--mix"),
      (["dpo", model, "--data", uneven], 65, "of too different lengths"),
    ] {
      let result = try await Product.run(["train"] + arguments + ["--out", models.path("nothing")] + Self.fast)
      #expect(result.code == code, "\(arguments): \(result.errors)")
      #expect(result.errors.contains(word), "\(arguments): \(result.errors)")
    }
    #expect(!FileManager.default.fileExists(atPath: models.path("nothing/adapter.gguf")))
  }

  /// What goes on from an adapter has its rank and targets; others are not passed over in silence.
  @Test func adaptersKeepTheirShape() async throws {
    let data = try models.write("shape.jsonl", TrainingLines.questions)
    func train(_ out: String, _ more: [String]) async throws -> Product.Result {
      try await Product.run(
        ["train", "lm", models.path("router.gguf"), "--data", data, "--out", models.path(out), "--steps", "1"] + more
          + Self.fast)
    }
    let first = try await train("shape", ["--rank", "2", "--targets", "attn_q,attn_v"])
    #expect(first.code == 0, "\(first.errors)")
    let adapter = ["--adapter", models.path("shape/adapter.gguf")]
    for other in [["--rank", "4"], ["--alpha", "3"], ["--targets", "attn_q"]] {
      let result = try await train("shape-on", adapter + other)
      #expect(result.code == 64 && result.errors.contains(other[0]), "\(other): \(result.errors)")
    }
    let same = try await train("shape-on", adapter + ["--rank", "2", "--alpha", "4", "--targets", "attn_v,attn_q"])
    #expect(same.code == 0, "\(same.errors)")
  }

  /// A type that the model's rows do not fit is refused before the first step, and a finished run is evaluated once.
  @Test func endsAreThoughtOfAtTheBeginning() async throws {
    let data = try models.write("ends.jsonl", TrainingLines.questions)
    var recipe = ModelRecipe(seed: 3)
    (recipe.width, recipe.layers, recipe.heads, recipe.kvHeads) = (24, 1, 2, 2)
    try ModelMaker.make(recipe, to: models.path("narrow.gguf"))
    let refused = try await Product.run(
      [
        "train", "lm", models.path("narrow.gguf"), "--data", data, "--full", "--bake", "q8_0", "--out",
        models.path("narrow"), "--steps", "1",
      ] + Self.fast)
    #expect(refused.code == 64 && refused.errors.contains("q8_0"), "\(refused.errors)")
    #expect(!FileManager.default.fileExists(atPath: models.path("narrow/log.jsonl")))
    for _ in 0..<2 {
      let result = try await Product.run(
        [
          "train", "lm", models.path("narrow.gguf"), "--data", data, "--held-out", data, "--out", models.path("ended"),
          "--steps", "2", "--rank", "2",
        ] + Self.fast)
      #expect(result.code == 0, "\(result.errors)")
    }
    #expect(try entries("ended").filter { $0["held_out"] != nil }.compactMap { $0["step"] as? Int } == [0, 2])
  }
}

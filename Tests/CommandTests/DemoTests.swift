import Core
import Foundation
import Testing

@testable import fusionroute

/// `demo` with a family of experts, made here of small models.
@Suite(.serialized) struct DemoTests {
  let models: ToyModels
  private static let fast = ["--threads", "1", "--precision", "f32", "--library", "builtin"]

  init() throws { models = try ToyModels.shared.get() }

  private func write(_ name: String, _ text: String) throws -> String {
    let path = models.path(name)
    try Data(text.utf8).write(to: URL(fileURLWithPath: path))
    return path
  }

  private func manifest(base: String, experts: String = #"{"ant":"ant.gguf","bee":"bee.gguf","cat":"cat.gguf"}"#)
    -> String
  {
    """
    { "title": "A family of toys", "base": { "file": "router.gguf", "sha256": "\(base)" }, "router": "own.gguf",
      "head": "head.gguf", "experts": \(experts), "prompts": "prompts.jsonl" }
    """
  }

  /// A directory with four adapters that were trained for some steps.
  private func family() async throws -> (folder: String, digest: String) {
    let folder = models.path("family")
    let base = try Data(contentsOf: URL(fileURLWithPath: models.path("router.gguf")))
    let digest = SHA256Digest(hashing: base).hex
    if FileManager.default.fileExists(atPath: "\(folder)/family.json") { return (folder, digest) }
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    for name in ["own"] + ToyModels.experts {
      let data = try write(
        "family-\(name).jsonl",
        (1...8).map { "{\"text\": \"\(name) says \($0) \(name) words\"}" }.joined(separator: "\n"))
      let result = try await Product.run(
        [
          "train", "lm", models.path("router.gguf"), "--data", data, "--out", models.path("family-\(name)"), "--steps",
          "3", "--rank", "2", "--learning-rate", "1e-2", "--warmup", "1",
        ] + Self.fast)
      #expect(result.code == 0, "\(result.errors)")
      try FileManager.default.copyItem(
        atPath: models.path("family-\(name)/adapter.gguf"), toPath: "\(folder)/\(name).gguf")
    }
    try FileManager.default.copyItem(atPath: models.path("head.gguf"), toPath: "\(folder)/head.gguf")
    _ = try write(
      "family/prompts.jsonl",
      (1...2).map {
        "{\"id\":\"p\($0)\",\"task\":\"toy\",\"messages\":[{\"role\":\"user\",\"content\":\"say \($0)\"}],\"grader\":{}}"
      }.joined(separator: "\n"))
    _ = try write("family/family.json", manifest(base: digest))
    return (folder, digest)
  }

  @Test func promptsAreAnsweredTogetherAndAlone() async throws {
    let (folder, _) = try await family()
    let cache = ["FUSIONROUTE_CACHE": models.path("demo-cache")]
    let grader = try write(
      "demo-grader.py",
      """
      import json, sys
      for line in sys.stdin:
          asked = json.loads(line)
          print(json.dumps({"id": asked["id"], "passed": asked["id"] == "p1"}), flush=True)
      """)
    let command = [
      "demo", "--family", folder, "--model", models.path("router.gguf"), "--max-tokens", "6", "--grader",
      "python3 \(grader)",
    ]
    let result = try await Product.run(command + ["--format", "json"], environment: cache)
    #expect(result.code == 0, "\(result.errors)")
    let objects = try result.output.split(separator: "\n").map {
      try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
    }
    #expect(objects.compactMap { $0["id"] as? String } == ["p1", "p2"])
    let baked = models.path("demo-cache/models")
    let name = try #require(try FileManager.default.contentsOfDirectory(atPath: baked).first)
    let files = try FileManager.default.contentsOfDirectory(atPath: "\(baked)/\(name)").sorted()
    #expect(files == ["_router-q8_0.gguf", "ant-q8_0.gguf", "bee-q8_0.gguf", "cat-q8_0.gguf"])
    // The same texts as a cluster of the baked models gives.
    let cluster = try write(
      "demo-cluster.yaml",
      "router: { model: \(baked)/\(name)/_router-q8_0.gguf, head: \(folder)/head.gguf, context: 2048 }\nexperts:\n"
        + ToyModels.experts.map { "  \($0): { model: \(baked)/\(name)/\($0)-q8_0.gguf, context: 2048 }\n" }.joined())
    for (object, prompt) in zip(objects, ["say 1", "say 2"]) {
      let fused = try #require(object["fusionroute"] as? [String: Any])
      let alone = try #require(object["alone"] as? [String: [String: Any]])
      #expect(fused["passed"] as? Bool == (prompt == "say 1") && alone.keys.sorted() == ToyModels.experts)
      for (mode, text) in [("fusion", fused["text"]), ("expert:bee", alone["bee"]?["text"])] {
        let told = try await Product.run(
          ["run", "-c", cluster, "--mode", mode, "--prompt", prompt, "--max-tokens", "6", "--format", "json"])
        #expect(try AnswerObject.list(told.output).first?.text == text as? String, "\(mode)")
      }
    }
    // What is baked stays, and people see who was right.
    let stamps = try files.map {
      try FileManager.default.attributesOfItem(atPath: "\(baked)/\(name)/\($0)")[.modificationDate] as? Date
    }
    let text = try await Product.run(command, environment: cache)
    #expect(text.code == 0 && text.errors.contains("Right answers, of 2: all together 1"), "\(text.errors)")
    #expect(text.output.contains("say 2") && text.output.contains("bee alone"))
    let later = try files.map {
      try FileManager.default.attributesOfItem(atPath: "\(baked)/\(name)/\($0)")[.modificationDate] as? Date
    }
    #expect(stamps == later)
    // A checkout has graders beside its family: taken unasked, and done without where they cannot grade.
    let beside = models.path("checkout/family")
    try FileManager.default.createDirectory(
      atPath: models.path("checkout/evaluation"), withIntermediateDirectories: true)
    try FileManager.default.copyItem(atPath: folder, toPath: beside)
    let unasked = ["demo", "--family", beside] + command[3..<7] + ["--no-alone"]
    func grades(_ script: String) async throws -> (code: Int32, passed: Int, errors: String) {
      let path = try write("checkout/evaluation/grade", "#!/bin/sh\n\(script)\n")
      try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: path)
      let result = try await Product.run(unasked + ["--format", "json"], environment: cache)
      return (result.code, result.output.components(separatedBy: "\"passed\":true").count - 1, result.errors)
    }
    let graded = try await grades("exec python3 \(grader)")
    #expect(graded.code == 0 && graded.passed == 1, "\(graded.errors)")
    let lacking = try await grades("echo no sandbox >&2; exit 69")
    #expect(lacking.code == 0 && lacking.passed == 0, "\(lacking.errors)")
    #expect(lacking.errors.components(separatedBy: "shown ungraded").count == 2, "\(lacking.errors)")
    // A question of one's own is not graded.
    let own = try await Product.run(
      command + ["--prompt", "hello", "--no-alone", "--format", "json"], environment: cache)
    #expect(
      own.code == 0 && own.output.contains("\"passed\":null") && own.output.contains("\"alone\":{}"), "\(own.errors)")
    // The given one comes first, then those that are typed.
    let typed = try await Product.run(
      command + ["--prompt", "hello", "--interactive", "--no-alone", "--format", "json"], input: "and you\n",
      environment: cache)
    let asked = try typed.output.split(separator: "\n").map {
      try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])["prompt"] as? String
    }
    #expect(typed.code == 0 && asked == ["hello", "and you"], "\(typed.errors)")
    let (shown, code) = try await Terminal.run(
      command + ["--interactive"],
      // A line that is no prompt does not end it.
      steps: [("Ready", "{oops\n"), ("line 1 of the prompts", "hello there\n"), ("cat alone", "\u{4}")],
      environment: cache)
    #expect(code == 0 && shown.contains("hello there") && shown.contains("first token after"), "\(shown)")
  }

  /// One question that cannot be answered takes none of the others with it, and no colour outlives its answer.
  @Test func whatFailsIsTheQuestionsOwn() async throws {
    let (folder, _) = try await family()
    let cache = ["FUSIONROUTE_CACHE": models.path("demo-cache")]
    let command = ["demo", "--family", folder, "--model", models.path("router.gguf")]
    let long = String(repeating: "word ", count: 4000)
    let asked = command + ["--prompt", "hello", "--prompt", long, "--prompt", "bye", "--max-tokens", "6"]
    let objects = try await Product.run(asked + ["--format", "json"], environment: cache)
    let list = try objects.output.split(separator: "\n").map {
      try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
    }
    let reasons = list.map { ($0["fusionroute"] as? [String: Any])?["finish_reason"] as? String }
    #expect(objects.code == 65 && reasons == ["length", "error", "length"], "\(reasons) \(objects.errors)")
    let text = try await Product.run(asked, environment: cache)
    #expect(text.code == 65 && text.errors.contains("prompt 2: ") && text.output.contains("bye"), "\(text.errors)")
    #expect(text.errors.contains("first token after"), "the closing summary: \(text.errors)")
    // Settings that would be left out.
    let typed = try await Product.run(
      command + ["--interactive", "--no-alone", "--max-tokens", "6", "--format", "json"],
      input: "{\"prompt\": \"hello\", \"temperature\": 1}\n{\"prompt\": \"bye\"}\n", environment: cache)
    #expect(typed.code == 0 && typed.errors.contains("settings are options"), "\(typed.errors)")
    #expect(typed.output.split(separator: "\n").count == 1 && typed.output.contains("\"prompt\":\"bye\""))
    // Once the answer is coloured it is interrupted.
    let (shown, code) = try await Terminal.run(
      command + ["--prompt", "hello", "--no-alone", "--max-tokens", "1900"],
      steps: [("❯ hello", ""), ("\u{1B}[38;5;", "\u{3}")], environment: cache)
    let (painted, reset) = (
      shown.range(of: "\u{1B}[38;5;", options: .backwards), shown.range(of: "\u{1B}[0m", options: .backwards)
    )
    #expect(code == 130 && !shown.contains("first token after"), "\(code)")
    #expect(try #require(painted).upperBound < #require(reset).lowerBound)
  }

  /// Answers that were not graded are neither right nor wrong.
  @Test func aGraderThatFailsBetweenAnswersCountsNothing() async throws {
    let (folder, _) = try await family()
    let beside = models.path("failing/family")
    try FileManager.default.createDirectory(
      atPath: models.path("failing/evaluation"), withIntermediateDirectories: true)
    try FileManager.default.copyItem(atPath: folder, toPath: beside)
    // Grades one answer, that of all together to the first prompt.
    let path = try write(
      "failing/evaluation/grade",
      "#!/bin/sh\nmkdir \"$0.began\" || exit 69\nread line\necho '{\"id\": \"p1\", \"passed\": true}'\n")
    try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: path)
    let result = try await Product.run(
      ["demo", "--family", beside, "--model", models.path("router.gguf"), "--max-tokens", "6"],
      environment: ["FUSIONROUTE_CACHE": models.path("demo-cache")])
    #expect(result.code == 0 && result.errors.contains("shown ungraded"), "\(result.errors)")
    #expect(!result.errors.contains("Right answers") && result.output.contains("✓"), "\(result.errors)")
  }

  @Test func upServesAFamily() async throws {
    let (folder, _) = try await family()
    let cache = ["FUSIONROUTE_CACHE": models.path("demo-cache")]
    let choice = ["--family", folder, "--model", models.path("router.gguf")]
    let service = try await RunningService.start(["up", "--listen", "127.0.0.1:*"] + choice, environment: cache)
    try await service.waitUntilReady()
    let list = try await service.fetch("/v1/models").body
    for name in ToyModels.experts { #expect(list.contains("fusionroute:expert:\(name)"), "\(list)") }
    let question = ["--prompt", "hello", "--max-tokens", "6", "--format", "json"]
    let served = try await Product.run(["generate", "--url", service.url] + question)
    let shown = try await Product.run(["demo", "--no-alone"] + choice + question, environment: cache)
    #expect(served.code == 0 && shown.code == 0, "\(served.errors)\(shown.errors)")
    let object = try #require(try JSONSerialization.jsonObject(with: Data(shown.output.utf8)) as? [String: Any])
    let text = try #require((object["fusionroute"] as? [String: Any])?["text"] as? String)
    #expect(try AnswerObject.list(served.output).first?.text == text && !text.isEmpty)
    #expect(try await service.stop().code == 0)
    let both = try await Product.run(["up", "-c", "cluster.yaml"] + choice)
    #expect(both.code == 64 && both.errors.contains("--family"), "\(both.errors)")
  }

  @Test func aTitleCannotSteerTheTerminal() async throws {
    let (folder, digest) = try await family()
    let other = models.path("family-title")
    try? FileManager.default.removeItem(atPath: other)
    try FileManager.default.copyItem(atPath: folder, toPath: other)
    _ = try write(
      "family-title/family.json", manifest(base: digest).replacing("A family", with: "A \\u001b[31mfamily"))
    let result = try await Product.run(
      [
        "demo", "--family", other, "--model", models.path("router.gguf"), "--max-tokens", "2", "--prompt", "hello",
        "--no-alone",
      ], environment: ["FUSIONROUTE_CACHE": models.path("demo-cache")])
    #expect(result.code == 0 && result.errors.contains("A \u{FFFD}[31mfamily of toys"), "\(result.errors)")
    #expect(!result.errors.utf8.contains(0x1B))
  }

  @Test func familiesThatDoNotFitAreRefused() async throws {
    let (folder, digest) = try await family()
    let other = models.path("family-bad")
    try? FileManager.default.removeItem(atPath: other)
    try FileManager.default.copyItem(atPath: folder, toPath: other)
    for (text, word) in [
      (manifest(base: String(repeating: "0", count: 64)), "SHA-256"),
      (manifest(base: digest, experts: #"{"ant":"ant.gguf","bee":"bee.gguf"}"#), "those of the head"),
      (manifest(base: digest).replacing("own.gguf", with: "../own.gguf"), "../own.gguf"), ("[]", "object"),
      (manifest(base: digest).replacing("\"prompts\"", with: "\"questions\""), "prompts"),
    ] {
      _ = try write("family-bad/family.json", text)
      let result = try await Product.run(
        ["demo", "--family", other, "--model", models.path("router.gguf")],
        environment: ["FUSIONROUTE_CACHE": models.path("demo-cache")])
      #expect(result.code == 65 && result.errors.contains(word), "\(word): \(result.code) \(result.errors)")
    }
    let result = try await Product.run(["demo", "--generated", "--family", folder])
    #expect(result.code == 64 && result.errors.contains("--generated"), "\(result.errors)")
  }

  /// Nothing of a text is lost by breaking it into lines, and no line is too long.
  @Test func columnsHoldTheirTexts() {
    var random = SplitMix64(seed: 71)
    let words = ["a", "of", "indentation", "  ", "word", "\n", "supercalifragilistic", "é", "\n\n", "x = 1"]
    for _ in 0..<300 {
      let text = (0..<(random.next() % 40)).map { _ in words[Int(random.next() % UInt64(words.count))] }.joined(
        separator: " ")
      let width = 5 + Int(random.next() % 40)
      let lines = AnswerColumns.wrapped(text, width: width)
      #expect(lines.allSatisfy { $0.count <= width })
      #expect(lines.joined().filter { !$0.isWhitespace } == text.filter { !$0.isWhitespace })
      let style = Style(isTerminal: true, depth: .none, width: 20 + Int(random.next() % 140))
      let columns = AnswerColumns(
        columns: ["one", "two", "three"].map { .init(title: $0, role: nil, mark: "✓", text: text) })
      for line in columns.lines(style) { #expect(line.count <= style.width, "\(line)") }
    }
    #expect(AnswerColumns.wrapped("    return x + y", width: 12) == ["    return x", "+ y"])
  }
}

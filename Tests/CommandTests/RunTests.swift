import Core
import Foundation
import Inference
import ModelFiles
import Testing

@testable import fusionroute

/// `fusionroute run` with real processes on generated models.
@Suite(.serialized) struct RunTests {
  let models: ToyModels

  init() throws { models = try ToyModels.shared.get() }

  @Test func jsonKeepsTheContract() async throws {
    let file = try models.cluster("contract")
    let result = try await Product.run(
      ["run", "-c", file, "--prompt", "Hello there", "--max-tokens", "24", "--format", "json"] + models.withoutEnd())
    #expect(result.code == 0 && result.errors.isEmpty, "\(result.errors)")
    let order = ["prompt_tokens", "tokens", "text", "finish_reason", "usage", "timing"].map { "\"\($0)\":" }
    let places = order.map { result.output.range(of: $0)?.lowerBound }
    #expect(places.allSatisfy { $0 != nil } && places.compactMap { $0 } == places.compactMap { $0 }.sorted())
    #expect(
      result.output.contains(/"tokens":\[\{"id":\d+,"text":".*?","expert":"\w+","logit":[-0-9.e]+,"drafted":false\}/))
    let answer = try #require(try AnswerObject.list(result.output).first)
    #expect(answer.tokens.count == 24 && answer.finish_reason == "length")
    #expect(answer.text.hasPrefix(answer.tokens.map(\.text).joined()))
    #expect(answer.tokens.allSatisfy { ToyModels.experts.contains($0.expert ?? "") })
    #expect(Set(answer.tokens.map(\.expert)).count > 1, "the head never switched")
    let model = try Model.load(path: models.path("router.gguf"))
    let shown = try model.renderChat([.init(role: "user", content: "Hello there")], addGenerationPrompt: true)
    let bare = try model.vocabulary.tokenize(shown, addSpecial: false, parseSpecial: true)
    let beginning = try #require(model.vocabulary.beginningOfSequence)
    #expect(answer.prompt_tokens == (model.vocabulary.addsBeginningOfSequence ? [beginning] : []) + bare)
    // As text, the same answer and a line feed, and nothing else.
    let text = try await Product.run(
      ["run", "-c", file, "--prompt", "Hello there", "--max-tokens", "24"] + models.withoutEnd())
    #expect(text.output == answer.text + "\n" && text.errors.isEmpty)
    #expect(!FileManager.default.fileExists(atPath: models.path("contract.sock")))
  }

  @Test func rawPromptsAndModes() async throws {
    let file = try models.cluster("modes")
    let vocabulary = try Model.load(path: models.path("router.gguf")).vocabulary
    let expected = try vocabulary.tokenize("Hello there", addSpecial: false, parseSpecial: false)
    var texts: [String: String] = [:]
    for mode in ["fusion", "router", "no-complement", "expert:bee"] {
      let result = try await Product.run(
        [
          "run", "-c", file, "--prompt", "Hello there", "--raw", "--max-tokens", "16", "--mode", mode, "--format",
          "json",
        ])
      #expect(result.code == 0, "\(result.errors)")
      let answer = try #require(try AnswerObject.list(result.output).first)
      #expect(answer.prompt_tokens == expected)
      #expect(answer.tokens.allSatisfy { ($0.expert == nil) == (mode == "router") })
      if mode == "expert:bee" { #expect(Set(answer.tokens.map(\.expert)) == ["bee"]) }
      texts[mode] = answer.text
    }
    #expect(Set(texts.values).count > 1)
  }

  /// Answers come in the order of the prompts, each as it is alone; failed ones get a line; the highest code wins.
  @Test func severalPromptsFromStdin() async throws {
    let file = try models.cluster("several")
    let lines = [
      "one", "", "{\"prompt\":\"two\",\"max_tokens\":40}", "{\"promt\":\"three\"}",
      "{\"tokens\":[5,6,7],\"max_tokens\":0}",
      "{\"tokens\":[5,99999]}", "four", "{\"prompt\":\"five\",\"temperature\":1.5,\"seed\":7}",
    ]
    let result = try await Product.run(
      ["run", "-c", file, "--max-tokens", "12", "--format", "json", "--raw"], input: lines.joined(separator: "\n"))
    #expect(result.code == 65)
    let answers = try AnswerObject.list(result.output)
    #expect(answers.map { $0.finish_reason == "error" } == [false, false, true, false, true, false, false])
    #expect(answers[2].error?.message.hasPrefix("line 4 of the prompts: unknown key \"promt\"") == true)
    #expect(answers[4].error?.message.hasPrefix("line 6: prompt token 99999") == true)
    #expect(result.errors.split(separator: "\n").map { $0.prefix(13) } == ["error: line 4", "error: line 6"])
    #expect(answers[3].tokens.isEmpty && answers[3].prompt_tokens == [5, 6, 7])
    for (index, prompt) in [(0, "one"), (5, "four")] {
      let alone = try await Product.run(
        ["run", "-c", file, "--max-tokens", "12", "--format", "json", "--raw", "--prompt", prompt])
      #expect(try AnswerObject.list(alone.output).first?.tokens.map(\.id) == answers[index].tokens.map(\.id))
    }
  }

  @Test func fanoutAndWarmChangeNothing() async throws {
    let file = try models.cluster("policies")
    var outputs: Set<String> = []
    for (fanout, warm) in [("selected", "selected"), ("predicted", "auto"), ("all", "all")] {
      let result = try await Product.run(
        ["run", "-c", file, "--prompt", "Some words", "--max-tokens", "32", "--fanout", fanout, "--warm", warm])
      #expect(result.code == 0, "\(result.errors)")
      outputs.insert(result.output)
    }
    #expect(outputs.count == 1)
  }

  // MARK: Bad input

  func sentence(_ arguments: [String], code: Int32, contains parts: String...) async throws {
    let result = try await Product.run(arguments)
    #expect(result.code == code, "\(arguments): \(result.errors)")
    for part in parts { #expect(result.errors.contains(part), "\(arguments): \(result.errors)") }
    let lines = result.errors.split(separator: "\n")
    #expect(lines.count { $0.hasPrefix("error: ") } == 1 && lines.last?.hasPrefix("error: ") == true, "\(lines)")
    #expect(result.output.isEmpty)
  }

  @Test func badFilesGetOneSentence() async throws {
    let run = { (file: String) in ["run", "-c", file, "--prompt", "x", "--max-tokens", "4"] }
    try await sentence(run("/no/such/cluster.yaml"), code: 65, contains: "does not exist")
    try await sentence(
      run(try models.cluster("misspelt", more: "decodng: {}")), code: 65, contains: "misspelt.yaml:7:", "decoding")
    try await sentence(
      run(try models.cluster("gone", expert: "gone.gguf")), code: 65, contains: "gone.yaml:4:", "does not exist")
    let whole = try Data(contentsOf: URL(fileURLWithPath: models.path("ant.gguf")))
    try whole.prefix(whole.count / 2).write(to: URL(fileURLWithPath: models.path("cut.gguf")))
    try await sentence(run(try models.cluster("cut", expert: "cut.gguf")), code: 65, contains: "\"bee\"", "cut.gguf")
    try await sentence(run(try models.cluster("cutrouter", router: "cut.gguf")), code: 65, contains: "cut.gguf")
    try Data("not a model at all".utf8).write(to: URL(fileURLWithPath: models.path("text.gguf")))
    try await sentence(run(try models.cluster("text", router: "text.gguf")), code: 65, contains: "text.gguf")
  }

  @Test func badHeadsAndVocabularies() async throws {
    let run = { (file: String) in ["run", "-c", file, "--prompt", "x", "--max-tokens", "4"] }
    try RoutingHead.random(experts: ToyModels.experts, embeddingWidth: 64, seed: 1).write(models.path("narrow.gguf"))
    try await sentence(run(try models.cluster("narrow", head: "narrow.gguf")), code: 65, contains: "64", "128")
    try RoutingHead.random(experts: ["ant", "bee", "dog"], embeddingWidth: 128, seed: 1).write(models.path("dog.gguf"))
    try await sentence(run(try models.cluster("dog", head: "dog.gguf")), code: 65, contains: "dog.yaml:1:", "\"dog\"")
    try await sentence(run(try models.cluster("nohead", head: "ant.gguf")), code: 65, contains: "ant.gguf")
    var recipe = ModelRecipe(seed: 1)
    recipe.vocabularyKind = .bpe
    try ModelMaker.make(recipe, to: models.path("other.gguf"))
    try await sentence(
      run(try models.cluster("other", expert: "other.gguf")), code: 65, contains: "\"bee\"", "vocabular")
  }

  @Test func badPromptsAndOptions() async throws {
    let file = try models.cluster("prompts", context: 256)
    let long = String(repeating: "many words ", count: 300)
    try await sentence(
      ["run", "-c", file, "--prompt", long], code: 65, contains: "the context holds 256", "in the cluster file\n")
    try await sentence(["run", "-c", file, "--prompt", "", "--raw"], code: 65, contains: "empty")
    try await sentence(["run", "-c", file, "--prompt", "x", "--mode", "expert:dog"], code: 65, contains: "\"dog\"")
    try await sentence(["run", "-c", file, "--prompt", "x", "--logit-bias", "99999=1"], code: 65, contains: "99999")
    for usage in [["--prompt"], ["--max-tokens", "-1"], ["--temperature", "x"], ["--nonsense"]] {
      #expect(try await Product.run(["run", "-c", file] + usage).code == 64)
    }
    #expect(try await Product.run(["run", "--prompt", "x"]).code == 64)
    #expect(try await Product.run(["frobnicate"]).code == 64)
    let invalid = try Product.Running(
      ["-c", "exec \"$0\" run -c \"$1\" --prompt \"$(printf 'a\\377b')\"", Product.path, file], executable: "/bin/sh")
    let result = try await invalid.result()
    #expect(result.code == 65 && result.errors == "error: the value of --prompt is not valid UTF-8\n")
  }

  @Test func nothingToAnswer() async throws {
    let file = try models.cluster("nothing")
    let zero = try await Product.run(["run", "-c", file, "--prompt", "x", "--max-tokens", "0"])
    #expect(zero.code == 0 && zero.output == "\n", "\(zero)")
    let none = try await Product.run(["run", "-c", file], input: "\n\n")
    #expect(none.code == 0 && none.output.isEmpty, "\(none)")
    let last = try await Product.run(
      ["run", "-c", file, "--max-tokens", "2", "--format", "json"], input: "no line feed")
    #expect(try last.code == 0 && AnswerObject.list(last.output).count == 1)
  }

  @Test func everyCommandHasHelp() async throws {
    var commands: [[String]] = [[]]
    var pending = FusionRoute.configuration.subcommands.map { (path: [$0._commandName], command: $0) }
    while let (path, command) = pending.popLast() {
      guard command.configuration.shouldDisplay else { continue }
      commands.append(path)
      pending += command.configuration.subcommands.map { (path: path + [$0._commandName], command: $0) }
    }
    // All levels of them.
    for path in [["import-head"], ["bench", "train"], ["keys", "api", "add"]] { #expect(commands.contains(path)) }
    for command in commands {
      let result = try await Product.run(command + ["--help"])
      let usage = (["USAGE: fusionroute"] + command).joined(separator: " ")
      #expect(result.code == 0 && result.output.contains(usage), "\(command): \(result.output)")
      #expect(!result.output.contains("__probe"))
    }
  }
}

import Core
import Foundation
import Inference
import Launch
import ModelFiles
import Testing

@testable import fusionroute

/// Commands that read and write files.
@Suite(.serialized) struct FileCommandTests {
  let models: ToyModels

  init() throws { models = try ToyModels.shared.get() }

  private func digest(_ name: String) throws -> SHA256Digest {
    SHA256Digest(hashing: try Data(contentsOf: URL(fileURLWithPath: models.path(name))))
  }

  @Test func madeModelsDependOnTheirOptionsAlone() async throws {
    let base = [
      "make-model", "--architecture", "gemma3", "--layers", "2", "--width", "64", "--heads", "4", "--kv-heads", "2",
      "--window", "32", "--vocabulary-size", "600", "--type", "bf16",
    ]
    for (name, more) in [("m1", []), ("m2", []), ("m3", ["--seed", "2"])] {
      let result = try await Product.run([base[0], models.path("\(name).gguf")] + base.dropFirst() + more)
      #expect(result.code == 0, "\(result.errors)")
    }
    #expect(try digest("m1.gguf") == digest("m2.gguf"))
    #expect(try digest("m1.gguf") != digest("m3.gguf"))
    let information = try Model.load(path: models.path("m1.gguf")).information
    #expect(information.architecture == "gemma3" && information.layers == 2 && information.keyValueHeads == 2)
    #expect(information.slidingWindow == 32 && information.vocabularySize == 600)
    for bad in [
      ["--heads", "0"], ["--type", "q9"], ["--architecture", "gpt"], ["--architecture", "gemma2", "--window", "0"],
      ["--width", "9223372036854775807"], ["--vocabulary", "spm", "--vocabulary-from", models.path("m1.gguf")],
    ] {
      #expect(try await Product.run(["make-model", models.path("bad.gguf")] + bad).code == 64, "\(bad)")
    }
    #expect(!FileManager.default.fileExists(atPath: models.path("bad.gguf")))
  }

  @Test func perturbedCopiesAndHeads() async throws {
    for (name, seed) in [("p1", "4"), ("p2", "4"), ("p3", "5")] {
      let result = try await Product.run([
        "make-model", "perturb", models.path("router.gguf"), models.path("\(name).gguf"), "--strength", "0.1", "--seed",
        seed,
      ])
      #expect(result.code == 0, "\(result.errors)")
    }
    #expect(try digest("p1.gguf") == digest("p2.gguf") && digest("p1.gguf") != digest("p3.gguf"))
    let head = try await Product.run([
      "make-model", "head", models.path("h.gguf"), "--experts", "x,y", "--model", models.path("router.gguf"),
      "--complement-scale", "0.5",
    ])
    #expect(head.code == 0, "\(head.errors)")
    let read = try RoutingHead.read(models.path("h.gguf"))
    #expect(read.experts == ["x", "y"] && read.embeddingWidth == 128 && read.complementScale == 0.5)
    for bad in [
      ["--experts", "x,x", "--width", "8"], ["--experts", "x"], ["--experts", "x", "--width", "8", "--text", "t"],
    ] {
      let code = try await Product.run(["make-model", "head", models.path("bad.gguf")] + bad).code
      #expect(code == 64 || code == 65, "\(bad)")
    }
  }

  @Test func conversions() async throws {
    let (input, output) = (models.path("ant.gguf"), models.path("ant-q8.gguf"))
    let result = try await Product.run(["convert", input, output, "--type", "Q8_0"])
    #expect(result.code == 0, "\(result.errors)")
    #expect(try Model.load(path: output).information.weightType.lowercased().contains("q8_0"))
    #expect(try await Product.run(["convert", input, input, "--type", "f16"]).code == 64)
    #expect(try await Product.run(["convert", input, output, "--type", "int4"]).code == 64)
    #expect(try await Product.run(["convert", "/no/such.gguf", output, "--type", "f16"]).code == 65)
    #expect(
      try await Product.run(["convert", models.path("head.gguf"), models.path("x.gguf"), "--type", "f16"]).code == 65)
    let names = try FileManager.default.contentsOfDirectory(atPath: models.folder.path)
    #expect(names.filter { $0.hasPrefix("ant-q8") || $0.hasPrefix("x.gguf") } == ["ant-q8.gguf"])
  }

  @Test func benchmarksOfImpossibleSizes() async throws {
    for option in ["--length", "--sequences", "--steps", "--rank"] {
      let result = try await Product.run([
        "bench", "train", models.path("router.gguf"), option, "9223372036854775807",
      ])
      #expect(result.code == 64 && result.errors.contains(option), "\(option): \(result.errors)")
    }
  }

  @Test func descriptions() async throws {
    let text = try await Product.run(["inspect", models.path("router.gguf"), models.path("head.gguf")])
    #expect(text.code == 0 && text.output.contains("llama") && text.output.contains("bee"), "\(text)")
    let json = try await Product.run([
      "inspect", "--format", "json", models.path("router.gguf"), models.path("head.gguf"),
    ])
    let objects = try json.output.split(separator: "\n").map {
      try JSONDecoder().decode(FileDescription.self, from: Data($0.utf8))
    }
    #expect(objects.map(\.kind) == [.model, .routingHead])
    #expect(objects.first?.model?.embeddingWidth == 128)
    #expect(try await Product.run(["inspect", "/no/such.gguf"]).code == 65)
    var recipe = ModelRecipe(seed: 2)
    recipe.chatTemplate = false
    recipe.vocabularySize = 600
    try ModelMaker.make(recipe, to: models.path("bare.gguf"))
    let cluster = try await Product.run(["inspect", try models.cluster("described", expert: "bare.gguf")])
    #expect(cluster.output.contains("the chat template of \"bee\" differs"), "\(cluster.output)")
    #expect(cluster.output.contains("the vocabulary of \"bee\" differs"))
    #expect(!cluster.output.contains("of \"ant\" differs"))
  }

  @Test func memoryIsCheckedTogether() throws {
    let engine = ClusterFile.Engine(model: models.path("router.gguf"), context: 4096, slots: 4)
    try MemoryPlan.check([("x", engine), ("y", engine)], place: "here")
    let one = try MemoryForecast.forecast(
      path: engine.model, configuration: .init(slots: 4, contextPerSequence: 4096, threads: 1, kvType: nil))
    let shared = Int(one.weightsBytes + 2 * (one.kvBytes + one.computeBytes))
    try MemoryPlan.check([("x", engine), ("y", engine)], limit: shared, place: "here")
    #expect(throws: FusionRouteError.self) {
      try MemoryPlan.check([("x", engine), ("y", engine)], limit: shared - 1, place: "here")
    }
  }
}

@Suite struct APIKeyCommandTests {
  private func keys(_ arguments: String...) async throws -> Product.Result {
    try await Product.run(["keys", "api"] + arguments)
  }

  @Test func addListAndRevoke() async throws {
    let models = try ToyModels.shared.get()
    let file = models.path("command-keys")
    let added = try await keys("add", "ann", "--file", file)
    #expect(added.code == 0 && added.errors.isEmpty)
    let key = added.output.trimmingCharacters(in: .newlines)
    #expect(key.wholeMatch(of: /fr-[A-Za-z0-9_-]{43}/) != nil, "\(key)")
    #expect(try await keys("add", "bob", "-f", file).code == 0)
    #expect(try await keys("list", "--file", file).output == "ann\nbob\n")
    // The hash that coreutils give the key, and nothing of the key itself.
    let sum = try await Product.Running(
      ["-c", "printf %s \"$0\" | sha256sum | cut -d' ' -f1", key], executable: "/bin/sh"
    ).result().output.trimmingCharacters(in: .newlines)
    let text = try String(contentsOfFile: file, encoding: .utf8)
    #expect(text.hasPrefix("ann \(sum)\nbob ") && !text.contains(key))
    #expect(try FileManager.default.attributesOfItem(atPath: file)[.posixPermissions] as? Int == 0o600)
    #expect(try await keys("revoke", "ann", "--file", file).code == 0)
    #expect(try await keys("list", "--file", file).output == "bob\n")
  }

  @Test func mistakes() async throws {
    let models = try ToyModels.shared.get()
    let file = models.path("command-keys-2")
    #expect(try await keys("add", "ann", "--file", file).code == 0)
    let twice = try await keys("add", "ann", "--file", file)
    #expect(twice.code == 65 && twice.errors.contains("already") && twice.output.isEmpty)
    let unknown = try await keys("revoke", "zoe", "--file", file)
    #expect(unknown.code == 65 && unknown.errors.contains("\"zoe\": the keys are ann"))
    #expect(try await keys("add", "a b", "--file", file).code == 65)
    #expect(try await keys("list", "--file", models.path("no-keys")).code == 65)
    #expect(try await keys("revoke", "ann", "--file", models.path("no-keys")).code == 65)
    #expect(try await keys("add", "ann", "--file", models.path("none/keys")).code == 65)
    #expect(try await keys("add", "ann").code == 64)
  }
}

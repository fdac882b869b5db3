import Foundation
import ModelFiles
import Testing

@testable import fusionroute

/// Results replace what has their name: never a file that they are made from, nor a pipe or a device.
@Suite(.serialized) struct ResultPathTests {
  let models: ToyModels

  init() throws { models = try ToyModels.shared.get() }

  /// A file's copy that may be lost.
  private func copy(_ name: String, as new: String) throws -> String {
    try models.bytes(name).write(to: URL(fileURLWithPath: models.path(new)))
    return models.path(new)
  }

  /// Runs a command that must be refused as wrong usage and leave `file` as it is.
  private func refused(_ arguments: [String], keeping file: String) async throws {
    let before = try Data(contentsOf: URL(fileURLWithPath: file))
    let result = try await Product.run(arguments)
    #expect(result.code == 64, "\(arguments): \(result.errors)")
    #expect(result.errors.contains(URL(fileURLWithPath: file).lastPathComponent), "\(arguments): \(result.errors)")
    #expect(try Data(contentsOf: URL(fileURLWithPath: file)) == before, "\(arguments)")
  }

  @Test func commandsKeepTheirInputs() async throws {
    let model = try copy("ant.gguf", as: "kept-model.gguf")
    let head = try copy("head.gguf", as: "kept-head.gguf")
    let text = try models.write("kept.txt", ["some words that are some words"])
    let prompts = try models.write("kept-prompts.jsonl", ["{\"prompt\": \"a\"}"])
    let link = models.path("kept-link.gguf")
    try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: "kept-model.gguf")
    try await refused(["make-model", "perturb", model, model, "--strength", "0.1"], keeping: model)
    try await refused(["make-model", "perturb", model, link, "--strength", "0.1"], keeping: model)
    try await refused(["make-model", "head", model, "--experts", "a,b", "--model", model], keeping: model)
    try await refused(["make-model", text, "--vocabulary-from", text], keeping: text)
    try await refused(["import-head", head, head, "--complement-scale", "0.5"], keeping: head)
    try await refused(["import-adapter", models.path("no-adapter"), model, "--model", model], keeping: model)
    try await refused(["merge", models.path("router.gguf"), model, "--out", link], keeping: model)
    try await refused(["convert", model, link, "--type", "f16"], keeping: model)
    try await refused(["sample", prompts, "--answers", "1", "--grader", "true", "--out", prompts], keeping: prompts)
  }

  @Test func trainingKeepsItsInputs() async throws {
    for folder in ["kept-pairs", "kept-full"] {
      try FileManager.default.createDirectory(atPath: models.path(folder), withIntermediateDirectories: true)
    }
    let pairs = try models.write("kept-pairs/pairs.jsonl", TrainingLines.pairs)
    let data = try models.write("kept-data.jsonl", TrainingLines.questions)
    let model = try copy("ant.gguf", as: "kept-full/model.gguf")
    func train(_ arguments: [String], _ out: String) -> [String] {
      ["train"] + arguments + ["--out", models.path(out), "--steps", "1", "--threads", "1"]
    }
    try await refused(train(["dpo", models.path("router.gguf"), "--data", pairs], "kept-pairs"), keeping: pairs)
    try await refused(train(["lm", model, "--data", data, "--full"], "kept-full"), keeping: model)
    // Adapters alone do not touch it.
    let beside = try await Product.run(train(["lm", model, "--data", data, "--rank", "2"], "kept-full"))
    #expect(beside.code == 0, "\(beside.errors)")
  }

  @Test func pipesAndFoldersAreNoResults() async throws {
    let (pipe, folder) = (models.path("result-pipe"), models.path("result-folder"))
    #expect(mkfifo(pipe, 0o600) == 0)
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    // A link to the device, for its name must outlive a test that fails.
    let null = models.path("result-null")
    try FileManager.default.createSymbolicLink(atPath: null, withDestinationPath: "/dev/null")
    let refused: [(String, Int32, String)] = [
      (pipe, 69, "pipe"), (folder, 69, "directory"), (null, 69, "device"), ("", 64, "empty"),
    ]
    for (path, code, word) in refused {
      let result = try await Product.run(["make-model", "head", path, "--experts", "a,b", "--width", "8"])
      #expect(result.code == code && result.errors.contains(word), "\(path): \(result.errors)")
    }
    var status = stat()
    #expect(stat(pipe, &status) == 0 && status.st_mode & S_IFMT == S_IFIFO)
    #expect(try FileManager.default.destinationOfSymbolicLink(atPath: null) == "/dev/null")
  }

  /// Another run's directory stays as it is, with the pairs that it learnt from.
  @Test func aRefusedRunChangesNothing() async throws {
    let pairs = try models.write("refused-pairs.jsonl", TrainingLines.pairs)
    let fewer = try models.write("refused-fewer.jsonl", Array(TrainingLines.pairs.prefix(3)))
    func command(_ data: String) -> [String] {
      [
        "train", "dpo", models.path("router.gguf"), "--data", data, "--out", models.path("refused"), "--steps", "1",
        "--rank", "2", "--threads", "1", "--length-ratio", "0",
      ]
    }
    #expect(try await Product.run(command(pairs)).code == 0)
    let kept = try models.bytes("refused/pairs.jsonl")
    let other = try await Product.run(command(fewer))
    #expect(other.code == 65 && other.errors.contains("checkpoint-00000001.gguf"), "\(other.errors)")
    #expect(try models.bytes("refused/pairs.jsonl") == kept)
  }
}

#if os(Linux)
  import Core
  import Foundation
  import ModelFiles
  import Testing

  @testable import fusionroute

  /// A disk that fills up while a model or a checkpoint is written.
  @Suite(.serialized, .enabled(if: SmallDisk.isPossible, "needs the right to mount a tmpfs"))
  struct FullDiskTests {
    let models: ToyModels

    init() throws { models = try ToyModels.shared.get() }

    private func command(_ out: String, _ more: [String]) throws -> [String] {
      let data = models.path("disk.jsonl")
      let lines = (1...8).map { "{\"text\": \"the first of \($0) words\"}\n" }.joined()
      try Data(lines.utf8).write(to: URL(fileURLWithPath: data))
      return [
        "train", "lm", models.path("router.gguf"), "--data", data, "--out", out, "--full", "--steps", "3", "--batch",
        "2", "--evaluate-every", "0", "--threads", "1", "--precision", "f32", "--library", "builtin",
      ] + more
    }

    /// Bytes of the trained model.
    private func size() throws -> Int {
      try Data(contentsOf: URL(fileURLWithPath: models.path("router.gguf"))).count
    }

    @Test func noHalfModel() async throws {
      let disk = try #require(SmallDisk(bytes: try size() / 2))
      let result = try await Product.run(try command("\(disk.path)/run", ["--checkpoint-every", "0"]))
      #expect(result.code == 69, "\(result.errors)")
      #expect(result.errors.contains("\(disk.path)/run/model.gguf"), "\(result.errors)")
      // Neither the model nor what was written of it.
      #expect(disk.names("run") == [".lock", "log.jsonl", "report.html"])
    }

    @Test func noHalfConversion() async throws {
      let disk = try #require(SmallDisk(bytes: try size() / 4))
      let result = try await Product.run([
        "convert", models.path("router.gguf"), "\(disk.path)/half.gguf", "--type", "bf16",
      ])
      #expect(result.code == 69 && result.errors.contains("\(disk.path)/half.gguf"), "\(result.errors)")
      #expect(disk.names("").isEmpty)
    }

    @Test func onlyWholeCheckpoints() async throws {
      // Parameters and two moments: three times the model; there is room for one checkpoint and a half.
      let model = try size()
      let disk = try #require(SmallDisk(bytes: 9 * model / 2))
      let arguments = try command("\(disk.path)/run", ["--checkpoint-every", "1"])
      let result = try await Product.run(arguments)
      #expect(result.code == 69 && result.errors.contains("checkpoint-"), "\(result.errors)")
      let left = disk.names("run/checkpoints")
      #expect(left.count == 1)
      let kept = try GGUFFile.read("\(disk.path)/run/checkpoints/\(try #require(left.first))")
      #expect(!kept.tensors.isEmpty)
      for tensor in kept.tensors {
        let values = try kept.floats(of: tensor)
        // Moments may be zero; of a parameter, a hole in the file would be.
        let isWritten = !tensor.name.hasPrefix("p.") || values.contains { $0 != 0 }
        #expect(isWritten && values.allSatisfy(\.isFinite), "\(tensor.name)")
      }
      #expect(!disk.names("run").contains("model.gguf"))

      // With room again, the same command goes on and ends with what it would have been.
      try #require(disk.grow(to: 16 * model))
      let second = try await Product.run(arguments)
      #expect(second.code == 0, "\(second.errors)")
      let whole = models.path("disk-whole")
      #expect(try await Product.run(try command(whole, [])).code == 0)
      #expect(
        try Data(contentsOf: URL(fileURLWithPath: "\(disk.path)/run/model.gguf"))
          == Data(contentsOf: URL(fileURLWithPath: "\(whole)/model.gguf")))
    }
  }
#endif

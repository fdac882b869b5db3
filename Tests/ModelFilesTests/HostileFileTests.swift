import Core
import Foundation
import ModelFiles
import TestSupport
import Testing

/// Files that ended early, were damaged or were never GGUF: one sentence each, never a crash.
@Suite struct HostileFileTests {
  private static func model(_ scratch: Scratch) throws -> Data {
    var recipe = ModelRecipe(architecture: .llama, seed: 3)
    recipe.layers = 1
    recipe.width = 16
    recipe.feedForward = 32
    recipe.type = .q80
    recipe.width = 32
    try ModelMaker.make(recipe, to: scratch.path("model.gguf"))
    return try scratch.data("model.gguf")
  }

  @Test func `a file cut anywhere is refused with its name`() throws {
    let scratch = try Scratch()
    let whole = try Self.model(scratch)
    let header = try GGUFFile.read(scratch.path("model.gguf")).dataOffset
    let cuts =
      Array(0..<60) + stride(from: 60, to: header, by: max(1, header / 80))
      + stride(from: header, to: whole.count, by: max(1, (whole.count - header) / 40)) + [whole.count - 1]
    for cut in cuts {
      let url = scratch.url.appendingPathComponent("cut.gguf")
      try whole.prefix(cut).write(to: url)
      let error = try failure { _ = try GGUFFile.read(url.path) }
      #expect(error.code == .badInput)
      #expect(error.message.contains("cut.gguf"), "cut at \(cut)")
    }
  }

  @Test func `the sentences name the cause`() throws {
    let scratch = try Scratch()
    let whole = try Self.model(scratch)
    func message(_ change: (inout Data) -> Void) throws -> String {
      var data = whole
      change(&data)
      try data.write(to: scratch.url.appendingPathComponent("bad.gguf"))
      return try failure { _ = try GGUFFile.read(scratch.path("bad.gguf")) }.message
    }
    #expect(try message { $0[0] = 0x50 }.contains("not a GGUF file"))
    #expect(try message { $0[4] = 1 }.contains("version 1"))
    #expect(try message { $0.replaceSubrange(4..<8, with: [0, 0, 0, 3]) }.contains("little-endian"))
    #expect(try message { $0.replaceSubrange(8..<16, with: [UInt8](repeating: 0x7F, count: 8)) }.contains("tensors"))
    #expect(try message { $0.replaceSubrange(16..<24, with: [UInt8](repeating: 0xFF, count: 8)) }.contains("keys"))
    #expect(try message { $0 = $0.prefix(whole.count - 40) }.contains("cut short"))
    #expect(try message { $0 = $0.prefix(100) }.contains("damaged or cut short"))
    #expect(try message { $0 = Data() }.contains("not a GGUF file"))
    #expect(
      try message { $0.replaceSubrange(24..<32, with: [255, 255, 255, 255, 0, 0, 0, 0]) }.contains("string length"))
  }

  @Test func `what is no regular file is refused`() throws {
    let scratch = try Scratch()
    #expect(try failure { _ = try GGUFFile.read(scratch.path("absent")) }.message.contains("No such file"))
    #expect(try failure { _ = try GGUFFile.read(scratch.url.path) }.message.contains("regular file"))
    #expect(mkfifo(scratch.path("pipe"), 0o600) == 0)
    #expect(try failure { _ = try GGUFFile.read(scratch.path("pipe")) }.message.contains("regular file"))
  }

  @Test func `damaged headers are read or refused`() throws {
    let scratch = try Scratch()
    let whole = try Self.model(scratch)
    let header = try GGUFFile.read(scratch.path("model.gguf")).dataOffset
    let seed: UInt64 = 21
    var generator = SplitMix64(seed: seed)
    var refused = 0
    let url = scratch.url.appendingPathComponent("mutated.gguf")
    for round in 0..<600 {
      var data = whole
      // The counts and the tensor entries at the end decide most; the vocabulary between them is mere text.
      let places = round % 2 == 0 ? 0..<2_000 : header - 900..<header
      for _ in 0...Int.random(in: 0..<3, using: &generator) {
        data[Int.random(in: places, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
      }
      try data.write(to: url)
      do {
        let file = try GGUFFile.read(url.path)
        for key in file.keys { _ = file[key] }
        for tensor in file.tensors where tensor.type.isReadable { _ = try file.floats(of: tensor) }
        _ = try FileInspector.describe(url.path)
      } catch let error as FusionRouteError {
        #expect(error.code == .badInput, "seed \(seed), round \(round)")
        refused += 1
      }
    }
    #expect(refused > 50, "seed \(seed)")
  }
}

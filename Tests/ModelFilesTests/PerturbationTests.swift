import Core
import Foundation
import ModelFiles
import TestSupport
import Testing

@Suite struct PerturbationTests {
  private static func model(_ scratch: Scratch, type: TensorType = .f32) throws -> String {
    var recipe = ModelRecipe(architecture: .llama, seed: 4)
    recipe.layers = 2
    recipe.width = 256
    recipe.feedForward = 512
    recipe.type = type
    try ModelMaker.make(recipe, to: scratch.path("base.gguf"))
    return scratch.path("base.gguf")
  }

  private static func floats(_ path: String, _ name: String) throws -> [Float] {
    let file = try GGUFFile.read(path)
    return try file.floats(of: #require(file.tensor(named: name)))
  }

  private static func rms(_ values: [Float]) -> Double {
    (values.reduce(0.0) { $0 + Double($1) * Double($1) } / Double(values.count)).squareRoot()
  }

  /// Every matrix gets its own noise of the stated size, and the noise is normal.
  @Test func `noise has the stated strength and a normal's shape`() throws {
    let scratch = try Scratch()
    let base = try Self.model(scratch)
    let seed: UInt64 = 99
    try ModelMaker.perturb(base, to: scratch.path("p.gguf"), strength: 0.1, seed: seed)
    var streams: [[Float]] = []
    for tensor in try GGUFFile.read(base).tensors {
      let before = try Self.floats(base, tensor.name)
      let after = try Self.floats(scratch.path("p.gguf"), tensor.name)
      guard tensor.dimensions.count > 1 else {
        #expect(before == after, "\(tensor.name)")
        continue
      }
      let noise = zip(before, after).map { $1 - $0 }
      let sigma = 0.1 * Self.rms(before)
      let count = Double(noise.count)
      #expect(abs(Self.rms(noise) / sigma - 1) < 5 / (2 * count).squareRoot(), "seed \(seed), \(tensor.name)")
      let mean = noise.reduce(0.0) { $0 + Double($1) } / count
      #expect(abs(mean) < 5 * sigma / count.squareRoot(), "seed \(seed), \(tensor.name)")
      let beyond = Double(noise.count { abs(Double($0)) > 2 * sigma }) / count
      #expect(abs(beyond - 0.0455) < 0.004 + 5 * (0.0455 / count).squareRoot(), "seed \(seed), \(tensor.name)")
      streams.append(Array(noise.prefix(4_096)))
    }
    for (first, second) in zip(streams, streams.dropFirst()) {
      let product = zip(first, second).reduce(0.0) { $0 + Double($1.0) * Double($1.1) } / 4_096
      #expect(abs(product) < 5 * Self.rms(first) * Self.rms(second) / 64, "seed \(seed): tensors share noise")
    }
  }

  @Test(arguments: ["f16", "bf16", "q8_0", "q4_K", "q4_1"])
  func `types, shapes and metadata stay`(name: String) throws {
    let scratch = try Scratch()
    let base = try Self.model(scratch, type: try #require(TensorType(name: name)))
    try ModelMaker.perturb(base, to: scratch.path("p.gguf"), strength: 0.2, seed: 1)
    let (before, after) = (try GGUFFile.read(base), try GGUFFile.read(scratch.path("p.gguf")))
    #expect(before.tensors == after.tensors)
    let header = before.dataOffset
    #expect(try scratch.data("base.gguf").prefix(header) == scratch.data("p.gguf").prefix(header))
    let old = try Self.floats(base, "blk.0.ffn_up.weight")
    let change = zip(old, try Self.floats(scratch.path("p.gguf"), "blk.0.ffn_up.weight")).map { $1 - $0 }
    // Requantising adds its own rounding.
    #expect((0.19...0.24).contains(Self.rms(change) / Self.rms(old)), "\(Self.rms(change) / Self.rms(old))")
  }

  @Test func `the same seed gives the same bytes, and strength zero a copy`() throws {
    let scratch = try Scratch()
    let base = try Self.model(scratch, type: .q80)
    for (name, strength, seed) in [("a", Float(0.1), UInt64(1)), ("b", 0.1, 1), ("c", 0.1, 2), ("zero", 0, 1)] {
      try ModelMaker.perturb(base, to: scratch.path("\(name).gguf"), strength: strength, seed: seed)
    }
    #expect(try scratch.data("a.gguf") == scratch.data("b.gguf"))
    #expect(try scratch.data("a.gguf") != scratch.data("c.gguf"))
    #expect(try scratch.data("zero.gguf") == scratch.data("base.gguf"))
    // In place, too.
    try ModelMaker.perturb(base, to: base, strength: 0.1, seed: 1)
    #expect(try scratch.data("a.gguf") == scratch.data("base.gguf"))
  }

  @Test func `exceptions and vectors are as asked`() throws {
    let scratch = try Scratch()
    let base = try Self.model(scratch)
    let options = ModelMaker.PerturbationOptions(includesVectors: true, except: ["token_embd", "blk.0."])
    try ModelMaker.perturb(base, to: scratch.path("p.gguf"), strength: 0.1, seed: 1, options: options)
    for tensor in try GGUFFile.read(base).tensors {
      let same = try Self.floats(base, tensor.name) == Self.floats(scratch.path("p.gguf"), tensor.name)
      #expect(same == (tensor.name.hasPrefix("token_embd") || tensor.name.hasPrefix("blk.0.")), "\(tensor.name)")
    }
  }

  @Test func `bad input is refused`() throws {
    let scratch = try Scratch()
    let base = try Self.model(scratch)
    for strength in [Float(-0.1), .nan, .infinity] {
      let error = try failure { try ModelMaker.perturb(base, to: scratch.path("p.gguf"), strength: strength, seed: 1) }
      #expect(error.code == .usage)
    }
    let error = try failure { try ModelMaker.perturb("/nope", to: scratch.path("p.gguf"), strength: 1, seed: 1) }
    #expect(error.code == .badInput)
    // No tensor has this name, so nothing would be left out.
    let unknown = try failure {
      try ModelMaker.perturb(
        base, to: scratch.path("p.gguf"), strength: 0.1, seed: 1, options: .init(except: ["token_embed"]))
    }
    #expect(unknown.code == .usage && unknown.message.contains("token_embed"))
    #expect(scratch.names == ["base.gguf"])
  }

  @Test func `what is interrupted leaves nothing`() throws {
    let scratch = try Scratch()
    let base = try Self.model(scratch)
    let stop: ModelMaker.Progress = { tensor, _ in
      if tensor == 3 { throw FusionRouteError.interrupted("interrupted") }
    }
    let perturbed = try failure {
      try ModelMaker.perturb(base, to: scratch.path("p.gguf"), strength: 0.1, seed: 1, progress: stop)
    }
    let made = try failure { try ModelMaker.make(ModelRecipe(), to: scratch.path("m.gguf"), progress: stop) }
    #expect(perturbed.code == .interrupted && made.code == .interrupted)
    #expect(scratch.names == ["base.gguf"])
  }
}

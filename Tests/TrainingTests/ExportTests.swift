import Core
import Foundation
import ModelFiles
import TestSupport
import Testing

@testable import Training

/// What files say, and what they cannot hold.
@Suite struct ExportTests {
  private static func model(_ scratch: Scratch) throws -> GGUFFile {
    let path = scratch.path("model.gguf")
    if !FileManager.default.fileExists(atPath: path) { try ModelMaker.make(Worlds.recipe(.llama), to: path) }
    return try GGUFFile.read(path)
  }

  /// A copy of a file with other metadata; nil takes a key away.
  private static func copy(_ file: GGUFFile, to path: String, changing changes: [String: GGUFValue?]) throws {
    var writer = GGUFWriter()
    for key in file.keys {
      guard let value = changes[key] ?? file[key] else { continue }
      try writer.set(key, value)
    }
    for tensor in file.tensors {
      try writer.add(
        tensor: tensor.name, type: tensor.type, dimensions: tensor.dimensions, content: .bytes(file.bytes(of: tensor)))
    }
    try writer.write(to: path)
  }

  /// Finite as a float, infinite as F16.
  @Test func valuesThatF16CannotHold() throws {
    let scratch = try Scratch()
    let file = try Self.model(scratch)
    let engine = try TrainingEngine(file, mode: .full, options: Worlds.options())
    let matrix = try #require(engine.trainables.parameters.last { $0.kind == .matrix })
    matrix.values[1] = -70_000
    let output = scratch.path("out.gguf")
    func refused(_ body: () throws -> Void) throws {
      let error = try failure(body)
      #expect(error.code == .badInput && error.message.contains("'\(matrix.name)"), "\(error)")
      #expect(error.message.contains("bf16") && !FileManager.default.fileExists(atPath: output), "\(error)")
    }
    try refused { try engine.writeModel(from: file, to: output, type: .f16) }
    let floats = scratch.path("f32.gguf")
    try engine.writeModel(from: file, to: floats)
    try refused { try ModelExport.rewrite(GGUFFile.read(floats), to: output, type: .f16) }
    try ModelExport.rewrite(GGUFFile.read(floats), to: output, type: .bf16)
    let rewritten = try GGUFFile.read(output)
    #expect(try rewritten.floats(of: #require(rewritten.tensor(named: matrix.name)))[1] == -70_144)
    // What F16 holds is written: its largest number, and all others to the nearest one.
    matrix.values[1] = -65_504
    try engine.writeModel(from: file, to: output, type: .f16)
    let half = try GGUFFile.read(output)
    let tensor = try #require(half.tensor(named: matrix.name))
    let (values, stored) = (engine.values(of: matrix), try half.floats(of: tensor))
    try #require(tensor.type == .f16 && stored.count == values.count)
    #expect(stored[1] == -65_504)
    #expect(zip(values, stored).allSatisfy { abs($0 - $1) <= max(abs($0) * 0x1p-11, 0x1p-25) })
  }

  @Test func adapterValuesThatF16CannotHold() throws {
    let scratch = try Scratch()
    let engine = try TrainingEngine(
      Self.model(scratch), mode: .lora(LoRAOptions(rank: 4)), options: Worlds.options())
    let matrix = try #require(engine.trainables.parameters.first)
    matrix.values[0] = 70_000
    let error = try failure { try engine.writeAdapter(to: scratch.path("adapter.gguf"), type: .f16) }
    #expect(error.code == .badInput && error.message.contains("'\(matrix.name)'"), "\(error)")
    try engine.writeAdapter(to: scratch.path("adapter.gguf"))
  }

  /// No alpha, no scaling: alpha is the rank.
  @Test(arguments: [nil, 0] as [Float?]) func adaptersWithoutAlphaGoOn(alpha: Float?) throws {
    let scratch = try Scratch()
    let file = try Self.model(scratch)
    let engine = try TrainingEngine(file, mode: .lora(LoRAOptions(rank: 4, alpha: 4)), options: Worlds.options())
    try ParityTests.train(engine, seed: 81)
    let (written, plain) = (scratch.path("adapter.gguf"), scratch.path("plain.gguf"))
    try engine.writeAdapter(to: written)
    try Self.copy(
      GGUFFile.read(written), to: plain, changing: ["adapter.lora.alpha": alpha.map { GGUFValue.float32($0) }])
    let adapter = try GGUFFile.read(plain)
    #expect(adapter["adapter.lora.alpha"]?.float == alpha)
    let again = try TrainingEngine(file, mode: .lora(LoRAOptions(adapter: adapter)), options: Worlds.options())
    try again.loadAdapter(adapter)
    let tokens = ParityTests.tokens(20, vocabulary: engine.shape.vocabularySize, seed: 83)
    #expect(try ParityTests.rows(again, tokens) == ParityTests.rows(engine, tokens))
    // Another alpha is still refused.
    let other = try TrainingEngine(file, mode: .lora(LoRAOptions(rank: 4, alpha: 8)), options: Worlds.options())
    #expect(try failure { try other.loadAdapter(adapter) }.message.contains("alpha"))
  }

  /// Of a disk that was full, in the middle of a character.
  @Test func aLogThatWasCutOff() throws {
    let scratch = try Scratch()
    let path = scratch.path("log.jsonl")
    let whole = "{\"step\":1,\"loss\":2}\n{\"step\":2,\"loss\":1}\n"
    try (Data("\(whole){\"step\":2,\"held_out\":true,\"pairs_by_task\":{\"f".utf8) + [0xC3]).write(
      to: URL(fileURLWithPath: path))
    _ = try RunLog(path: path, resumingAfter: 2, of: 4)
    #expect(try String(contentsOfFile: path, encoding: .utf8) == whole)
  }

  /// Counts of steps that no run comes to.
  @Test func checkpointsOfImpossibleSteps() throws {
    let scratch = try Scratch()
    let engine = try TrainingEngine(Self.model(scratch), mode: .lora(LoRAOptions(rank: 2)), options: Worlds.options())
    let path = scratch.path("checkpoint.gguf")
    func read(_ state: TrainingState, of totalSteps: Int) throws -> TrainingState {
      try Checkpoint.write(engine, state: state, fingerprint: "run", to: path)
      return try Checkpoint.read(path, into: engine, fingerprint: "run", totalSteps: totalSteps)
    }
    // The last one of a run, and one of a run whose head has learnt before its steps only.
    for state in [
      TrainingState(step: 9, modelSteps: 9, headSteps: 9), TrainingState(step: 9, modelSteps: 9, headSteps: 0),
      TrainingState(),
    ] {
      #expect(try read(state, of: 9) == state)
    }
    for state in [
      TrainingState(step: 10, modelSteps: 9, headSteps: 9), TrainingState(step: 5, modelSteps: 6, headSteps: 5),
      TrainingState(step: 5, modelSteps: 5, headSteps: 6), TrainingState(step: .max, modelSteps: .max, headSteps: 0),
    ] {
      let error = try failure { _ = try read(state, of: 9) }
      #expect(error.code == .badInput && error.message.contains(path), "\(error)")
    }
  }
}

import Core
import Foundation
import ModelFiles
import TestSupport
import Testing

/// Merged models against Tests/Oracle/merge.py, which does the same in numpy with other code.
@Suite struct MergeTests {
  /// A base, two experts and two adapters. Adapters' numbers are few and exact, so that many elements are equal.
  private struct Family {
    let scratch = try? Scratch()
    let base: String
    let models: [String]
    let adapters: [String]

    init(types: [TensorType] = [.f32, .f32, .f32], tied: Bool = true, width: Int? = nil) throws {
      let scratch = try #require(scratch)
      func path(_ name: String) -> String { scratch.path(name) }
      var recipe = ModelRecipe(architecture: .llama, seed: 12)
      recipe.layers = 2
      recipe.kvHeads = 2
      recipe.tied = tied
      if let width { (recipe.width, recipe.feedForward) = (width, 2 * width) }
      recipe.type = types[0]
      try ModelMaker.make(recipe, to: path("base.gguf"))
      for index in 1...2 {
        // Perturbed in float32, so that differences are not only those of rounding.
        recipe.type = types[index]
        try ModelMaker.make(recipe, to: path("plain\(index).gguf"))
        try ModelMaker.perturb(
          path("plain\(index).gguf"), to: path("expert\(index).gguf"), strength: 0.1, seed: UInt64(index),
          options: .init(includesVectors: true))
      }
      base = path("base.gguf")
      models = [path("expert1.gguf"), path("expert2.gguf")]
      adapters = [path("adapter1.gguf"), path("adapter2.gguf")]
      let file = try GGUFFile.read(base)
      for (index, adapter) in adapters.enumerated() {
        var generator = SplitMix64(seed: UInt64(40 + index))
        let names = ["blk.0.attn_q.weight", index == 0 ? "blk.1.ffn_down.weight" : "token_embd.weight"]
        try Self.adapter(adapter, of: file, names: names, rank: 4, alpha: 8, &generator)
      }
    }

    static func adapter(
      _ path: String, of file: GGUFFile, names: [String], rank: Int, alpha: Float, _ generator: inout SplitMix64,
      change: (inout GGUFWriter) throws -> Void = { _ in }
    ) throws {
      var writer = GGUFWriter()
      try writer.set("general.architecture", .string("llama"))
      try writer.set("general.type", .string("adapter"))
      try writer.set("adapter.type", .string("lora"))
      try writer.set("adapter.lora.alpha", .float32(alpha))
      for name in names {
        let target = try #require(file.tensor(named: name))
        let isEmbedding = name == "token_embd.weight"
        let shapes =
          isEmbedding
          ? [[rank, target.rowCount], [rank, target.rowLength]] : [[target.rowLength, rank], [rank, target.rowCount]]
        for (suffix, shape) in zip(["lora_a", "lora_b"], shapes) {
          let values = (0..<shape[0] * shape[1]).map { _ in Float(Int.random(in: -8...8, using: &generator)) / 64 }
          try writer.add(tensor: "\(name).\(suffix)", dimensions: shape, content: .floats(values))
        }
      }
      try change(&writer)
      try writer.write(to: path)
    }

    func path(_ name: String) throws -> String { try #require(scratch).path(name) }
  }

  struct Case: Sendable, CustomTestStringConvertible {
    var name: String
    var method: MergeMethod
    var numbers: String
    var lambda = 1.0
    var testDescription: String { "\(method), \(lambda)" }
  }

  static let cases = [
    Case(name: "task-arithmetic", method: .taskArithmetic, numbers: ""),
    Case(name: "task-arithmetic", method: .taskArithmetic, numbers: "", lambda: 0.35),
    Case(name: "dare", method: .dare(drop: 0.9, seed: 3), numbers: "0.9,3", lambda: 0.7),
    Case(name: "dare", method: .dare(drop: 0.5, seed: 77), numbers: "0.5,77"),
    Case(name: "ties", method: .ties(density: 0.2), numbers: "0.2"),
    Case(name: "ties", method: .ties(density: 0.55), numbers: "0.55", lambda: 1.4),
    Case(name: "ties", method: .ties(density: 1), numbers: "1"),
  ]

  /// Merged values by tensor, of the merge and of the oracle.
  private static func compare(
    _ one: Case, _ family: Family, _ experts: [String], body: (String, [Float], [Float]) throws -> Void
  ) throws {
    let output = try family.path("merged.gguf")
    try ModelMerger.merge(
      base: family.base, experts: experts, method: one.method, lambda: one.lambda, type: .f32, to: output)
    let data = try Tools.python(
      "sys.argv[0] = 'merge.py'\nexec(open(sys.path[0] + '/merge.py').read())",
      [one.name, "\(one.lambda)", one.numbers, family.base] + experts)
    let file = try GGUFFile.read(output)
    var offset = 0
    for tensor in file.tensors {
      let ours = try file.floats(of: tensor)
      let theirs = (0..<ours.count).map { index in
        data.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset + index * 4, as: Float.self) }
      }
      offset += ours.count * 4
      try body(tensor.name, ours, theirs)
    }
    #expect(offset == data.count)
  }

  @Test(arguments: cases) func `models and adapters are merged as in numpy`(one: Case) throws {
    let family = try Family(tied: false)
    for experts in [family.models, family.adapters, [family.models[0], family.adapters[1], family.adapters[0]]] {
      let base = try GGUFFile.read(family.base)
      var changed = 0
      try Self.compare(one, family, experts) { name, ours, theirs in
        #expect(largestDifference(ours, theirs) < 2e-5, "\(one.testDescription): \(name) of \(experts.count)")
        let before = try base.floats(of: #require(base.tensor(named: name)))
        if largestDifference(ours, before) > 1e-3 { changed += 1 }
      }
      #expect(changed >= 2, "a merge that changes nothing agrees with any other")
    }
  }

  /// All that ggml reads and writes, but two that llama.cpp's Python code, which the oracle decodes with, does not know yet.
  static let types = TensorType.all.filter {
    $0.isReadable && $0.isWritable && $0 != .f32 && !["q1_0", "q2_0"].contains($0.name)
  }

  /// Weights of any type go in, the base's and the experts'.
  @Test(arguments: types) func `types of the inputs do not matter`(type: TensorType) throws {
    // K-quants are blocks of 256.
    let family = try Family(types: [type, type, .f16], width: 256)
    for path in [family.base, family.models[0]] {
      #expect(try GGUFFile.read(path).tensor(named: "blk.0.attn_q.weight")?.type == type)
    }
    // The type of the family's base with all methods, the others with one: types are decoded before any method sees them.
    for one in Self.cases where one.lambda == 1 && (type == .q41 || one.method == .taskArithmetic) {
      try Self.compare(one, family, family.models) { name, ours, theirs in
        #expect(largestDifference(ours, theirs) < 2e-5, "\(one.testDescription): \(name)")
      }
    }
  }

  @Test func `no type is left out by mistake`() {
    let names = Set(Self.types.map { $0.name.lowercased() })
    #expect(names.isSuperset(of: ["f16", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "iq4_nl", "iq4_xs"]))
    #expect(names.isSuperset(of: (2...6).map { "q\($0)_k" }))
  }

  @Test func `the result keeps types, tokenizer and metadata`() throws {
    let family = try Family(types: [.q80, .q80, .q80])
    let before = try GGUFFile.read(family.base)
    let output = try family.path("merged.gguf")
    try ModelMerger.merge(base: family.base, experts: family.models, method: .taskArithmetic, to: output)
    let after = try GGUFFile.read(output)
    #expect(after.tensors.map(\.name) == before.tensors.map(\.name))
    #expect(after.tensors.map(\.type) == before.tensors.map(\.type))
    #expect(after.tensors.map(\.dimensions) == before.tensors.map(\.dimensions))
    for key in before.keys { #expect(after[key] == before[key], "\(key)") }
    #expect(Set(after.keys).subtracting(before.keys) == ["fusionroute.merge"])
    #expect(after["fusionroute.merge"]?.string == "task arithmetic, lambda 1.0, of expert1.gguf, expert2.gguf")
    // Another type, asked for: of matrices alone.
    try ModelMerger.merge(
      base: family.base, experts: family.adapters, method: .taskArithmetic, type: .bf16, to: output)
    let typed = try GGUFFile.read(output)
    for tensor in typed.tensors {
      let own = try #require(before.tensor(named: tensor.name))
      #expect(tensor.type == (tensor.dimensions.count > 1 ? .bf16 : own.type), "\(tensor.name)")
    }
    #expect(typed["general.file_type"]?.integer == 32)
    // llama.cpp reads it, and it is no longer the base.
    let tokens: [Token] = [1, 300, 310, 320]
    let rows = try Tools.llamaRows(output, tokens)
    let plain = try Tools.llamaRows(family.base, tokens)
    #expect((rows + plain).allSatisfy { $0.allSatisfy(\.isFinite) } && largestDifference(rows[3], plain[3]) > 0.01)
  }

  /// What adapters do not touch is copied, byte for byte, also where it is quantised.
  @Test func `untouched tensors are the base's bytes`() throws {
    let family = try Family(types: [.q80, .f32, .f32])
    let output = try family.path("merged.gguf")
    let before = try GGUFFile.read(family.base)
    for method in [MergeMethod.taskArithmetic, .dare(drop: 0.9, seed: 1), .ties(density: 0.3)] {
      try ModelMerger.merge(base: family.base, experts: [family.adapters[0]], method: method, to: output)
      let after = try GGUFFile.read(output)
      let differing = try before.tensors.filter {
        try before.bytes(of: $0) != after.bytes(of: #require(after.tensor(named: $0.name)))
      }
      #expect(differing.map(\.name).sorted() == ["blk.0.attn_q.weight", "blk.1.ffn_down.weight"], "\(method)")
      // λ = 0 and an expert that is the base: nothing changes at all.
      try ModelMerger.merge(base: family.base, experts: [family.base], method: method, to: output)
      let same = try GGUFFile.read(output)
      for tensor in before.tensors {
        #expect(try before.bytes(of: tensor) == same.bytes(of: #require(same.tensor(named: tensor.name))))
      }
    }
  }

  /// An adapter is its dense difference: merging it is merging the model that it was baked into.
  @Test func `adapters act by their product`() throws {
    let family = try Family()
    let baked = try family.path("baked.gguf")
    try ModelMerger.merge(base: family.base, experts: [family.adapters[1]], method: .taskArithmetic, to: baked)
    for method in [MergeMethod.taskArithmetic, .dare(drop: 0.9, seed: 5)] {
      let (first, second) = (try family.path("first.gguf"), try family.path("second.gguf"))
      try ModelMerger.merge(
        base: family.base, experts: [family.models[0], family.adapters[1]], method: method, to: first)
      try ModelMerger.merge(base: family.base, experts: [family.models[0], baked], method: method, to: second)
      let (a, b) = (try GGUFFile.read(first), try GGUFFile.read(second))
      for tensor in a.tensors {
        let difference = largestDifference(
          try a.floats(of: tensor), try b.floats(of: #require(b.tensor(named: tensor.name))))
        #expect(difference < 1e-5, "\(method): \(tensor.name)")
      }
    }
  }

  /// Seeds decide, places in the list too, and about the right share is dropped, each time another one.
  @Test func `DARE drops what it says`() throws {
    let family = try Family()
    let name = "blk.1.ffn_down.weight"
    let base = try GGUFFile.read(family.base)
    let before = try base.floats(of: #require(base.tensor(named: name)))
    func kept(_ seed: UInt64, _ experts: [String]) throws -> [Bool] {
      let output = try family.path("dare.gguf")
      try ModelMerger.merge(base: family.base, experts: experts, method: .dare(drop: 0.9, seed: seed), to: output)
      let file = try GGUFFile.read(output)
      return zip(before, try file.floats(of: #require(file.tensor(named: name)))).map { $0 != $1 }
    }
    let (one, two) = (try kept(1, [family.models[0]]), try kept(2, [family.models[0]]))
    let count = Double(one.count)
    for mask in [one, two] {
      let share = Double(mask.count { $0 }) / count
      #expect(abs(share - 0.1) < 5 * (0.09 / count).squareRoot(), "\(share)")
    }
    let both = Double(zip(one, two).count { $0 && $1 }) / count
    #expect(abs(both - 0.01) < 5 * (0.0099 / count).squareRoot(), "the seeds are not independent: \(both)")
    #expect(try kept(1, [family.models[0]]) == one)
    // The base in first place adds nothing, but moves the expert to the second.
    #expect(try kept(1, [family.base, family.models[0]]) != one)
  }

  private static func copy(
    _ source: String, to path: String, _ change: (inout GGUFWriter) throws -> Void
  ) throws {
    let file = try GGUFFile.read(source)
    var writer = GGUFWriter()
    for key in file.keys { if let value = file[key] { try writer.set(key, value) } }
    for tensor in file.tensors {
      try writer.add(
        tensor: tensor.name, type: tensor.type, dimensions: tensor.dimensions,
        content: .generatedBytes { try file.bytes(of: tensor) })
    }
    try change(&writer)
    try writer.write(to: path)
  }

  /// llama.cpp asserts that they are floats, or wants them so.
  @Test func `matrices that must be floats stay floats`() throws {
    let family = try Family()
    let names = ["blk.0.ssm_conv1d.weight", "blk.0.ffn_gate_inp.weight", "blk.0.time_mix_w1.weight", "blk.0.ssm_a"]
    let hybrid = try family.path("hybrid.gguf")
    try Self.copy(family.base, to: hybrid) { writer in
      for name in names {
        try writer.add(tensor: name, dimensions: [4, 64], content: .floats(.init(repeating: 0.5, count: 256)))
      }
    }
    let output = try family.path("merged.gguf")
    try ModelMerger.merge(base: hybrid, experts: [hybrid], method: .taskArithmetic, type: .bf16, to: output)
    let after = try GGUFFile.read(output)
    for name in names { #expect(after.tensor(named: name)?.type == .f32, "\(name)") }
    #expect(after.tensor(named: "blk.0.attn_q.weight")?.type == .bf16)
  }

  // MARK: What is refused

  @Test func `parts of a model are refused`() throws {
    let family = try Family()
    let part = try family.path("model-00001-of-00002.gguf")
    try Self.copy(family.base, to: part) { try $0.set("split.count", .uint16(2)) }
    let output = try family.path("never.gguf")
    for (base, expert) in [(part, family.models[0]), (family.base, part)] {
      let error = try failure {
        try ModelMerger.merge(base: base, experts: [expert], method: .taskArithmetic, to: output)
      }
      #expect(error.code == .badInput && error.message.contains("one of the 2 parts"), "\(error)")
      #expect(!FileManager.default.fileExists(atPath: output))
    }
    // One part is all of it.
    try Self.copy(family.base, to: part) { try $0.set("split.count", .uint16(1)) }
    try ModelMerger.merge(base: part, experts: [family.models[0]], method: .taskArithmetic, to: output)
  }

  /// Finite as a float, infinite as F16.
  @Test func `values that the type cannot hold are refused`() throws {
    let family = try Family()
    let output = try family.path("large.gguf")
    func merge(_ type: TensorType, _ base: String, _ experts: [String], lambda: Double) throws {
      try ModelMerger.merge(
        base: base, experts: experts, method: .taskArithmetic, lambda: lambda, type: type, to: output)
    }
    let error = try failure { try merge(.f16, family.base, [family.adapters[0]], lambda: 1e7) }
    #expect(error.code == .badInput && error.message.contains("'blk."), "\(error)")
    #expect(error.message.contains("f16") && error.message.contains("bf16"), "\(error)")
    #expect(!FileManager.default.fileExists(atPath: output))
    try merge(.bf16, family.base, [family.adapters[0]], lambda: 1e7)
    let large = try family.path("base-bf16.gguf")
    try FileManager.default.moveItem(atPath: output, toPath: large)
    // The base alone, where no expert changes the tensor; Q8_0 has room for it.
    #expect(try failure { try merge(.f16, large, [family.adapters[1]], lambda: 0) }.message.contains("bf16"))
    try merge(.q80, large, [family.adapters[1]], lambda: 0)
    let file = try GGUFFile.read(output)
    for tensor in file.tensors { #expect(try file.floats(of: tensor).allSatisfy(\.isFinite), "\(tensor.name)") }
  }

  @Test func `what does not fit is named`() throws {
    let family = try Family()
    func refusal(_ experts: [String], _ method: MergeMethod = .taskArithmetic, lambda: Double = 1) throws
      -> FusionRouteError
    {
      let output = try family.path("never.gguf")
      let error = try failure {
        try ModelMerger.merge(base: family.base, experts: experts, method: method, lambda: lambda, to: output)
      }
      #expect(!FileManager.default.fileExists(atPath: output))
      return error
    }
    for (method, words) in [
      (MergeMethod.dare(drop: 1, seed: 0), "below 1"), (.dare(drop: -0.1, seed: 0), "from 0"),
      (.ties(density: 0), "above 0"), (.ties(density: 1.5), "at most 1"), (.dare(drop: .nan, seed: 0), "nan"),
    ] {
      let error = try refusal(family.models, method)
      #expect(error.code == .usage && error.message.contains(words), "\(error)")
    }
    #expect(try refusal(family.models, lambda: .infinity).code == .usage)
    #expect(try refusal([]).code == .usage)
    #expect(try refusal([try family.path("none.gguf")]).code == .badInput)

    var recipe = ModelRecipe(architecture: .llama, seed: 12)
    recipe.layers = 3
    recipe.kvHeads = 2
    try ModelMaker.make(recipe, to: try family.path("deeper.gguf"))
    let deeper = try refusal([try family.path("deeper.gguf")])
    #expect(deeper.code == .badInput && deeper.message.contains("'blk.2."), "\(deeper)")
    recipe.layers = 2
    recipe.feedForward *= 2
    try ModelMaker.make(recipe, to: try family.path("wider.gguf"))
    let wider = try refusal([try family.path("wider.gguf")])
    #expect(wider.message.contains("has the shape") && wider.message.contains("wider.gguf"), "\(wider)")
    try ModelMaker.make(ModelRecipe(architecture: .gemma2, seed: 1), to: try family.path("gemma.gguf"))
    #expect(try refusal([try family.path("gemma.gguf")]).message.contains("\"gemma2\""))
  }

  @Test func `adapters that do not fit are named`() throws {
    let family = try Family()
    let base = try GGUFFile.read(family.base)
    let path = try family.path("odd.gguf")
    func refusal(_ names: [String], _ change: (inout GGUFWriter) throws -> Void) throws -> FusionRouteError {
      var generator = SplitMix64(seed: 8)
      try Family.adapter(path, of: base, names: names, rank: 2, alpha: 2, &generator, change: change)
      return try failure {
        try ModelMerger.merge(
          base: family.base, experts: [path], method: .taskArithmetic, to: try family.path("never.gguf"))
      }
    }
    let one = ["blk.0.attn_q.weight"]
    #expect(try refusal(one) { try $0.set("adapter.type", .string("other")) }.message.contains("another kind"))
    #expect(try refusal(one) { try $0.set("general.architecture", .string("gemma2")) }.message.contains("\"gemma2\""))
    #expect(try refusal(one) { try $0.set("adapter.lora.alpha", .float32(.nan)) }.message.contains("alpha"))
    let tokens = try refusal(one) { try $0.set("adapter.alora.invocation_tokens", .array(.uint32([5, 6]))) }
    #expect(tokens.code == .badInput && tokens.message.contains("invocation_tokens"), "\(tokens)")
    #expect(try refusal([]) { _ in }.message.contains("changes nothing"))
    func extra(_ name: String, _ shape: [Int], _ value: Float = 0) -> (inout GGUFWriter) throws -> Void {
      {
        try $0.add(
          tensor: name, dimensions: shape, content: .floats(.init(repeating: value, count: shape.reduce(1, *))))
      }
    }
    #expect(try refusal(one, extra("blk.1.attn_k.weight.lora_a", [64, 2])).message.contains("without"))
    #expect(try refusal(one, extra("something", [4])).message.contains("'something' is no part"))
    let unknown = try refusal(one) { writer in
      try extra("blk.9.x.weight.lora_a", [64, 2])(&writer)
      try extra("blk.9.x.weight.lora_b", [2, 64])(&writer)
    }
    #expect(unknown.message.contains("'blk.9.x.weight', which the base has not"), "\(unknown)")
    let shape = try refusal(one) { writer in
      try extra("blk.1.attn_v.weight.lora_a", [32, 2])(&writer)
      try extra("blk.1.attn_v.weight.lora_b", [2, 64])(&writer)
    }
    #expect(shape.message.contains("do not fit"), "\(shape)")
    let endless = try refusal(one) { writer in
      let width = try #require(base.tensor(named: "blk.1.attn_v.weight"))
      try extra("blk.1.attn_v.weight.lora_a", [width.rowLength, 2], .infinity)(&writer)
      try extra("blk.1.attn_v.weight.lora_b", [2, width.rowCount], 1)(&writer)
    }
    #expect(endless.code == .badInput && endless.message.contains("no finite number"), "\(endless)")
  }
}

import Core
import Foundation
import ModelFiles
import TestSupport
import Testing

@testable import Training

/// Adapters as PEFT saves them.
@Suite struct AdapterImportTests {
  private struct Matrix {
    var name: String
    var shape: [Int]
    var values: [Float]
  }

  private static func save(_ matrices: [Matrix], config: String, to folder: String) throws {
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    var (entries, data) = ([String](), Data())
    for matrix in matrices {
      let start = data.count
      matrix.values.withUnsafeBytes { data += $0 }
      entries.append(
        "\"\(matrix.name)\":{\"dtype\":\"F32\",\"shape\":\(matrix.shape),\"data_offsets\":[\(start),\(data.count)]}")
    }
    let header = Array("{\(entries.joined(separator: ","))}".utf8)
    let length = withUnsafeBytes(of: UInt64(header.count).littleEndian) { Data($0) }
    try (length + header + data).write(to: URL(fileURLWithPath: "\(folder)/adapter_model.safetensors"))
    try Data(config.utf8).write(to: URL(fileURLWithPath: "\(folder)/adapter_config.json"))
  }

  private static let prefix = "base_model.model.model.layers"

  /// Random matrices for some modules of every block.
  private static func matrices(_ shape: ModelShape, rank: Int, seed: UInt64) -> [Matrix] {
    var generator = SplitMix64(seed: seed)
    let (queries, keys) = (shape.heads * shape.headSize, shape.kvHeads * shape.headSize)
    let modules = [
      ("self_attn.q_proj", shape.width, queries), ("self_attn.k_proj", shape.width, keys),
      ("self_attn.o_proj", queries, shape.width), ("mlp.down_proj", shape.feedForward, shape.width),
    ]
    return (0..<shape.layers).flatMap { layer in
      modules.flatMap { module, inputs, outputs in
        [("A", [rank, inputs]), ("B", [outputs, rank])].map { part, shape in
          Matrix(
            name: "\(prefix).\(layer).\(module).lora_\(part).weight", shape: shape,
            values: (0..<shape[0] * shape[1]).map { _ in 0.2 * generator.normal() })
        }
      }
    }
  }

  /// numpy, in Hugging Face's layout: rows of queries and keys as it has them, rotation of halves, B·A added there.
  private static let oracle = """
    import json, struct, sys
    import numpy as np
    import transformer
    model, folder, tokens, scale = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), float(sys.argv[4])
    blob = open(folder + "/adapter_model.safetensors", "rb").read()
    size = struct.unpack("<Q", blob[:8])[0]
    header, data = json.loads(blob[8:8 + size]), blob[8 + size:]
    def adapter(name):
        entry = header[name]
        first, last = entry["data_offsets"]
        return np.frombuffer(data[first:last], "<f4").reshape(entry["shape"]).astype(np.float64)
    names = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_output": "self_attn.o_proj",
             "ffn_down": "mlp.down_proj"}
    class Adapted(transformer.Transformer):
        def weight(self, name):
            w = super().weight(name)
            parts = name.split(".")
            if len(parts) < 4 or parts[2] not in names:
                return w
            if parts[2] in ("attn_q", "attn_k") and not self.gemma:
                heads = self.heads if parts[2] == "attn_q" else self.kv_heads
                w = w.reshape(heads, -1, 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)
            module = "base_model.model.model.layers." + parts[1] + "." + names[parts[2]]
            return w + scale * adapter(module + ".lora_B.weight") @ adapter(module + ".lora_A.weight")
    plain = transformer.rope
    transformer.rope = lambda x, base, adjacent: plain(x, base, False)
    t = Adapted(model, half_gelu=True)
    sys.stdout.buffer.write(t.logits(t.hidden_states(tokens)).astype("<f4").tobytes())
    """

  @Test(arguments: [ModelRecipe.Architecture.llama, .gemma2], [false, true])
  func meansTheSame(_ architecture: ModelRecipe.Architecture, _ isStabilised: Bool) throws {
    let scratch = try Scratch()
    let (model, adapter, folder) = (scratch.path("model.gguf"), scratch.path("adapter.gguf"), scratch.path("peft"))
    try ModelMaker.make(Worlds.recipe(architecture), to: model)
    let shape = try ModelShape(GGUFFile.read(model))
    try Self.save(
      Self.matrices(shape, rank: 4, seed: 151),
      config: """
        {"peft_type": "LORA", "r": 4, "lora_alpha": 6, "bias": "none", "use_rslora": \(isStabilised), \
        "rank_pattern": {}, "modules_to_save": null, "target_modules": ["q_proj"]}
        """, to: folder)
    let result = try AdapterImport.run(folder, model: GGUFFile.read(model), to: adapter)
    #expect(result.rank == 4 && result.matrices == 4 * shape.layers)
    let tokens = ParityTests.tokens(24, vocabulary: shape.vocabularySize, seed: 153)
    let scale = isStabilised ? 3.0 : 1.5
    let data = try Tools.python(Self.oracle, [model, folder, "\(tokens)", "\(scale)"])
    let width = shape.vocabularySize
    try #require(data.count == tokens.count * width * 4)
    let expected = data.withUnsafeBytes { raw in
      tokens.indices.map { row in
        (0..<width).map { raw.loadUnaligned(fromByteOffset: (row * width + $0) * 4, as: Float.self) }
      }
    }
    let own = try Tools.llamaRows(model, lora: adapter, tokens)
    #expect(largestDifference(own, expected) <= 10 * ParityTests.tolerance(architecture))
    #expect(try ParityTests.differ(own, Tools.llamaRows(model, tokens)))
    // Training goes on from it.
    let engine = try TrainingEngine(
      GGUFFile.read(model), mode: .lora(LoRAOptions(adapter: GGUFFile.read(adapter))), options: Worlds.options())
    try engine.loadAdapter(GGUFFile.read(adapter))
    #expect(largestDifference(try ParityTests.rows(engine, tokens), own) <= ParityTests.tolerance(architecture))
  }

  @Test func faults() throws {
    let scratch = try Scratch()
    let (path, folder, out) = (scratch.path("model.gguf"), scratch.path("peft"), scratch.path("out.gguf"))
    try ModelMaker.make(Worlds.recipe(.llama), to: path)
    let model = try GGUFFile.read(path)
    let good = Self.matrices(try ModelShape(model), rank: 4, seed: 157)
    let config = "{\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": 8}"
    func fault(_ matrices: [Matrix], _ config: String) throws -> String {
      try Self.save(matrices, config: config, to: folder)
      let error = try failure { _ = try AdapterImport.run(folder, model: model, to: out) }
      #expect(error.code == .badInput)
      #expect(!FileManager.default.fileExists(atPath: out))
      return error.message
    }
    #expect(try fault(good, "{\"peft_type\": \"IA3\"}").contains("LORA"))
    #expect(try fault(good, "{\"peft_type\": \"LORA\", \"r\": 0, \"lora_alpha\": 8}").contains("\"r\""))
    #expect(try fault(good, "{\"peft_type\": \"LORA\", \"r\": 4}").contains("lora_alpha"))
    #expect(try fault(good, "{\"peft_type\": \"LORA\", \"r\": 8, \"lora_alpha\": 8}").contains("rank 8"))
    #expect(try fault(good, "[]").contains("adapter_config.json"))
    for (key, value) in [
      ("use_dora", "true"), ("bias", "\"all\""), ("modules_to_save", "[\"lm_head\"]"), ("rank_pattern", "{\"q\": 2}"),
      ("use_qalora", "true"), ("alora_invocation_tokens", "[5, 6]"), ("layer_replication", "[[0, 2], [1, 2]]"),
      ("init_lora_weights", "\"pissa\""), ("init_lora_weights", "\"olora\""), ("init_lora_weights", "\"loftq\""),
    ] {
      let message = try fault(good, "{\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": 8, \"\(key)\": \(value)}")
      #expect(message.contains(key == "bias" ? "trains biases" : key), "\(message)")
    }
    // Positive numbers, but not as floats.
    for alpha in ["1e39", "1e-46", "0", "-1"] {
      let message = try fault(good, "{\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": \(alpha)}")
      #expect(message.contains("lora_alpha"), "\(message)")
    }
    let stabilised = "{\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": 3e38, \"use_rslora\": true}"
    #expect(try fault(good, stabilised).contains("lora_alpha"))
    // What only says how a plain adapter began is taken.
    for value in ["null", "true", "\"gaussian\"", "\"eva\"", "\"orthogonal\""] {
      let plain =
        "{\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": 8, \"init_lora_weights\": \(value), "
        + "\"alora_invocation_tokens\": null, \"layer_replication\": null, \"use_qalora\": false}"
      try Self.save(good, config: plain, to: folder)
      #expect(try AdapterImport.run(folder, model: model, to: out).rank == 4, "\(value)")
      try FileManager.default.removeItem(atPath: out)
    }
    #expect(try fault(Array(good.dropLast()), config).contains("only one of the two"))
    var strange = good
    strange[0].name = "\(Self.prefix).0.self_attn.qkv_proj.lora_A.weight"
    #expect(try fault(strange, config).contains("qkv_proj"))
    strange[0].name = "\(Self.prefix).7.self_attn.q_proj.lora_A.weight"
    #expect(try fault(strange, config).contains(".7."))
    strange = good
    strange[0].values[0] = .nan
    #expect(try fault(strange, config).contains("not finite"))
    #expect(try fault([], config).contains("no adapter"))
  }
}

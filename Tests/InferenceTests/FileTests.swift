import Core
import Foundation
import ModelFiles
import Synchronization
import Testing

@testable import Inference

/// Files from outside: wrong, cut short, changed; adapters; other weight types.
@Suite(.serialized) struct FileTests {
  private func scratch(_ name: String) -> String {
    TestModels.directory.appendingPathComponent("\(UUID().uuidString)-\(name)").path
  }

  private func sentence(_ body: () throws -> Void) -> (code: FusionRouteError.Code?, text: String) {
    do {
      try body()
      return (nil, "no error")
    } catch let error as FusionRouteError {
      return (error.code, error.description)
    } catch { return (nil, "\(error)") }
  }

  // MARK: - Bad files

  @Test func missingFilesAreNamed() throws {
    let path = scratch("absent.gguf")
    let error = sentence { _ = try Model.load(path: path) }
    #expect(error.code == .badInput)
    #expect(error.text == "the model file \(path) does not exist")
    let model = try TestModels.generated(.llama)
    let adapter = sentence {
      _ = try Model.load(path: model, options: .init(adapters: [AdapterFile(path: path)]))
    }
    #expect(adapter.text == "the adapter file \(path) does not exist")
    #expect(sentence { _ = try Model.load(path: TestModels.directory.path) }.text.contains("is a directory"))
  }

  @Test func aFileCutShortIsOneSentence() throws {
    let whole = try #require(FileManager.default.contents(atPath: try TestModels.generated(.llama, type: "q8_0")))
    var generator = SplitMix64(seed: 3)
    // The header, the vocabulary, the tensor list, the weights.
    let cuts = [0, 1, 3, 4, 8, 15, 23, 24] + (0..<50).map { _ in Int.random(in: 24..<whole.count, using: &generator) }
    let path = scratch("cut.gguf")
    for cut in cuts {
      try whole[..<cut].write(to: URL(fileURLWithPath: path))
      let error = sentence { _ = try Model.load(path: path) }
      #expect(error.code == .badInput, "cut at \(cut): \(error.text)")
      #expect(error.text.contains(path) && !error.text.contains("\n"), "cut at \(cut): \(error.text)")
      #expect(
        sentence { _ = try Quantizer.convert(input: path, output: path + ".out", type: "f32", threads: 1) }
          .code == .badInput)
      #expect(!FileManager.default.fileExists(atPath: path + ".out"))
    }
    let garbage = scratch("garbage.gguf")
    try Data((0..<4096).map { UInt8(truncatingIfNeeded: $0 &* 37) }).write(to: URL(fileURLWithPath: garbage))
    let error = sentence { _ = try Model.load(path: garbage) }
    #expect(error.text.contains("cannot load the model file \(garbage)"))
  }

  @Test func anAdapterForAnotherModelIsRefused() throws {
    let model = try TestModels.generated(.llama)
    let other = sentence { _ = try Model.load(path: model, options: .init(adapters: [AdapterFile(path: model)])) }
    #expect(other.code == .badInput)
    #expect(other.text.contains("cannot load the adapter"))
    let wide = try adapter(width: 32, seed: 1)
    #expect(
      sentence { _ = try Model.load(path: model, options: .init(adapters: [AdapterFile(path: wide)])) }
        .code == .badInput)
    let endless = sentence {
      _ = try Model.load(path: model, options: .init(adapters: [AdapterFile(path: wide, scale: .infinity)]))
    }
    #expect(endless.text.contains("not a finite number"))
  }

  // MARK: - The child that tries a file

  /// Stands in for the command line: what matters is what becomes of a child's end.
  private func executable(_ body: String) throws -> String {
    let path = scratch("probe.sh")
    try Data("#!/bin/sh\n\(body)\n".utf8).write(to: URL(fileURLWithPath: path))
    try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: path)
    return path
  }

  @Test func theChildsEndBecomesTheSentence() throws {
    let cases: [(String, FusionRouteError.Code?, String)] = [
      ("exit 0", nil, "no error"),
      ("echo 'the model file x is bad' >&2; exit 65", .badInput, "the model file x is bad"),
      (
        "echo 'one'; echo 'ggml.c:12: GGML_ASSERT(a == b) failed' >&2; echo more >&2; kill -ILL $$", .badInput,
        "ended with signal 4 (ggml.c:12: GGML_ASSERT(a == b) failed)"
      ),
      ("kill -SEGV $$", .badInput, "is malformed: loading it ended with signal 11"),
      ("kill -KILL $$", .unavailable, "stopped by signal 9"),
      ("exit 69", .unavailable, "failed with status 69"),
    ]
    for (script, code, text) in cases {
      let model = scratch("some.gguf")
      try Data(script.utf8).write(to: URL(fileURLWithPath: model))
      let result = sentence { try ModelProbe.check(path: model, adapters: [], executable: try executable(script)) }
      #expect(result.code == code, "\(script): \(result.text)")
      #expect(result.text.contains(text), "\(script): \(result.text)")
    }
    let gone = sentence {
      try ModelProbe.check(path: try TestModels.generated(.llama), adapters: [], executable: "/nonexistent/program")
    }
    #expect(gone.code == .internal)
  }

  @Test func aVerdictIsKeptUntilTheFileChanges() throws {
    let model = scratch("counted.gguf")
    let log = scratch("runs")
    try Data("one".utf8).write(to: URL(fileURLWithPath: model))
    let program = try executable("echo \"$@\" >> \(log); echo refused >&2; exit 65")
    let adapters = [AdapterFile(path: try adapter(width: 64, seed: 9))]
    for _ in 0..<3 {
      #expect(sentence { try ModelProbe.check(path: model, adapters: adapters, executable: program) }.text == "refused")
    }
    func runs() -> [String] {
      String(decoding: FileManager.default.contents(atPath: log) ?? Data(), as: UTF8.self)
        .split(separator: "\n").map(String.init)
    }
    #expect(runs() == ["__probe-model \(model) --lora \(adapters[0].path)"])
    try Data("another".utf8).write(to: URL(fileURLWithPath: model))
    #expect(sentence { try ModelProbe.check(path: model, adapters: adapters, executable: program) }.text == "refused")
    #expect(runs().count == 2)
  }

  @Test func theChildsOwnSideJudgesFiles() throws {
    #expect(ModelProbe.runInChild(path: try TestModels.generated(.gemma3, type: "q8_0"), adapters: []) == 0)
    #expect(
      ModelProbe.runInChild(
        path: try TestModels.generated(.llama), adapters: [AdapterFile(path: try adapter(width: 64, seed: 1))]) == 0)
    #expect(ModelProbe.runInChild(path: scratch("absent"), adapters: []) == 65)
    // A computation that fails says nothing about the file: not a verdict to keep.
    let monitor = DecoderMonitor()
    monitor.failuresToSimulate.store(1, ordering: .relaxed)
    #expect(ModelProbe.runInChild(path: try TestModels.generated(.llama), adapters: [], monitor: monitor) == 69)
    #expect(ModelProbe.runInChild(path: try TestModels.generated(.llama), adapters: [], monitor: monitor) == 0)
  }

  // MARK: - Adapters

  /// A LoRA adapter for the generated llama, written by hand.
  private func adapter(width: Int, seed: UInt64) throws -> String {
    let path = scratch("adapter.gguf")
    var generator = SplitMix64(seed: seed)
    func random(_ count: Int) -> [Float] { (0..<count).map { _ in Float.random(in: -0.5...0.5, using: &generator) } }
    var writer = GGUFWriter()
    try writer.set("general.architecture", .string("llama"))
    try writer.set("general.type", .string("adapter"))
    try writer.set("adapter.type", .string("lora"))
    try writer.set("adapter.lora.alpha", .float32(8))
    let rank = 4
    for (name, output) in [("blk.0.attn_q", width), ("blk.2.ffn_up", 2 * width)] {
      try writer.add(
        tensor: "\(name).weight.lora_a", dimensions: [width, rank], content: .floats(random(width * rank)))
      try writer.add(
        tensor: "\(name).weight.lora_b", dimensions: [rank, output], content: .floats(random(output * rank)))
    }
    try writer.write(to: path)
    return path
  }

  @Test(arguments: ["f32", "bf16", "q8_0"])
  func adaptersActAsInTheOracle(_ type: String) async throws {
    let path = try TestModels.generated(.llama, type: type)
    let first = try adapter(width: 64, seed: 1)
    let second = try adapter(width: 64, seed: 2)
    let model = try Model.load(
      path: path,
      options: .init(adapters: [AdapterFile(path: first), AdapterFile(path: second, scale: -0.5)]))
    let base = try Model.load(path: path)
    let tokens = randomTokens(40, vocabulary: model.vocabulary.size, seed: 5)
    let expected = try LlamaOracle.rows(
      model: path, tokens: tokens, vocabulary: model.vocabulary.size,
      arguments: ["--lora", first, "--lora", second + ":-0.5"])
    let decoder = try BatchingDecoder(model: model, configuration: .init(slots: 3, contextPerSequence: 256))
    let plain = try BatchingDecoder(model: base, configuration: .init(slots: 1, contextPerSequence: 256))
    let whole = try await decoder.decode(sequence: 1, tokens, wanted: Array(tokens.indices))
    let baseRows = try await plain.decode(sequence: 1, tokens, wanted: Array(tokens.indices))
    for (position, row) in whole.rows.enumerated() {
      #expect(values(row.logits) == expected[position], "position \(position)")
      #expect(values(baseRows.rows[position].logits) != expected[position])
    }
    decoder.shutdown()
    plain.shutdown()
  }

  // MARK: - Converting

  /// What becomes of the wide model's matrices.
  struct Conversion: Sendable, CustomTestStringConvertible {
    let asked: String
    /// llama.cpp's number of the file's type.
    let fileType: Int
    let matrices: String
    /// Those that Q4_K_M gives more bits, in half of the layers: the last of two.
    var finer: String?
    /// The output matrix too: every type of less than 8 bits gives it 6.
    let embedding: String
    /// Most that the logits of single tokens may be off, relative to their size: twice what a simulation says.
    let logits: Double

    var testDescription: String { asked }

    func type(of tensor: String) -> String {
      if tensor == "token_embd.weight" { return embedding }
      return ["blk.1.attn_v.weight", "blk.1.ffn_down.weight"].contains(tensor) ? finer ?? matrices : matrices
    }
  }

  static let conversions = [
    Conversion(asked: "f32", fileType: 0, matrices: "f32", embedding: "f32", logits: 0),
    Conversion(asked: "f16", fileType: 1, matrices: "f16", embedding: "f16", logits: 0.0015),
    Conversion(asked: "bf16", fileType: 32, matrices: "bf16", embedding: "bf16", logits: 0.0125),
    Conversion(asked: "q8_0", fileType: 7, matrices: "q8_0", embedding: "q8_0", logits: 0.04),
    Conversion(asked: "q4_k", fileType: 15, matrices: "q4_k", finer: "q6_k", embedding: "q6_k", logits: 0.3),
    Conversion(asked: "Q6_K", fileType: 18, matrices: "q6_k", embedding: "q6_k", logits: 0.105),
    Conversion(asked: "q4_1", fileType: 3, matrices: "q4_1", embedding: "q6_k", logits: 0.35),
  ]

  /// How far normally distributed weights are off in each type, relative to their size.
  static let weightErrors: [String: ClosedRange<Double>] = [
    "f32": 0...0, "f16": 0.00015...0.0003, "bf16": 0.0012...0.0023, "q8_0": 0.004...0.007, "q6_k": 0.014...0.022,
    "q4_k": 0.055...0.09, "q4_1": 0.06...0.1,
  ]

  /// |b - a| / |a| over every `step`-th element: loops are slow in debug builds.
  private func relativeError(_ a: [Float], _ b: [Float], step: Int = 1) throws -> Double {
    try #require(a.count == b.count)
    var (difference, size) = (0.0, 0.0)
    var index = 0
    while index < a.count {
      let (x, y) = (Double(a[index]), Double(b[index]))
      difference += (y - x) * (y - x)
      size += x * x
      index += step
    }
    return (difference / size).squareRoot()
  }

  @Test(arguments: conversions)
  func convertsToEveryType(_ conversion: Conversion) async throws {
    let source = try TestModels.wide()
    let output = scratch("converted.gguf")
    try Quantizer.convert(input: source, output: output, type: conversion.asked, threads: 1)
    let (before, after) = (try GGUFFile.read(source), try GGUFFile.read(output))
    #expect(after["general.file_type"]?.integer == conversion.fileType)
    #expect(Set(after.tensors.map(\.name)) == Set(before.tensors.map(\.name)))
    for tensor in before.tensors {
      let converted = try #require(after.tensor(named: tensor.name))
      #expect(converted.dimensions == tensor.dimensions, "\(tensor.name)")
      guard tensor.dimensions.count == 2 else {
        let isSame = try converted.type == .f32 && after.bytes(of: converted) == before.bytes(of: tensor)
        #expect(isSame, "\(tensor.name)")
        continue
      }
      let type = conversion.type(of: tensor.name)
      #expect(converted.type.name.lowercased() == type, "\(tensor.name)")
      // A step that has no factor in common with the blocks' sizes.
      let error = try relativeError(before.floats(of: tensor), after.floats(of: converted), step: 7)
      let range = try #require(Self.weightErrors[type])
      #expect(range.contains(error), "\(tensor.name) as \(type): relative error \(error), not within \(range)")
    }

    let model = try Model.load(path: output)
    let original = try Model.load(path: source)
    #expect(model.vocabulary.fingerprint == original.vocabulary.fingerprint)
    #expect(model.information.parameterCount == original.information.parameterCount)
    let tokens = randomTokens(12, vocabulary: model.vocabulary.size, seed: 6)
    /// Each token is a text of its own: attention to several would enlarge the weights' error.
    func logits(_ model: Model) async throws -> [Float] {
      let decoder = try BatchingDecoder(model: model, configuration: .init(slots: 1, contextPerSequence: 256))
      defer { decoder.shutdown() }
      var all: [Float] = []
      for (index, token) in tokens.enumerated() {
        let answer = try await decoder.decode(sequence: UInt64(index), [token])
        all += values(try #require(answer.rows.first).logits)
      }
      return all
    }
    let error = try relativeError(await logits(original), await logits(model))
    print("\(conversion.asked): the logits' relative error is \(error)")
    #expect(error <= conversion.logits, "\(conversion.asked): the logits' relative error is \(error)")
    // No half-written file is left behind; other suites may be writing theirs.
    let names = try FileManager.default.contentsOfDirectory(atPath: TestModels.directory.path)
    let own = URL(fileURLWithPath: output).lastPathComponent
    #expect(names.filter { $0.hasPrefix(own) } == [own])
  }

  @Test func convertingSaysWhatIsWrong() throws {
    let source = try TestModels.generated(.llama)
    let unknown = sentence { try Quantizer.convert(input: source, output: scratch("x"), type: "q9", threads: 1) }
    #expect(unknown.text.hasPrefix("unknown weight type \"q9\"; use one of f32, f16, bf16, q8_0"))
    let nowhere = sentence {
      try Quantizer.convert(input: source, output: "/nonexistent/folder/x.gguf", type: "f16", threads: 1)
    }
    #expect(nowhere.text.contains("cannot write beside /nonexistent/folder/x.gguf"))
    #expect(nowhere.code == .unavailable)
  }

  // MARK: - Fingerprints

  @Test func fingerprintsCoverEverything() throws {
    let a = try TestModels.generated(.llama, seed: 1)
    let b = try TestModels.generated(.llama, seed: 2)
    let lora = try adapter(width: 64, seed: 1)
    let other = try adapter(width: 64, seed: 2)
    var seen: Set<SHA256Digest> = []
    for (model, adapters, settings) in [
      (a, [], [:]), (b, [], [:]), (a, [AdapterFile(path: lora)], [:]), (a, [AdapterFile(path: other)], [:]),
      (a, [AdapterFile(path: lora, scale: 0.5)], [:]), (a, [AdapterFile(path: lora), AdapterFile(path: other)], [:]),
      (a, [AdapterFile(path: other), AdapterFile(path: lora)], [:]), (a, [], ["kv": "f16"]), (a, [], ["kv": "f32"]),
    ] as [(String, [AdapterFile], [String: String])] {
      #expect(
        seen.insert(try ModelFingerprint.compute(model: model, adapters: adapters, settings: settings)).inserted)
    }
    // Where a file lies does not matter, what it holds does: also right after a change.
    let copy = scratch("copy.gguf")
    try FileManager.default.copyItem(atPath: a, toPath: copy)
    let before = try ModelFingerprint.compute(model: copy, adapters: [], settings: [:])
    #expect(before == (try ModelFingerprint.compute(model: a, adapters: [], settings: [:])))
    var data = try #require(FileManager.default.contents(atPath: copy))
    data[data.count - 1] ^= 1
    try data.write(to: URL(fileURLWithPath: copy))
    #expect(before != (try ModelFingerprint.compute(model: copy, adapters: [], settings: [:])))
    // Against sha256sum.
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = ["sha256sum", a]
    let pipe = Pipe()
    process.standardOutput = pipe
    try process.run()
    let text = String(decoding: ModelProbe.readToEnd(pipe.fileHandleForReading), as: UTF8.self)
    process.waitUntilExit()
    #expect(text.hasPrefix(try ModelFingerprint.digest(ofFile: a, what: "model file").hex))
  }
}

@Suite(.serialized) struct ForecastTests {
  @Test(arguments: ["llama f32", "llama q8_0", "gemma3 bf16"])
  func countsWhatTheFileSays(_ name: String) throws {
    let model = try TestModels.model(name)
    let configuration = DecoderConfiguration(slots: 3, contextPerSequence: 300)
    let forecast = try MemoryForecast.forecast(path: model.path, configuration: configuration)
    // The tensors as the loaded model counts them.
    #expect(forecast.weightsBytes == model.information.fileBytes)
    // Slots × padded context × layers × KV heads × head width × (K and V) × bytes.
    let bytes = name.hasSuffix("f32") ? 4 : 2
    #expect(forecast.kvBytes == UInt64(3 * 512 * model.information.layers * 2 * 16 * 2 * bytes))
    #expect(
      forecast.kvBytes
        == MemoryForecast.kvBytes(
          information: model.information, tokens: 3 * 512, type: bytes == 4 ? .f32 : .f16, model: model))
    #expect(forecast.total == forecast.weightsBytes + forecast.kvBytes + forecast.computeBytes)
  }

  @Test func refusesWithTheNumbers() throws {
    let path = try TestModels.generated(.llama)
    let configuration = DecoderConfiguration(slots: 64, contextPerSequence: 65_536)
    #expect(throws: FusionRouteError.self) {
      try MemoryForecast.forecast(path: path, adapters: [], configuration: configuration, available: 1 << 30)
    }
    do {
      _ = try MemoryForecast.forecast(path: path, adapters: [], configuration: configuration, available: 1 << 30)
    } catch let error as FusionRouteError {
      #expect(error.code == .unavailable)
      for part in [path, "64 × 65536 tokens", "but only 1024 MiB are available", "weights", "lower the slots"] {
        #expect(error.message.contains(part), "\(error.message)")
      }
    }
    // 64 × 65,536 × 3 layers × 2 heads × 16 × 2 × 4 bytes = 3 GiB of KV alone; with 100 GiB it is let through.
    let roomy = try MemoryForecast.forecast(
      path: path, adapters: [], configuration: configuration, available: 100 << 30)
    #expect(roomy.kvBytes == 3 << 30)
  }

  /// Against the sizes that llama.cpp itself logs for its buffers.
  @Test(.enabled(if: TestModels.hasSmolLM2, TestModels.absent), arguments: [(4, 2048), (1, 512), (16, 1024)])
  func isNotFarFromTheTruth(slots: Int, context: Int) throws {
    let path = try TestModels.smolLM2(type: "q8_0")
    let configuration = try DecoderConfiguration(slots: slots, contextPerSequence: context).validated()
    let forecast = try MemoryForecast.forecast(path: path, configuration: configuration)
    let model = try Model.load(path: path)
    let (_, lines) = try LlamaLog.shared.capturing(from: LlamaLog.informationLevel) {
      try LlamaContext(model: model, configuration: configuration, monitor: DecoderMonitor())
    }
    func mebibytes(_ what: String) throws -> Double {
      let line = try #require(lines.first { $0.contains(what) }, "\(lines)")
      let number = try #require(line.components(separatedBy: "=").last?.split(separator: " ").first)
      return try #require(Double(number))
    }
    let kv = try mebibytes("KV buffer size")
    let compute = try mebibytes("compute buffer size") + mebibytes("output buffer size")
    #expect(abs(kv - Double(forecast.kvBytes) / 1_048_576) < 0.1)
    // The output buffer may grow to the limit of rows later, so the forecast lies above.
    let forecastCompute = Double(forecast.computeBytes) / 1_048_576
    print("buffers for \(slots) × \(context): \(compute) MiB, forecast \(forecastCompute) MiB")
    #expect(forecastCompute > compute * 0.9)
    #expect(forecastCompute < compute * 3 + 64)
  }

  @Test func readsProcAndControlGroups() throws {
    let root = FileManager.default.temporaryDirectory.appendingPathComponent("fusionroute-proc-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: root) }
    func put(_ path: String, _ text: String) throws {
      let url = root.appendingPathComponent(path)
      try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
      try Data(text.utf8).write(to: url)
    }
    let base = root.path + "/"
    try put("proc/meminfo", "MemTotal:  100 kB\nMemAvailable:   8000 kB\n")
    #expect(SystemMemory.available(root: base) == 8_192_000)
    // Version 2: the tightest limit on the way up, page cache counted as room.
    try put("proc/self/cgroup", "0::/a/b\n")
    try put("sys/fs/cgroup/a/b/memory.max", "max\n")
    try put("sys/fs/cgroup/a/b/memory.current", "1000\n")
    try put("sys/fs/cgroup/a/memory.max", "5000000\n")
    try put("sys/fs/cgroup/a/memory.current", "3000000\n")
    try put("sys/fs/cgroup/a/memory.stat", "anon 5\ninactive_file 500000\n")
    #expect(SystemMemory.available(root: base) == 2_500_000)
    // Version 1.
    try put("proc/self/cgroup", "5:cpu:/\n4:memory:/x\n")
    try put("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "1000000\n")
    try put("sys/fs/cgroup/memory/x/memory.usage_in_bytes", "400000\n")
    try put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    #expect(SystemMemory.available(root: base) == 600_000)
    try put("proc/self/cgroup", "0::/\n")
    #expect(SystemMemory.available(root: base) == 8_192_000)
    #expect(try #require(SystemMemory.available()) > 0)
  }
}

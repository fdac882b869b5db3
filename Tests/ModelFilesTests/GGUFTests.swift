import Core
import Foundation
import ModelFiles
import TestSupport
import Testing

@Suite struct GGUFTests {
  static let values: [(String, GGUFValue)] = [
    ("a.u8", .uint8(200)), ("a.i8", .int8(-100)), ("a.u16", .uint16(60_000)), ("a.i16", .int16(-30_000)),
    ("a.u32", .uint32(4_000_000_000)), ("a.i32", .int32(-2_000_000_000)), ("a.u64", .uint64(1 << 60)),
    ("a.i64", .int64(-(1 << 60))), ("a.f32", .float32(0.1)), ("a.f64", .float64(0.1)), ("a.bool", .bool(true)),
    ("a.str", .string("Grüße 🙂\n")), ("a.empty", .string("")),
    ("l.u8", .array(.uint8([0, 255]))), ("l.i8", .array(.int8([-1, 1]))), ("l.u16", .array(.uint16([1, 65_535]))),
    ("l.i16", .array(.int16([-1]))), ("l.u32", .array(.uint32([]))), ("l.i32", .array(.int32([7, -7]))),
    ("l.u64", .array(.uint64([1 << 50]))), ("l.i64", .array(.int64([-1]))), ("l.f32", .array(.float32([1.5, -0.25]))),
    ("l.f64", .array(.float64([0.1]))), ("l.bool", .array(.bool([true, false, true]))),
    ("l.str", .array(.strings(["a", "", "ü"]))), ("l.none", .array(.strings([]))),
  ]

  private static func sample(_ path: String) throws {
    var writer = GGUFWriter()
    for (key, value) in values { try writer.set(key, value) }
    try writer.add(tensor: "one", dimensions: [3], content: .floats([1, 2, 3]))
    try writer.add(tensor: "two", dimensions: [2, 3, 2], content: .floats((0..<12).map { Float($0) }))
    try writer.write(to: path)
  }

  @Test func `every metadata type comes back as it was written`() throws {
    let scratch = try Scratch()
    try Self.sample(scratch.path("all.gguf"))
    let file = try GGUFFile.read(scratch.path("all.gguf"))
    #expect(file.keys == Self.values.map(\.0))
    for (key, value) in Self.values { #expect(file[key] == value, "\(key)") }
    #expect(file["absent"] == nil)
    #expect(file.arrayCount("l.str") == 3)
    #expect(file.string(in: "l.str", at: 2) == "ü")
    #expect(file.string(in: "l.str", at: 3) == nil)
    #expect(file.tensor(named: "two")?.dimensions == [2, 3, 2])
    let two = try #require(file.tensor(named: "two"))
    #expect(try file.floats(of: two) == (0..<12).map { Float($0) })
  }

  /// The reader of the numpy oracle shares nothing with ours.
  @Test func `another reader finds the same metadata and tensors`() throws {
    let scratch = try Scratch()
    try Self.sample(scratch.path("all.gguf"))
    let script = """
      import json, numpy
      from gguf_file import GGUF
      file = GGUF(sys.argv[1])
      print(json.dumps({"metadata": file.metadata, "two": file.tensor("two", numpy.float32).flatten().tolist(),
          "shape": file.tensor("two", numpy.float32).shape}))
      """
    let data = try Tools.python(script, [scratch.path("all.gguf")])
    let found = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
    let metadata = try #require(found["metadata"] as? [String: Any])
    #expect(metadata.count == Self.values.count)
    #expect(metadata["a.str"] as? String == "Grüße 🙂\n")
    #expect((metadata["a.i64"] as? NSNumber)?.int64Value == -(1 << 60))
    #expect((metadata["a.f64"] as? NSNumber)?.doubleValue == 0.1)
    #expect(metadata["l.bool"] as? [Bool] == [true, false, true])
    #expect(metadata["l.str"] as? [String] == ["a", "", "ü"])
    #expect(metadata["l.u16"] as? [Int] == [1, 65_535])
    #expect(found["shape"] as? [Int] == [2, 3, 2])
    #expect(found["two"] as? [Double] == (0..<12).map { Double($0) })
  }

  @Test(arguments: ["f32", "f16", "bf16", "q8_0"])
  func `another reader dequantises to the same bits`(name: String) throws {
    let scratch = try Scratch()
    let seed: UInt64 = 11
    var generator = SplitMix64(seed: seed)
    let values = (0..<64 * 5).map { _ in Float.random(in: -3...3, using: &generator) }
    let type = try #require(TensorType(name: name))
    var writer = GGUFWriter()
    try writer.add(tensor: "t", type: type, dimensions: [64, 5], content: .floats(values))
    try writer.write(to: scratch.path("t.gguf"))
    let file = try GGUFFile.read(scratch.path("t.gguf"))
    let ours = try file.floats(of: #require(file.tensor(named: "t")))
    let script = """
      import json, numpy
      from gguf_file import GGUF
      print(json.dumps(GGUF(sys.argv[1]).tensor("t", numpy.float32).view("<u4").flatten().tolist()))
      """
    let bits = try JSONDecoder().decode([UInt32].self, from: try Tools.python(script, [scratch.path("t.gguf")]))
    #expect(ours.map(\.bitPattern) == bits)
    let bounds: [String: Float] = ["f32": 0, "f16": 0.0015, "bf16": 0.0118, "q8_0": 0.0121]
    let bound = try #require(bounds[name])
    #expect(largestDifference(values, ours) <= bound, "seed \(seed)")
  }

  @Test(arguments: ["q4_1", "q4_K", "q5_K", "q6_K", "q2_K"])
  func `quantised rows come back near their values`(name: String) throws {
    let scratch = try Scratch()
    var generator = SplitMix64(seed: 12)
    let values = (0..<512 * 300).map { _ in Float.random(in: -1...1, using: &generator) }
    let type = try #require(TensorType(name: name))
    var writer = GGUFWriter()
    try writer.add(tensor: "t", type: type, dimensions: [512, 300], content: .floats(values))
    try writer.write(to: scratch.path("t.gguf"))
    let file = try GGUFFile.read(scratch.path("t.gguf"))
    let stored = try file.floats(of: #require(file.tensor(named: "t")))
    try #require(stored.count == values.count)
    let squares = zip(values, stored).map { Double(($0 - $1) * ($0 - $1)) }
    let error = (squares.reduce(0, +) / Double(values.count)).squareRoot()
    // Uniform steps of 2/(2^bits - 1) have an error of step/sqrt(12); block scales cost a little more.
    let bits = try #require(Double(name.dropFirst().prefix(1)))
    let step = 2 / (pow(2, bits) - 1)
    #expect(error < 1.6 * step / 3.46)
  }

  // MARK: Writing

  @Test func `a failed write leaves the old file and nothing else`() throws {
    let scratch = try Scratch()
    try Data("old".utf8).write(to: scratch.url.appendingPathComponent("m.gguf"))
    struct Stop: Error {}
    var writer = GGUFWriter()
    try writer.add(tensor: "first", dimensions: [4], content: .floats([1, 2, 3, 4]))
    try writer.add(tensor: "t", dimensions: [4], content: .generated { _ in throw Stop() })
    #expect(throws: Stop.self) { try writer.write(to: scratch.path("m.gguf")) }
    #expect(scratch.names == ["m.gguf"])
    #expect(try scratch.data("m.gguf") == Data("old".utf8))
    let error = try failure { try GGUFWriter().write(to: scratch.path("no/such/m.gguf")) }
    #expect(error.code == .unavailable)
    #expect(error.message.contains("no/such/m.gguf"))
  }

  @Test func `what ggml would abort on is refused`() throws {
    var writer = GGUFWriter()
    let q8 = TensorType.q80
    #expect(throws: FusionRouteError.self) { try writer.set("", .bool(true)) }
    #expect(throws: FusionRouteError.self) { try writer.set("k", .string("a\0b")) }
    #expect(throws: FusionRouteError.self) { try writer.set("k", .array(.strings(["\0"]))) }
    #expect(throws: FusionRouteError.self) { try writer.set("general.alignment", .uint32(48)) }
    #expect(throws: FusionRouteError.self) { try writer.set("general.alignment", .int32(32)) }
    let floats = GGUFWriter.Content.floats([1])
    try writer.add(tensor: "t", dimensions: [1], content: floats)
    #expect(throws: FusionRouteError.self) { try writer.add(tensor: "t", dimensions: [1], content: floats) }
    #expect(throws: FusionRouteError.self) { try writer.add(tensor: "", dimensions: [1], content: floats) }
    #expect(throws: FusionRouteError.self) {
      try writer.add(tensor: String(repeating: "n", count: 64), dimensions: [1], content: floats)
    }
    #expect(throws: FusionRouteError.self) { try writer.add(tensor: "u", dimensions: [], content: floats) }
    #expect(throws: FusionRouteError.self) { try writer.add(tensor: "u", dimensions: [0], content: floats) }
    #expect(throws: FusionRouteError.self) { try writer.add(tensor: "u", dimensions: [2], content: floats) }
    #expect(throws: FusionRouteError.self) {
      try writer.add(tensor: "u", dimensions: [1, 1, 1, 1, 1], content: floats)
    }
    #expect(throws: FusionRouteError.self) {
      try writer.add(tensor: "u", dimensions: [1 << 40, 1 << 40], content: .generated { _ in })
    }
    #expect(throws: FusionRouteError.self) { try writer.add(tensor: "u", type: q8, dimensions: [1], content: floats) }
    let matrix = try #require(TensorType(name: "iq2_xxs"))
    #expect(throws: FusionRouteError.self) {
      try writer.add(tensor: "u", type: matrix, dimensions: [256], content: .generated { _ in })
    }
    #expect(TensorType(rawValue: 4) == nil)
    #expect(TensorType(rawValue: -1) == nil)
    #expect(TensorType(rawValue: 10_000) == nil)
    for type in TensorType.all { #expect(TensorType(name: type.name) == type) }
  }

  /// Every type that claims to be writable is: ggml would end the process otherwise. (The types with lattice tables pass
  /// too, but building the tables takes half a minute.)
  @Test func `every writable type can be written and read`() throws {
    let scratch = try Scratch()
    var writer = GGUFWriter()
    let types = TensorType.all.filter { $0.isWritable && !$0.name.hasPrefix("iq") }
    for type in types {
      try writer.add(
        tensor: type.name, type: type, dimensions: [256, 2], content: .floats((0..<512).map { Float($0 % 17) / 8 - 1 }))
    }
    try writer.write(to: scratch.path("types.gguf"))
    let file = try GGUFFile.read(scratch.path("types.gguf"))
    #expect(types.count > 15)
    for type in types where type.isReadable {
      let values = try file.floats(of: #require(file.tensor(named: type.name)))
      #expect(values.allSatisfy { $0.isFinite }, "\(type)")
    }
  }
}

import Core
import Foundation
import ModelFiles
import TestSupport
import Testing

@Suite struct RoutingHeadTests {
  /// A head file with any of its parts changed.
  private struct Parts {
    var architecture: GGUFValue? = .string("fusionroute-head")
    var experts: GGUFValue? = .array(.strings(["math", "code"]))
    var scale: GGUFValue?
    var weight: (type: TensorType, dimensions: [Int], values: [Float])? = (.f32, [4, 2], [1, 2, 3, 4, 5, 6, 7, 8])
    var bias: (type: TensorType, dimensions: [Int], values: [Float])?
    var extra = false

    func read(_ scratch: Scratch) throws -> RoutingHead {
      var writer = GGUFWriter()
      if let architecture { try writer.set("general.architecture", architecture) }
      if let experts { try writer.set("fusionroute.experts", experts) }
      if let scale { try writer.set("fusionroute.complement_scale", scale) }
      for (name, tensor) in [("routing_head.weight", weight), ("routing_head.bias", bias)] {
        guard let tensor else { continue }
        try writer.add(tensor: name, type: tensor.type, dimensions: tensor.dimensions, content: .floats(tensor.values))
      }
      if extra { try writer.add(tensor: "routing_head.biases", dimensions: [2], content: .floats([0, 0])) }
      try writer.write(to: scratch.path("head.gguf"))
      return try RoutingHead.read(scratch.path("head.gguf"))
    }
  }

  @Test func `a written head reads back`() throws {
    let scratch = try Scratch()
    let head = try RoutingHead(
      experts: ["math", "code", "ä"], weight: (0..<12).map { Float($0) / 7 }, bias: [0.5, -1, 0], complementScale: 0.25,
      embeddingWidth: 4)
    try head.write(scratch.path("h.gguf"))
    #expect(try RoutingHead.read(scratch.path("h.gguf")) == head)
    let plain = try RoutingHead(experts: ["solo"], weight: [1, 2], embeddingWidth: 2)
    try plain.write(scratch.path("p.gguf"))
    #expect(try RoutingHead.read(scratch.path("p.gguf")) == plain)
    #expect(plain.complementScale == 1)
    #expect(plain.bias == nil)
  }

  /// The contract's own example: w_i = Σ_j weight[i][j]·h_j + bias_i.
  @Test func `weights are the matrix times the state plus the bias`() throws {
    let scratch = try Scratch()
    var parts = Parts()
    #expect(try parts.read(scratch).weights(hidden: [1, 10, 100, 1000]) == [4321, 8765])
    parts.bias = (.f32, [2], [0.5, -1])
    #expect(try parts.read(scratch).weights(hidden: [1, 10, 100, 1000]) == [4321.5, 8764])
  }

  @Test(arguments: [1, 7, 16, 576, 577, 2304, 8192])
  func `weights agree with double precision at any width`(width: Int) throws {
    let seed = UInt64(width)
    var generator = SplitMix64(seed: seed)
    let hidden = (0..<width).map { _ in Float.random(in: -4...4, using: &generator) }
    let names = (0..<5).map { "e\($0)" }
    let head = try RoutingHead(
      experts: names, weight: (0..<5 * width).map { _ in Float.random(in: -1...1, using: &generator) },
      bias: [1, -2, 3, 0, 0.5], embeddingWidth: width)
    let weights = head.weights(hidden: hidden)
    for row in 0..<5 {
      var exact = Double(head.bias?[row] ?? 0)
      var size = 1.0
      for j in 0..<width {
        let term = Double(head.weight[row * width + j]) * Double(hidden[j])
        exact += term
        size += abs(term)
      }
      #expect(abs(Double(weights[row]) - exact) < 1e-6 * size, "seed \(seed)")
    }
    #expect(head.weights(hidden: hidden).map(\.bitPattern) == weights.map(\.bitPattern))
  }

  @Test func `each broken rule has its sentence`() throws {
    let scratch = try Scratch()
    func message(_ change: (inout Parts) -> Void) throws -> String {
      var parts = Parts()
      change(&parts)
      let error = try failure { _ = try parts.read(scratch) }
      #expect(error.code == .badInput)
      #expect(error.message.contains("head.gguf"))
      return error.message
    }
    #expect(try message { $0.architecture = .string("llama") }.contains("'llama', expected 'fusionroute-head'"))
    #expect(try message { $0.architecture = nil }.contains("'general.architecture' is missing"))
    #expect(try message { $0.experts = nil }.contains("'fusionroute.experts' is missing"))
    #expect(try message { $0.experts = .string("math") }.contains("is of type str"))
    #expect(try message { $0.experts = .array(.strings([])) }.contains("names 0 experts"))
    #expect(try message { $0.experts = .array(.strings(["a"])) }.contains("[4, 2] but must be [embedding width, 1]"))
    #expect(try message { $0.experts = .array(.strings(["a", "b", "c"])) }.contains("a row for each name"))
    #expect(try message { $0.experts = .array(.strings(["a", "a"])) }.contains("names the expert 'a' twice"))
    #expect(
      try message { $0.experts = .array(.strings(["a", ""])) }.contains("entry 1 of 'fusionroute.experts' is an empty"))
    #expect(try message { $0.weight = nil }.contains("'routing_head.weight' is missing"))
    #expect(try message { $0.weight?.type = .f16 }.contains("stored as f16 but must be f32"))
    #expect(try message { $0.weight?.dimensions = [2, 2, 2] }.contains("has shape [2, 2, 2]"))
    #expect(try message { $0.weight?.values[5] = .nan }.contains("'routing_head.weight' contains NaN"))
    #expect(try message { $0.weight?.values[0] = .infinity }.contains("infinite"))
    #expect(try message { $0.bias = (.f32, [3], [0, 0, 0]) }.contains("has shape [3] but must be [2]"))
    #expect(try message { $0.bias = (.bf16, [2], [0, 0]) }.contains("stored as bf16"))
    #expect(try message { $0.bias = (.f32, [2], [0, .nan]) }.contains("'routing_head.bias' contains NaN"))
    #expect(try message { $0.scale = .float32(-0.5) }.contains("-0.5 but must be finite and not negative"))
    #expect(try message { $0.scale = .float32(.nan) }.contains("finite"))
    #expect(try message { $0.scale = .float32(.infinity) }.contains("finite"))
    #expect(try message { $0.scale = .float64(1) }.contains("of type f64 but must be f32"))
    #expect(try message { $0.extra = true }.contains("unknown tensor 'routing_head.biases'"))
  }

  @Test func `a head is checked against its router and cluster`() throws {
    let head = try RoutingHead(experts: ["math", "code"], weight: [1, 2, 3, 4], embeddingWidth: 2)
    try head.validate(embeddingWidth: 2, experts: ["math", "code"])
    try head.validate(embeddingWidth: 2, experts: ["math", "code", "tuned"])
    let width = try failure { try head.validate(embeddingWidth: 576, experts: ["math", "code"]) }
    #expect(width.code == .badInput)
    #expect(width.message.contains("width 2 but the router's width is 576"))
    let unknown = try failure { try head.validate(embeddingWidth: 2, experts: ["math", "law"]) }
    #expect(unknown.message.contains("selects 'code' but the cluster has only 'law', 'math'"))
  }

  @Test func `a random head has rows of mean zero and depends on its seed`() throws {
    let names = ["a", "b", "c"]
    let head = try RoutingHead.random(experts: names, embeddingWidth: 640, seed: 5)
    #expect(try RoutingHead.random(experts: names, embeddingWidth: 640, seed: 5) == head)
    #expect(try RoutingHead.random(experts: names, embeddingWidth: 640, seed: 6) != head)
    for row in 0..<3 {
      let values = head.weight[row * 640..<(row + 1) * 640].map { Double($0) }
      #expect(abs(values.reduce(0, +)) < 1e-5)
      let norm = values.reduce(0) { $0 + $1 * $1 }
      #expect((0.8...1.2).contains(norm))
    }
    #expect(throws: FusionRouteError.self) { try RoutingHead.random(experts: [], embeddingWidth: 8, seed: 1) }
    #expect(throws: FusionRouteError.self) { try RoutingHead.random(experts: ["a"], embeddingWidth: 0, seed: 1) }
  }

  /// States like those of a real model: one large common component, and dimensions of very different spread.
  private static func states(_ count: Int, width: Int, seed: UInt64) -> (states: [[Float]], common: [Float]) {
    var generator = SplitMix64(seed: seed)
    let common = (0..<width).map { _ in Float.random(in: -20...20, using: &generator) }
    let spread = (0..<width).map { $0 < 3 ? Float(30) : Float.random(in: 0.2...2, using: &generator) }
    let states = (0..<count).map { _ in
      (0..<width).map { common[$0] + spread[$0] * Float.random(in: -1...1, using: &generator) }
    }
    return (states, common)
  }

  private static func winners(_ head: RoutingHead, _ states: [[Float]]) -> [Int] {
    states.map { state in
      let weights = head.weights(hidden: state)
      return weights.indices.max { weights[$0] < weights[$1] } ?? 0
    }
  }

  @Test(arguments: [2, 3, 5])
  func `a calibrated head alternates where a random one does not`(count: Int) throws {
    let seed: UInt64 = 33
    let (states, common) = Self.states(600, width: 96, seed: seed)
    let names = (0..<count).map { "e\($0)" }
    let head = try RoutingHead.calibrated(hidden: Array(states[..<300]), experts: names, seed: seed)
    let unseen = Array(states[300...])
    let winners = Self.winners(head, unseen)
    for expert in 0..<count {
      let share = Double(winners.count { $0 == expert }) / Double(winners.count)
      #expect(share > 0.5 / Double(count) && share < 1.6 / Double(count), "seed \(seed): \(share)")
    }
    let switches = zip(winners, winners.dropFirst()).count { $0 != $1 }
    #expect(Double(switches) > 0.3 * Double(winners.count), "seed \(seed)")
    // More of the common component changes nothing.
    let shifted = unseen.map { state in zip(state, common).map { $0 + 0.5 * $1 } }
    let moved = zip(Self.winners(head, shifted), winners).count { $0 != $1 }
    #expect(moved < winners.count / 10, "seed \(seed)")
    let random = try RoutingHead.random(experts: names, embeddingWidth: 96, seed: seed)
    let most = Dictionary(grouping: Self.winners(random, unseen)) { $0 }.values.map(\.count).max() ?? 0
    #expect(most > 250, "seed \(seed): states without a common component test nothing")
    #expect(try RoutingHead.calibrated(hidden: Array(states[..<300]), experts: names, seed: seed) == head)
  }

  @Test func `calibration refuses what it cannot use`() throws {
    let names = ["a", "b"]
    let fine = Self.states(4, width: 8, seed: 1).states
    #expect(throws: FusionRouteError.self) { try RoutingHead.calibrated(hidden: [], experts: names, seed: 1) }
    #expect(throws: FusionRouteError.self) { try RoutingHead.calibrated(hidden: [fine[0]], experts: names, seed: 1) }
    #expect(throws: FusionRouteError.self) {
      try RoutingHead.calibrated(hidden: [fine[0], [1, 2]], experts: names, seed: 1)
    }
    #expect(throws: FusionRouteError.self) {
      try RoutingHead.calibrated(hidden: [fine[0], fine[1].map { _ in Float.nan }], experts: names, seed: 1)
    }
    #expect(throws: FusionRouteError.self) { try RoutingHead.calibrated(hidden: fine, experts: [], seed: 1) }
    #expect(throws: FusionRouteError.self) {
      try RoutingHead.calibrated(hidden: fine, experts: (0..<9).map(String.init), seed: 1)
    }
    #expect(throws: FusionRouteError.self) {
      try RoutingHead.calibrated(hidden: fine, experts: ["a", "a"], seed: 1)
    }
  }
}

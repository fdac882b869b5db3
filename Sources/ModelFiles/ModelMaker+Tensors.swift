internal import Core
internal import ModelKernels

extension ModelMaker {
  /// How large the parts of a generated model are.
  private struct Gains {
    /// Standard deviation of a logit: sharp enough that the best token stands out, flat enough that a perturbed twin
    /// often prefers another.
    var logits: Float
    /// Factor on queries and on keys: attention picks a few positions instead of averaging over all.
    var attention: Float
    /// Gemma's norms behind the blocks. The embedding enters its residual stream enlarged by sqrt(width), so attention
    /// adds more than that; the feed-forward part adds little, because ggml's CPU backend looks GELU up in a table of
    /// half-precision values, whose steps a random network would otherwise amplify into differences of 1e-2 between the
    /// logits of exact arithmetic and its own.
    var attentionNorm: Float = 1
    var feedForwardNorm: Float = 1

    init(_ architecture: ModelRecipe.Architecture) {
      switch architecture {
      case .llama: (logits, attention) = (2.5, 1.6)
      case .gemma2, .gemma3: (logits, attention, attentionNorm, feedForwardNorm) = (0.8, 2.2, 2, 0.08)
      }
    }
  }

  /// Control tokens get output rows this much smaller.
  private static let specialGain: Float = 0.02

  private struct Builder {
    let recipe: ModelRecipe
    var writer: GGUFWriter

    private func stream(_ name: String) -> UInt64 { ModelMaker.noiseStream(seed: recipe.seed, tensor: name) }

    /// A matrix that maps `input` to `output` elements, entries N(0, gain²/input): unit variance stays unit variance.
    mutating func matrix(_ name: String, input: Int, output: Int, gain: Float = 1) throws {
      let stream = stream(name)
      let deviation = gain / Float(input).squareRoot()
      try writer.add(
        tensor: name, type: recipe.type.fitting(row: input), dimensions: [input, output],
        content: .generated { values in
          ModelMaker.fill(values, rowLength: input, stream: stream, deviation: deviation)
        })
    }

    /// Norm weights near `centre`. With `signs` each keeps or flips its element at random.
    mutating func norm(_ name: String, _ count: Int, centre: Float = 1, signs: Bool = false) throws {
      let stream = stream(name)
      try writer.add(
        tensor: name, dimensions: [count],
        content: .generated { values in
          fr_noise_fill(values.baseAddress, count, stream, 0, 0.1 * centre)
          for i in 0..<count {
            let flip = signs && SplitMix64.mix(stream &+ UInt64(i)) & 1 == 1
            values[i] = (centre + values[i]) * (flip ? -1 : 1)
          }
        })
    }

    /// A row per token; those of `specials` are small, so that they rarely win.
    mutating func vocabularyMatrix(_ name: String, deviation: Float, specials: [Int]) throws {
      let stream = stream(name)
      let width = recipe.width
      try writer.add(
        tensor: name, type: recipe.type.fitting(row: width), dimensions: [width, recipe.vocabularySize],
        content: .generated { values in
          ModelMaker.fill(values, rowLength: width, stream: stream, deviation: deviation)
          for token in specials {
            for i in token * width..<(token + 1) * width { values[i] *= ModelMaker.specialGain }
          }
        })
    }
  }

  static func addTensors(_ recipe: ModelRecipe, specials: [Int], to writer: inout GGUFWriter) throws {
    var builder = Builder(recipe: recipe, writer: writer)
    let width = recipe.width
    let deviation = Gains(recipe.architecture).logits / Float(width).squareRoot()
    try builder.vocabularyMatrix("token_embd.weight", deviation: deviation, specials: recipe.tied ? specials : [])
    for layer in 0..<recipe.layers { try addLayer(layer, recipe, to: &builder) }
    // Random signs: a tied output matrix would otherwise favour the token that was just read.
    try builder.norm("output_norm.weight", width, signs: true)
    if !recipe.tied { try builder.vocabularyMatrix("output.weight", deviation: deviation, specials: specials) }
    writer = builder.writer
  }

  private static func addLayer(_ layer: Int, _ recipe: ModelRecipe, to builder: inout Builder) throws {
    let block = "blk.\(layer)"
    let width = recipe.width
    let queries = recipe.heads * recipe.headSize
    let keys = recipe.kvHeads * recipe.headSize
    let gemma = recipe.architecture != .llama
    let normalised = recipe.architecture == .gemma3
    let gains = Gains(recipe.architecture)
    let gain = normalised ? 1 : gains.attention
    try builder.norm("\(block).attn_norm.weight", width)
    try builder.matrix("\(block).attn_q.weight", input: width, output: queries, gain: gain)
    try builder.matrix("\(block).attn_k.weight", input: width, output: keys, gain: gain)
    try builder.matrix("\(block).attn_v.weight", input: width, output: keys)
    if normalised {
      try builder.norm("\(block).attn_q_norm.weight", recipe.headSize, centre: gains.attention)
      try builder.norm("\(block).attn_k_norm.weight", recipe.headSize, centre: gains.attention)
    }
    try builder.matrix("\(block).attn_output.weight", input: queries, output: width)
    if gemma { try builder.norm("\(block).post_attention_norm.weight", width, centre: gains.attentionNorm) }
    try builder.norm("\(block).ffn_norm.weight", width)
    try builder.matrix("\(block).ffn_gate.weight", input: width, output: recipe.feedForward)
    try builder.matrix("\(block).ffn_up.weight", input: width, output: recipe.feedForward)
    try builder.matrix("\(block).ffn_down.weight", input: recipe.feedForward, output: width)
    if gemma { try builder.norm("\(block).post_ffw_norm.weight", width, centre: gains.feedForwardNorm) }
  }

  /// Noise of one tensor: a function of the seed and the name, so that tensors do not depend on each other's order.
  static func noiseStream(seed: UInt64, tensor name: String) -> UInt64 {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325  // FNV-1a
    for byte in name.utf8 { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }
    return SplitMix64.mix(SplitMix64.mix(seed) ^ hash)
  }

  private static func fill(
    _ values: UnsafeMutableBufferPointer<Float>, rowLength: Int, stream: UInt64, deviation: Float
  ) {
    let output = SendableBuffer(values.baseAddress)
    Rows.forEachChunk(of: values.count / rowLength, rowLength: rowLength) { rows in
      guard let base = output.base else { return }
      let first = rows.lowerBound * rowLength
      fr_noise_fill(base + first, rows.count * rowLength, stream, UInt64(first), deviation)
    }
  }
}

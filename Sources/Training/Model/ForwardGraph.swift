internal import Core
internal import TrainingKernels

/// Shape of one pass: sequences of equal padded length, and the positions whose next token is judged.
struct PassShape: Hashable, Sendable {
  var sequences: Int
  /// Tokens of a sequence; a multiple of `PassShape.lengthUnit`.
  var length: Int
  /// Judged positions of all sequences; a multiple of `PassShape.rowUnit`.
  var rows: Int

  /// Lengths are padded to whole vectors, so that a sequence's sums do not depend on what it is batched with.
  static let lengthUnit = 16
  static let rowUnit = 8

  static func padded(_ count: Int, to unit: Int) -> Int { max(1, (count + unit - 1) / unit) * unit }
}

/// The forward pass in ggml's operations, as llama.cpp computes it.
struct ForwardGraph {
  let shape: ModelShape
  let weights: BaseWeights
  let trainables: Trainables
  let loraScale: Float
  /// Whether GELU is smooth (for finite differences) or llama.cpp's table.
  let smoothGELU: Bool
  let context: OpaquePointer
  let pass: PassShape

  /// Tensors that are filled before a pass.
  struct Inputs {
    let tokens: Tensor
    let positions: Tensor
    let mask: Tensor
    /// Of windowed layers; nil if the window covers the sequences.
    let windowMask: Tensor?
    let rows: Tensor
  }

  struct Outputs {
    /// The vectors that the output matrix multiplies, [rows, width].
    let hidden: Tensor
    /// [rows, vocabulary], before the output's soft cap.
    let logits: Tensor?
    /// [rows, head rows].
    let head: Tensor?
  }

  /// Nodes of the graph with its backward pass, generously.
  static func nodeLimit(_ shape: ModelShape) -> Int { shape.layers * 400 + 1_024 }

  private func check(_ tensor: Tensor?) throws -> Tensor {
    guard let tensor else { throw FusionRouteError.internal("ggml has no room for the training graph") }
    return tensor
  }

  func inputs() throws -> Inputs {
    func new(_ name: String, _ type: ggml_type, _ ne0: Int, _ ne1: Int = 1) throws -> Tensor {
      let tensor = try check(ggml_new_tensor_2d(context, type, Int64(ne0), Int64(ne1)))
      ggml_set_name(tensor, name)
      ggml_set_input(tensor)
      return tensor
    }
    let needsWindow = (0..<shape.layers).contains(where: shape.hasWindow(layer:)) && pass.length > shape.window
    return Inputs(
      tokens: try new("tokens", GGML_TYPE_I32, pass.sequences * pass.length),
      positions: try new("positions", GGML_TYPE_I32, pass.length),
      mask: try new("mask", GGML_TYPE_F32, pass.length, pass.length),
      windowMask: needsWindow ? try new("window mask", GGML_TYPE_F32, pass.length, pass.length) : nil,
      rows: try new("rows", GGML_TYPE_I32, pass.rows))
  }

  /// - Parameter wantsLogits: false leaves the output matrix out, for a reward head.
  func outputs(_ inputs: Inputs, wantsLogits: Bool) throws -> Outputs {
    var x = try check(ggml_get_rows(context, weights("token_embd.weight"), inputs.tokens))
    if shape.architecture == .gemma2 { x = try check(ggml_scale(context, x, Float(shape.width).squareRoot())) }
    for layer in 0..<shape.layers {
      x = try attention(layer, x, inputs)
      x = try feedForward(layer, x)
    }
    let selected = try check(ggml_get_rows(context, x, inputs.rows))
    let hidden = try norm(selected, "output_norm.weight")
    ggml_set_output(hidden)
    let matrix = try weights(shape.tied ? "token_embd.weight" : "output.weight")
    let logits = wantsLogits ? try check(ggml_mul_mat(context, matrix, hidden)) : nil
    let head = try trainables.head.map { head in
      let centred = try check(ggml_scale(context, ggml_sub(context, hidden, head.mean), 1 / head.scale))
      return try check(ggml_add(context, ggml_mul_mat(context, head.weight, centred), head.bias))
    }
    return Outputs(hidden: hidden, logits: logits, head: head)
  }

  private func norm(_ x: Tensor, _ name: String) throws -> Tensor {
    try check(ggml_mul(context, ggml_rms_norm(context, x, shape.normEpsilon), weights(name)))
  }

  /// W·x, plus scale · B·(A·x) where there is an adapter.
  private func linear(_ name: String, _ x: Tensor) throws -> Tensor {
    let product = try check(ggml_mul_mat(context, weights(name), x))
    guard let (a, b) = trainables.lora[name] else { return product }
    let low = try check(ggml_scale(context, ggml_mul_mat(context, a, x), loraScale))
    return try check(ggml_add(context, product, ggml_mul_mat(context, b, low)))
  }

  /// [head size, heads, length, sequences] → [head size, length, heads · sequences], rotated.
  private func heads(_ x: Tensor, count: Int, layer: Int, positions: Tensor) throws -> Tensor {
    let (size, length, sequences) = (Int64(shape.headSize), Int64(pass.length), Int64(pass.sequences))
    let split = ggml_reshape_4d(context, x, size, Int64(count), length, sequences)
    let mode = shape.architecture == .llama ? GGML_ROPE_TYPE_NORMAL : GGML_ROPE_TYPE_NEOX
    let base = shape.hasWindow(layer: layer) ? shape.ropeBaseInWindow : shape.ropeBase
    let rotated = ggml_rope_ext(
      context, split, positions, weights.tensors[ModelShape.ropeFactors], Int32(shape.headSize), Int32(mode),
      Int32(clamping: shape.context), base, 1, 0, 1, 32, 1)
    let grouped = ggml_cont(context, ggml_permute(context, rotated, 0, 2, 1, 3))
    // ggml's backward pass of grouped queries takes three dimensions.
    return try check(ggml_reshape_3d(context, grouped, size, length, Int64(count) * sequences))
  }

  private func attention(_ layer: Int, _ x: Tensor, _ inputs: Inputs) throws -> Tensor {
    let block = "blk.\(layer)"
    let (size, length, sequences) = (Int64(shape.headSize), Int64(pass.length), Int64(pass.sequences))
    let kvHeads = Int64(shape.kvHeads)
    let normed = try norm(x, "\(block).attn_norm.weight")
    var queries = try linear("\(block).attn_q.weight", normed)
    // Before the rotation, which is linear: behind it ggml cannot differentiate a scaling.
    if shape.architecture == .gemma2 { queries = try check(ggml_scale(context, queries, shape.attentionScale)) }
    let q = try heads(queries, count: shape.heads, layer: layer, positions: inputs.positions)
    let k = try heads(
      linear("\(block).attn_k.weight", normed), count: shape.kvHeads, layer: layer, positions: inputs.positions)
    let v = ggml_reshape_4d(context, try linear("\(block).attn_v.weight", normed), size, kvHeads, length, sequences)
    let transposed = ggml_cont(context, ggml_permute(context, v, 1, 2, 0, 3))
    let values = ggml_reshape_3d(context, transposed, length, size, kvHeads * sequences)

    var scores = try check(ggml_mul_mat(context, k, q))
    if shape.attentionCap > 0 {
      fr_mark_softcap(scores, shape.attentionCap)
      scores = try check(ggml_silu(context, scores))
    }
    let mask = shape.hasWindow(layer: layer) ? inputs.windowMask ?? inputs.mask : inputs.mask
    // Gemma's queries are scaled already.
    let scale = shape.architecture == .gemma2 ? 1 : shape.attentionScale
    let shares = ggml_soft_max_ext(context, scores, mask, scale, 0)
    let mixed = ggml_reshape_4d(
      context, ggml_mul_mat(context, values, shares), size, length, Int64(shape.heads), sequences)
    let merged = ggml_reshape_2d(
      context, ggml_cont(context, ggml_permute(context, mixed, 0, 2, 1, 3)), size * Int64(shape.heads),
      length * sequences)
    var out = try linear("\(block).attn_output.weight", check(merged))
    if shape.architecture == .gemma2 { out = try norm(out, "\(block).post_attention_norm.weight") }
    return try check(ggml_add(context, out, x))
  }

  private func feedForward(_ layer: Int, _ x: Tensor) throws -> Tensor {
    let block = "blk.\(layer)"
    let normed = try norm(x, "\(block).ffn_norm.weight")
    let gate = try linear("\(block).ffn_gate.weight", normed)
    let up = try linear("\(block).ffn_up.weight", normed)
    if shape.architecture == .gemma2 { fr_mark_gelu(gate, smoothGELU ? 0 : 1) }
    var out = try linear("\(block).ffn_down.weight", check(ggml_swiglu_split(context, gate, up)))
    if shape.architecture == .gemma2 { out = try norm(out, "\(block).post_ffw_norm.weight") }
    return try check(ggml_add(context, out, x))
  }
}

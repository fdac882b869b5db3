internal import Core
internal import TrainingKernels

/// The forward and backward pass of one shape, ready to run.
final class PassGraph {
  let shape: PassShape
  let inputs: ForwardGraph.Inputs
  let outputs: ForwardGraph.Outputs
  /// The forward and the backward half; losses are computed between them.
  let forward: OpaquePointer
  let backward: OpaquePointer?
  private let context: TensorContext

  /// - Parameters:
  ///   - logits: memory for the logits, which their gradient replaces.
  ///   - headGradient: memory for the gradient of the head's output.
  init(
    _ pass: PassShape, model: ModelShape, weights: BaseWeights, trainables: Trainables, loraScale: Float,
    smoothGELU: Bool, wantsLogits: Bool, allocator: ggml_gallocr_t, engine: OpaquePointer,
    logits: UnsafeMutableRawPointer?, headGradient: UnsafeMutableRawPointer
  ) throws {
    shape = pass
    let limit = ForwardGraph.nodeLimit(model)
    context = try TensorContext(tensors: limit, graphs: 3, graphNodes: limit)
    let builder = ForwardGraph(
      shape: model, weights: weights, trainables: trainables, loraScale: loraScale, smoothGELU: smoothGELU,
      context: context.pointer, pass: pass)
    inputs = try builder.inputs()
    outputs = try builder.outputs(inputs, wantsLogits: wantsLogits)
    guard let whole = ggml_new_graph_custom(context.pointer, limit, true),
      let forward = ggml_new_graph_custom(context.pointer, limit, false)
    else { throw FusionRouteError.internal("ggml has no room for the training graph") }
    outputs.logits?.pointee.data = logits
    for output in [outputs.logits, outputs.head].compactMap({ $0 }) { ggml_build_forward_expand(whole, output) }
    if outputs.logits == nil, outputs.head == nil { ggml_build_forward_expand(whole, outputs.hidden) }
    let forwardCount = ggml_graph_n_nodes(whole)
    if !trainables.parameters.isEmpty {
      try Self.expandBackward(
        whole, count: forwardCount, trainables: trainables, outputs: outputs, context: context, logits: logits,
        headGradient: headGradient)
    }
    guard ggml_gallocr_alloc_graph(allocator, whole) else {
      throw FusionRouteError.unavailable(
        "there is no memory for the activations of \(pass.sequences) × \(pass.length) tokens: use a smaller batch")
    }
    fr_graph_rewrite(whole, engine)
    for index in 0..<forwardCount { ggml_graph_add_node(forward, ggml_graph_node(whole, index)) }
    self.forward = forward
    let total = ggml_graph_n_nodes(whole)
    if total > forwardCount, let backward = ggml_new_graph_custom(context.pointer, limit, false) {
      for index in forwardCount..<total { ggml_graph_add_node(backward, ggml_graph_node(whole, index)) }
      self.backward = backward
    } else {
      backward = nil
    }
  }

  /// Lets ggml differentiate. The gradients of logits and head are written by us between the halves; those of parameters
  /// are added up over passes.
  private static func expandBackward(
    _ graph: OpaquePointer, count: Int32, trainables: Trainables, outputs: ForwardGraph.Outputs,
    context: TensorContext, logits: UnsafeMutableRawPointer?, headGradient: UnsafeMutableRawPointer
  ) throws {
    var gradients: [Tensor: Tensor] = [:]
    for parameter in trainables.parameters { gradients[parameter.tensor] = parameter.gradient }
    func given(_ output: Tensor?, _ data: UnsafeMutableRawPointer?, _ name: String) throws {
      guard let output, let data else { return }
      let ne = output.pointee.ne
      gradients[output] = try context.tensor(name, dimensions: [Int(ne.0), Int(ne.1)], data: data)
      fr_set_loss(output)
    }
    try given(outputs.logits, logits, "gradient of logits")
    try given(outputs.head, headGradient, "gradient of head")
    var list: [Tensor?] = (0..<count).map { index in ggml_graph_node(graph, index).flatMap { gradients[$0] } }
    list.withUnsafeMutableBufferPointer { ggml_build_backward_expand(context.pointer, graph, $0.baseAddress) }
  }
}

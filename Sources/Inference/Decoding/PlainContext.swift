internal import CLlama
internal import CLlamaExtras
public import Core

/// Sequences of one model through plain llama.cpp calls, nothing around them: what benchmarks compare the runtime
/// with. Settings are those of a ``BatchingDecoder``; used by one thread at a time.
public final class PlainContext: @unchecked Sendable {
  // Unchecked: the caller hands it from thread to thread.
  private let context: OpaquePointer
  private var batch: llama_batch
  private let model: Model
  private let monitor = DecoderMonitor()
  private let capacity: Int
  /// Tokens evaluated so far, by sequence.
  private var positions: [Int]
  /// Tokens of the first sequence evaluated so far.
  public var position: Int { positions[0] }

  /// - Throws: `.unavailable` when llama.cpp cannot set the context up.
  public init(model: Model, configuration: DecoderConfiguration, sequences: Int = 1) throws {
    var configuration = configuration
    configuration.slots = sequences
    positions = Array(repeating: 0, count: sequences)
    let parameters = LlamaContext.parameters(
      model: model, configuration: try configuration.validated(), monitor: monitor)
    let (pointer, shim) = withUnsafePointer(to: parameters) { parameters in
      LlamaRuntime.withShimError { error in fr_context_init(model.handle.pointer, parameters, error) }
    }
    guard let pointer else {
      throw FusionRouteError.unavailable(
        "cannot set up a plain context for \(model.path): \(shim ?? "no reason given")")
    }
    context = pointer
    capacity = Int(llama_n_batch(pointer))
    batch = llama_batch_init(Int32(capacity), 0, 1)
    llama_set_embeddings(pointer, false)
    self.model = model
  }

  deinit {
    llama_batch_free(batch)
    llama_free(context)
  }

  /// Empties every sequence.
  public func reset() {
    for sequence in positions.indices {
      llama_memory_seq_rm(llama_get_memory(context), Int32(sequence), -1, -1)
      positions[sequence] = 0
    }
  }

  /// Appends `tokens` to a sequence; the last one's logits are computed, and its hidden state where `hidden` says so.
  public func evaluate(_ tokens: some Collection<Token>, sequence: Int = 0, hidden: Bool = false) throws {
    let tokens = Array(tokens)
    var start = 0
    while start < tokens.count {
      let end = min(start + capacity, tokens.count)
      // As in the decoder, positions whose hidden state is wanted go through a call of their own.
      let cut = hidden && end == tokens.count && end - start > 1 ? end - 1 : end
      try decode(
        tokens[start..<cut], sequence: sequence, outputs: cut == tokens.count, hidden: hidden && cut == tokens.count)
      start = cut
    }
    guard tokens.isEmpty || llama_get_logits_ith(context, -1) != nil else {
      throw FusionRouteError.internal("llama.cpp returned no logits")
    }
  }

  /// Appends one token to each sequence, in one batch; all logits are computed.
  public func step(_ tokens: [Token], hidden: Bool = false) throws {
    guard tokens.count == positions.count, tokens.count <= capacity else {
      throw FusionRouteError.internal("a step needs one token for each of \(positions.count) sequences")
    }
    llama_set_embeddings(context, hidden)
    for (sequence, token) in tokens.enumerated() { add(token, at: sequence, sequence: sequence, output: true) }
    try run(count: tokens.count)
    for sequence in positions.indices { positions[sequence] += 1 }
  }

  private func decode(_ tokens: ArraySlice<Token>, sequence: Int, outputs: Bool, hidden: Bool) throws {
    llama_set_embeddings(context, hidden)
    for (index, token) in tokens.enumerated() {
      add(token, at: index, sequence: sequence, output: outputs && index == tokens.count - 1, offset: index)
    }
    try run(count: tokens.count)
    positions[sequence] += tokens.count
  }

  private func add(_ token: Token, at index: Int, sequence: Int, output: Bool, offset: Int = 0) {
    batch.token[index] = token
    batch.pos[index] = Int32(positions[sequence] + offset)
    batch.n_seq_id[index] = 1
    batch.seq_id[index]?[0] = Int32(sequence)
    batch.logits[index] = output ? 1 : 0
  }

  private func run(count: Int) throws {
    batch.n_tokens = Int32(count)
    let (status, shim) = withUnsafePointer(to: batch) { batch in
      LlamaRuntime.withShimError { error in fr_decode(context, batch, error) }
    }
    guard status == 0 else {
      throw FusionRouteError.internal("llama_decode returned \(status)\(shim.map { ": \($0)" } ?? "")")
    }
  }
}

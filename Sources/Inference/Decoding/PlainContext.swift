internal import CLlama
internal import CLlamaExtras
public import Core

/// One sequence of one model through plain llama.cpp calls, nothing around them: what benchmarks compare the runtime
/// with. Settings are those of a ``BatchingDecoder``; used by one thread at a time.
public final class PlainContext {
  private let context: OpaquePointer
  private var batch: llama_batch
  private let model: Model
  private let monitor = DecoderMonitor()
  private let capacity: Int
  /// Tokens evaluated so far.
  public private(set) var position = 0

  /// - Throws: `.unavailable` when llama.cpp cannot set the context up.
  public init(model: Model, configuration: DecoderConfiguration) throws {
    var configuration = configuration
    configuration.slots = 1
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

  /// Starts an empty sequence.
  public func reset() {
    llama_memory_seq_rm(llama_get_memory(context), 0, -1, -1)
    position = 0
  }

  /// Appends `tokens`; the last one's logits are computed, and its hidden state where `hidden` says so.
  public func evaluate(_ tokens: some Collection<Token>, hidden: Bool = false) throws {
    let tokens = Array(tokens)
    var start = 0
    while start < tokens.count {
      let end = min(start + capacity, tokens.count)
      // As in the decoder, positions whose hidden state is wanted go through a call of their own.
      let cut = hidden && end == tokens.count && end - start > 1 ? end - 1 : end
      try decode(tokens[start..<cut], outputs: cut == tokens.count, hidden: hidden && cut == tokens.count)
      start = cut
    }
    guard tokens.isEmpty || llama_get_logits_ith(context, -1) != nil else {
      throw FusionRouteError.internal("llama.cpp returned no logits")
    }
  }

  private func decode(_ tokens: ArraySlice<Token>, outputs: Bool, hidden: Bool) throws {
    llama_set_embeddings(context, hidden)
    for (index, token) in tokens.enumerated() {
      batch.token[index] = token
      batch.pos[index] = Int32(position + index)
      batch.n_seq_id[index] = 1
      batch.seq_id[index]?[0] = 0
      batch.logits[index] = outputs && index == tokens.count - 1 ? 1 : 0
    }
    batch.n_tokens = Int32(tokens.count)
    let (status, shim) = withUnsafePointer(to: batch) { batch in
      LlamaRuntime.withShimError { error in fr_decode(context, batch, error) }
    }
    guard status == 0 else {
      throw FusionRouteError.internal("llama_decode returned \(status)\(shim.map { ": \($0)" } ?? "")")
    }
    position += tokens.count
  }
}

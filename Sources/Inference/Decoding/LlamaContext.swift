internal import CLlama
internal import CLlamaExtras
internal import Core
internal import Foundation
internal import Synchronization

/// What other threads may read and set while llama.cpp computes; never waits.
final class DecoderMonitor: Sendable {
  let progress = Atomic<UInt64>(0)
  let evaluatedTokens = Atomic<UInt64>(0)
  let budgetMilliseconds = Atomic<UInt64>(0)
  let queued = Atomic<Int>(0)
  let residentSequences = Atomic<Int>(0)
  let kvTokens = Atomic<Int>(0)
  let evictions = Atomic<UInt64>(0)
  let batches = Atomic<UInt64>(0)
  /// Chunks of prefill that have ended.
  let prefillChunks = Atomic<UInt64>(0)
  /// Turns that have ended, each of one chunk or of several within the same budget.
  let prefillTurns = Atomic<UInt64>(0)
  /// Most turns that a step has waited for.
  let longestStepWait = Atomic<UInt64>(0)
  /// Stops the computation under way at its next graph node.
  let abort = Atomic<Bool>(false)
  /// Request whose computation alone is under way; 0: none, or several.
  let onlyRequest = Atomic<UInt64>(0)
  /// Tokens decoded again to keep a batch in one piece.
  let refilledTokens = Atomic<UInt64>(0)
  /// For tests of recovery: so many computations count as failed after they have run.
  let failuresToSimulate = Atomic<Int>(0)
  /// The last request that was cancelled: if it is computed alone, that stops. Naming it instead of setting `abort`
  /// cannot hit the next batch by accident.
  let cancelled = Atomic<UInt64>(0)

  /// Called by llama.cpp at every graph node.
  func shouldAbort() -> Bool {
    progress.wrappingAdd(1, ordering: .relaxed)
    if abort.load(ordering: .relaxed) { return true }
    let only = onlyRequest.load(ordering: .relaxed)
    return only != 0 && only == cancelled.load(ordering: .relaxed)
  }
}

/// Owns a llama_context and a batch. Used by one thread at a time.
final class LlamaContext {
  enum Outcome {
    case done
    /// Nothing was changed: what we asked for was wrong.
    case refused(String)
    /// The KV of every sequence of the batch is unknown now.
    case lost(String, aborted: Bool)
  }

  private let context: OpaquePointer
  private let memory: OpaquePointer?
  private var batch: llama_batch
  private let threadpool: OpaquePointer?
  // Keep alive: the context reads the weights, and its abort callback the monitor.
  private let model: Model
  private let monitor: DecoderMonitor

  let batchLimit: Int
  let outputLimit: Int
  let contextPerSequence: Int
  let slots: Int
  /// Whether one micro-batch may have slots that are not neighbours. Not on a GPU: attention is in many small pieces then, and
  /// what these cost there has not been measured.
  let joinsDistantSlots: Bool
  private let vocabularySize: Int
  private let embeddingWidth: Int
  private var embeddings = false
  private(set) var outputs = 0

  init(model: Model, configuration: DecoderConfiguration, monitor: DecoderMonitor) throws {
    guard !model.options.vocabularyOnly else {
      throw FusionRouteError.internal("a model loaded for its vocabulary only cannot decode")
    }
    let parameters = Self.parameters(model: model, configuration: configuration, monitor: monitor)
    let ((pointer, shim), lines) = LlamaLog.shared.capturing {
      withUnsafePointer(to: parameters) { parameters in
        LlamaRuntime.withShimError { error in fr_context_init(model.handle.pointer, parameters, error) }
      }
    }
    guard let pointer else {
      throw FusionRouteError.unavailable(
        "cannot set up \(configuration.slots) sequences of \(configuration.paddedContext) tokens for \(model.path)"
          + "\(LlamaLog.reason(lines, shim: shim)); lower the slots or the context")
    }
    context = pointer
    memory = llama_get_memory(pointer)
    self.model = model
    self.monitor = monitor
    batchLimit = Int(llama_n_batch(pointer))
    contextPerSequence = Int(llama_n_ctx_seq(pointer))
    slots = Int(llama_n_seq_max(pointer))
    joinsDistantSlots =
      configuration.joinsDistantSlots && fr_joins_distant_sequences() && model.options.gpuLayers == 0
      && !model.information.isRecurrent
    vocabularySize = model.vocabulary.size
    embeddingWidth = model.information.embeddingWidth
    outputLimit = min(batchLimit, configuration.outputLimit(vocabulary: vocabularySize))
    batch = llama_batch_init(Int32(batchLimit), 0, 1)
    threadpool = Self.makeThreadpool(threads: configuration.threads)
    if let threadpool { llama_attach_threadpool(pointer, threadpool, threadpool) }
    Self.apply(adapters: model.handle.adapters, to: pointer)
  }

  deinit {
    llama_detach_threadpool(context)
    llama_batch_free(batch)
    llama_free(context)
    if let threadpool { fr_threadpool_free(UnsafeMutableRawPointer(threadpool)) }
  }

  static func parameters(
    model: Model, configuration: DecoderConfiguration, monitor: DecoderMonitor
  ) -> llama_context_params {
    var parameters = llama_context_default_params()
    let kvType = configuration.resolvedKVType(model: model).ggml
    parameters.n_ctx = UInt32(configuration.slots * configuration.paddedContext)
    parameters.n_batch = UInt32(configuration.batchLimit)
    parameters.n_ubatch = UInt32(configuration.batchLimit)
    parameters.n_seq_max = UInt32(configuration.slots)
    parameters.n_outputs_max = UInt32(configuration.outputLimit(vocabulary: model.vocabulary.size))
    parameters.n_outputs_max_per_seq = 0
    parameters.n_threads = Int32(configuration.threads)
    parameters.n_threads_batch = Int32(configuration.threads)
    parameters.pooling_type = LLAMA_POOLING_TYPE_NONE
    parameters.attention_type = LLAMA_ATTENTION_TYPE_CAUSAL
    // Flash attention's reduction depends on the number of threads and on the batch.
    parameters.flash_attn_type =
      configuration.reproducible ? LLAMA_FLASH_ATTN_TYPE_DISABLED : LLAMA_FLASH_ATTN_TYPE_AUTO
    parameters.type_k = kvType
    parameters.type_v = kvType
    parameters.kv_unified = false
    parameters.swa_full = true
    parameters.embeddings = false
    parameters.no_perf = true
    parameters.abort_callback = { data in
      guard let data else { return false }
      return Unmanaged<DecoderMonitor>.fromOpaque(data).takeUnretainedValue().shouldAbort()
    }
    parameters.abort_callback_data = Unmanaged.passUnretained(monitor).toOpaque()
    return parameters
  }

  private static func makeThreadpool(threads: Int) -> OpaquePointer? {
    guard threads > 1 else { return nil }
    return fr_threadpool_new(Int32(threads)).map { OpaquePointer($0) }
  }

  private static func apply(adapters: [(pointer: OpaquePointer, scale: Float)], to context: OpaquePointer) {
    guard !adapters.isEmpty else { return }
    var pointers: [OpaquePointer?] = adapters.map(\.pointer)
    var scales = adapters.map(\.scale)
    llama_set_adapters_lora(context, &pointers, pointers.count, &scales)
  }

  // MARK: - Batches

  /// Starts an empty batch. `hidden`: every token of it is an output, with its hidden state.
  func begin(hidden: Bool) {
    batch.n_tokens = 0
    outputs = 0
    if hidden != embeddings {
      llama_set_embeddings(context, hidden)
      embeddings = hidden
    }
  }

  var tokensInBatch: Int { Int(batch.n_tokens) }

  /// Appends one token; its place in the batch is the index for `logits(at:)`. False if it does not fit.
  @discardableResult
  func add(_ token: Token, position: Int, slot: Int, output: Bool) -> Bool {
    let index = Int(batch.n_tokens)
    let isOutput = output || embeddings
    guard index < batchLimit, token >= 0, Int(token) < vocabularySize, slot >= 0, slot < slots, position >= 0,
      position < contextPerSequence, !isOutput || outputs < outputLimit, let sequences = batch.seq_id[index]
    else { return false }
    batch.token[index] = token
    batch.pos[index] = Int32(position)
    batch.n_seq_id[index] = 1
    sequences[0] = Int32(slot)
    batch.logits[index] = isOutput ? 1 : 0
    batch.n_tokens += 1
    if isOutput { outputs += 1 }
    return true
  }

  /// Runs the model on the batch.
  func decode() -> Outcome {
    guard batch.n_tokens > 0 else { return .refused("an empty batch") }
    monitor.batches.wrappingAdd(1, ordering: .relaxed)
    monitor.progress.wrappingAdd(1, ordering: .relaxed)
    let (code, shim) = LlamaRuntime.withShimError { error in
      withUnsafePointer(to: batch) { fr_decode(context, $0, error) }
    }
    // A GPU computes behind our back; its time belongs to this call.
    llama_synchronize(context)
    switch code {
    case 0: return simulatedFailure() ?? .done
    case 1: return .refused("no room in the KV cache")
    case -1: return .refused("llama.cpp called the batch invalid")
    case 2: return .lost("the computation was aborted", aborted: true)
    default: return .lost(shim ?? "llama_decode returned \(code)", aborted: false)
    }
  }

  private func simulatedFailure() -> Outcome? {
    guard monitor.failuresToSimulate.load(ordering: .relaxed) > 0 else { return nil }
    monitor.failuresToSimulate.wrappingSubtract(1, ordering: .relaxed)
    return .lost("simulated", aborted: false)
  }

  /// Logits after the token at `index` of the last batch, [vocabulary], copied once.
  func logits(at index: Int) -> LogitsRow? {
    guard index >= 0, index < Int(batch.n_tokens), batch.logits[index] != 0,
      let row = llama_get_logits_ith(context, Int32(index))
    else { return nil }
    return LogitsRow(copying: UnsafeBufferPointer(start: row, count: vocabularySize))
  }

  /// Hidden state at `index` of the last batch, [embedding width]; nil unless the batch began with `hidden`.
  func hidden(at index: Int) -> [Float]? {
    guard embeddings, index >= 0, index < Int(batch.n_tokens),
      let row = llama_get_embeddings_ith(context, Int32(index))
    else { return nil }
    return Array(UnsafeBufferPointer(start: row, count: embeddingWidth))
  }

  // MARK: - KV cache

  /// Removes positions ≥ `position` of `slot`. False if the state cannot be cut there.
  func remove(slot: Int, from position: Int) -> Bool {
    llama_memory_seq_rm(memory, Int32(slot), Int32(position), -1)
  }

  func clear(slot: Int) { _ = llama_memory_seq_rm(memory, Int32(slot), -1, -1) }

  /// Copies all of `source` over `target`, as the whole buffers: a partial range would abort.
  func copy(from source: Int, to target: Int) {
    guard source != target else { return }
    llama_memory_seq_cp(memory, Int32(source), Int32(target), -1, -1)
  }

  /// Smallest position held for `slot`; -1 if there is none.
  func firstPosition(of slot: Int) -> Int { Int(llama_memory_seq_pos_min(memory, Int32(slot))) }

  /// Largest position held for `slot`; -1 if there is none.
  func lastPosition(of slot: Int) -> Int { Int(llama_memory_seq_pos_max(memory, Int32(slot))) }
}

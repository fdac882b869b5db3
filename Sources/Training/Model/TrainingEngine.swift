internal import Core
public import ModelFiles
internal import TrainingKernels

#if canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#else
  internal import Darwin
#endif

/// How passes are computed.
public struct EngineOptions: Sendable, Equatable {
  /// What matrix products round their factors to. Sums are always F32.
  public enum Precision: String, Sendable, CaseIterable {
    /// BF16 where the CPU multiplies it natively and clearly faster, else F32.
    case auto
    case f32
    case bf16
  }

  /// Who multiplies matrices of F32.
  public enum Library: String, Sendable, CaseIterable {
    /// Our own where it is made for the CPU's vectors (AVX2, AVX-512): it is as fast as OpenBLAS there, and its results do
    /// not depend on what a sequence is batched with. Elsewhere OpenBLAS if it is there; on macOS Accelerate.
    case auto
    case builtin
    /// OpenBLAS or Accelerate.
    case blas
  }

  public var threads: Int
  public var precision: Precision
  public var library: Library
  /// GELU without llama.cpp's table of half-precision values, so that finite differences see its slope.
  public var smoothGELU = false

  public static let maximumThreads = 256

  public init(threads: Int = 1, precision: Precision = .auto, library: Library = .auto) {
    self.threads = threads
    self.precision = precision
    self.library = library
  }

  /// Whether this machine multiplies BF16 natively.
  public static var hasBF16: Bool { fr_has_bf16() == 1 }
  /// Whether that is clearly faster than F32 here; measured once, in a few milliseconds.
  static var isBF16Faster: Bool { fr_bf16_is_faster() == 1 }
  /// Whether OpenBLAS or Accelerate is there.
  public static var hasBLAS: Bool { fr_has_blas() == 1 }

  /// A library that was asked for by name multiplies F32.
  var usesBF16: Bool { usesBF16(isThere: Self.hasBF16, isFaster: Self.isBF16Faster) }

  func usesBF16(isThere: Bool, isFaster: @autoclosure () -> Bool) -> Bool {
    switch precision {
    case .f32: false
    case .bf16: isThere
    case .auto: isThere && library != .blas && isFaster()
    }
  }

  var usesBLAS: Bool {
    #if canImport(Darwin)
      let isOurs = false
    #else
      let isOurs = fr_has_tuned_f32() == 1
    #endif
    return Self.usesBLAS(library, isBuiltinFast: isOurs) && Self.hasBLAS
  }

  /// Whether a BLAS is to be used if there is one.
  static func usesBLAS(_ library: Library, isBuiltinFast: Bool) -> Bool {
    switch library {
    case .blas: true
    case .builtin: false
    case .auto: !isBuiltinFast
    }
  }
}

/// What a forward pass says about its judged positions, in the batch's order.
public struct PassOutput: Sendable {
  /// log π(target) per position.
  public var logProbabilities: [Float]
  /// The most probable token per position.
  public var argmaxes: [Int32]
  /// Outputs of the routing or reward head, [positions][head rows].
  public var head: [Float]
}

/// A model with what is trained of it: forward passes, and backward passes that add to the parameters' gradients.
///
/// ggml builds and differentiates the graph; see <doc:Engine>. Not for several threads at a time.
public final class TrainingEngine {
  public let shape: ModelShape
  public let mode: TrainingMode
  public let headRows: Int
  let trainables: Trainables
  let weights: BaseWeights
  private let options: EngineOptions
  var threads: Int { options.threads }
  private let engine: OpaquePointer
  private let allocator: ggml_gallocr_t
  private let threadPool: OpaquePointer?
  private let wantsLogits: Bool
  private var graph: PassGraph?
  private var logits: AlignedMemory?
  private var headGradient: AlignedMemory
  private var work: AlignedMemory
  private var current: Current?

  /// The forward pass that a backward pass may follow.
  private struct Current {
    var rows: Int
    var targets: [Int32]
    var sums: [Float]
  }

  /// - Parameters:
  ///   - headRows: rows of a linear head on the hidden state, which starts at zero; 0 is none.
  ///   - wantsLogits: false for a reward model, whose loss is the head's alone.
  public init(
    _ file: GGUFFile, mode: TrainingMode, headRows: Int = 0, wantsLogits: Bool = true, seed: UInt64 = 1,
    options: EngineOptions = EngineOptions()
  ) throws {
    guard (1...EngineOptions.maximumThreads).contains(options.threads) else {
      throw FusionRouteError.usage(
        "the number of threads must be 1 to \(EngineOptions.maximumThreads), not \(options.threads)")
    }
    ggml_cpu_init()
    shape = try ModelShape(file)
    self.mode = mode
    self.headRows = headRows
    self.options = options
    self.wantsLogits = wantsLogits
    weights = try BaseWeights(file, storage: mode == .full ? .floats : .asStored)
    trainables = try Trainables(shape: shape, weights: weights, mode: mode, headRows: headRows, seed: seed)
    let bf16 = options.usesBF16
    let blas = options.usesBLAS && !bf16
    guard options.library != .blas || EngineOptions.hasBLAS else {
      throw FusionRouteError.usage("there is no OpenBLAS here (libopenblas.so.0): use --library builtin")
    }
    if options.precision == .bf16, !bf16 {
      throw FusionRouteError.usage("this CPU has no BF16 products: use --precision f32")
    }
    guard
      let engine = fr_engine_new(
        Int32(options.threads), bf16 ? fr_precision_bf16 : fr_precision_f32, blas ? fr_gemm_blas : fr_gemm_builtin)
    else { throw FusionRouteError.unavailable("there is no memory for the training engine") }
    self.engine = engine
    guard let allocator = ggml_gallocr_new(ggml_backend_cpu_buffer_type()) else {
      fr_engine_free(engine)
      throw FusionRouteError.unavailable("there is no memory for the training engine")
    }
    self.allocator = allocator
    var pool: OpaquePointer?
    if options.threads > 1 {
      var parameters = ggml_threadpool_params_default(Int32(options.threads))
      pool = ggml_threadpool_new(&parameters)
    }
    threadPool = pool
    headGradient = try AlignedMemory(byteCount: 0, what: "gradients")
    work = try AlignedMemory(byteCount: 0, what: "work")
  }

  deinit {
    if let threadPool { ggml_threadpool_free(threadPool) }
    ggml_gallocr_free(allocator)
    fr_engine_free(engine)
  }

  /// Names the way matrices are multiplied, for logs.
  public var productName: String {
    if options.usesBF16 { return "BF16" }
    return options.usesBLAS ? "F32 (BLAS)" : "F32"
  }

  /// Elements that are trained.
  public var parameterCount: Int { trainables.parameters.reduce(0) { $0 + $1.count } }

  // MARK: Passes

  /// Computes `batch` and remembers it for `backward`. Throws `.badInput` for sequences that do not fit the model.
  public func forward(_ batch: PassBatch) throws -> PassOutput {
    try batch.check(shape)
    current = nil
    let graph = try graph(for: batch.shape)
    fill(graph, batch)
    try compute(graph.forward)
    let rows = batch.rowCount
    var output = PassOutput(
      logProbabilities: [Float](repeating: 0, count: rows), argmaxes: [Int32](repeating: 0, count: rows), head: [])
    var sums = [Float](repeating: 0, count: rows)
    if wantsLogits, let logits {
      let memory = SendablePointer(logits.floats)
      let (width, cap, targets) = (Int64(shape.vocabularySize), shape.outputCap, batch.targets)
      output.logProbabilities.withUnsafeMutableBufferPointer { logProbabilities in
        output.argmaxes.withUnsafeMutableBufferPointer { argmaxes in
          sums.withUnsafeMutableBufferPointer { sums in
            let out = (
              SendablePointer(logProbabilities.baseAddress), SendablePointer(argmaxes.baseAddress),
              SendablePointer(sums.baseAddress)
            )
            forEachPart(of: rows) { part in
              fr_rows_log_probabilities(
                memory.base, width, Int64(part.lowerBound), Int64(part.count), cap, targets, out.0.base, out.2.base,
                out.1.base)
            }
          }
        }
      }
    }
    if let head = graph.outputs.head?.pointee.data?.assumingMemoryBound(to: Float.self) {
      output.head = Array(UnsafeBufferPointer(start: head, count: rows * headRows))
    }
    current = Current(rows: rows, targets: batch.targets, sums: sums)
    return output
  }

  /// The hidden states of the last forward pass, [positions][width]: what a head multiplies.
  public func hiddenStates() -> [Float] {
    guard let current, let data = graph?.outputs.hidden.pointee.data?.assumingMemoryBound(to: Float.self) else {
      return []
    }
    return Array(UnsafeBufferPointer(start: data, count: current.rows * shape.width))
  }

  /// Logits of the last forward pass, [positions][vocabulary], if no backward pass followed.
  public func lastLogits() -> [Float] {
    guard let current, let logits else { return [] }
    return Array(UnsafeBufferPointer(start: logits.floats, count: current.rows * shape.vocabularySize))
  }

  /// Adds the gradient of Σ −coefficient·log π(target) + Σ headGradient·head to the parameters' gradients.
  ///
  /// - Parameters:
  ///   - coefficients: one per judged position of the last forward pass.
  ///   - headGradients: [positions][head rows], or nil for zeros.
  public func backward(coefficients: [Float], headGradients: [Float]? = nil) throws {
    guard let current, let graph, let backward = graph.backward else {
      throw FusionRouteError.internal("a backward pass must follow a forward pass of something that is trained")
    }
    precondition(coefficients.count == current.rows, "one coefficient per judged position")
    precondition(headGradients == nil || headGradients?.count == current.rows * headRows, "one gradient per head row")
    self.current = nil
    if wantsLogits, let logits {
      let (width, cap) = (Int64(shape.vocabularySize), shape.outputCap)
      let memory = SendablePointer(logits.floats)
      forEachPart(of: current.rows) { part in
        fr_rows_gradient(
          memory.base, width, Int64(part.lowerBound), Int64(part.count), cap, current.targets, current.sums,
          coefficients)
      }
      let used = current.rows * shape.vocabularySize
      (logits.floats + used).update(repeating: 0, count: (graph.shape.rows - current.rows) * shape.vocabularySize)
    }
    if headRows > 0 {
      headGradient.floats.update(repeating: 0, count: graph.shape.rows * headRows)
      if let headGradients { headGradient.floats.update(from: headGradients, count: headGradients.count) }
    }
    try compute(backward)
  }

  func setCentre(mean: [Float], scale: Float) {
    trainables.centreHead(mean: mean, scale: scale)
    // The scale is part of the graph.
    graph = nil
  }

  public func zeroGradients() { trainables.zeroGradients() }

  private func graph(for pass: PassShape) throws -> PassGraph {
    if let graph, graph.shape == pass { return graph }
    graph = nil
    if wantsLogits, (logits?.byteCount ?? 0) < pass.rows * shape.vocabularySize * 4 {
      logits = nil
      logits = try AlignedMemory(byteCount: pass.rows * shape.vocabularySize * 4, what: "logits")
    }
    if headGradient.byteCount < pass.rows * headRows * 4 {
      headGradient = try AlignedMemory(byteCount: pass.rows * headRows * 4, what: "gradients")
    }
    var loraScale: Float = 1
    if case .lora(let options) = mode { loraScale = options.scale }
    let made = try PassGraph(
      pass, model: shape, weights: weights, trainables: trainables, loraScale: loraScale,
      smoothGELU: options.smoothGELU, wantsLogits: wantsLogits, allocator: allocator, engine: engine,
      logits: logits?.base, headGradient: headGradient.base)
    graph = made
    return made
  }

  private func fill(_ graph: PassGraph, _ batch: PassBatch) {
    func copy(_ values: [Int32], to tensor: Tensor) {
      tensor.pointee.data?.assumingMemoryBound(to: Int32.self).update(from: values, count: values.count)
    }
    copy(batch.paddedTokens, to: graph.inputs.tokens)
    copy((0..<Int32(graph.shape.length)).map { $0 }, to: graph.inputs.positions)
    copy(batch.paddedRows, to: graph.inputs.rows)
    let length = graph.shape.length
    func fillMask(_ tensor: Tensor?, window: Int) {
      guard let mask = tensor?.pointee.data?.assumingMemoryBound(to: Float.self) else { return }
      for query in 0..<length {
        for key in 0..<length { mask[query * length + key] = key > query || query - key >= window ? -.infinity : 0 }
      }
    }
    fillMask(graph.inputs.mask, window: Int.max)
    fillMask(graph.inputs.windowMask, window: shape.window)
  }

  private func compute(_ graph: OpaquePointer) throws {
    var plan = ggml_graph_plan(graph, Int32(options.threads), threadPool)
    if work.byteCount < plan.work_size { work = try AlignedMemory(byteCount: plan.work_size, what: "work") }
    plan.work_data = work.base.assumingMemoryBound(to: UInt8.self)
    guard ggml_graph_compute(graph, &plan) == GGML_STATUS_SUCCESS else {
      throw FusionRouteError.internal("ggml could not compute the training graph")
    }
  }

  /// Divides rows over the threads.
  private func forEachPart(of rows: Int, _ body: @Sendable (Range<Int>) -> Void) {
    Parts.forEach(of: rows, parts: options.threads, body)
  }
}

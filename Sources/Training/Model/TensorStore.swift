internal import Core
internal import TrainingKernels

#if canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#else
  internal import Darwin
#endif

typealias Tensor = UnsafeMutablePointer<ggml_tensor>

/// Memory on cache-line boundaries, zeroed.
final class AlignedMemory {
  let base: UnsafeMutableRawPointer
  let byteCount: Int

  /// Throws `.unavailable` if there is no memory.
  init(byteCount: Int, what: String) throws {
    var pointer: UnsafeMutableRawPointer?
    guard byteCount >= 0, posix_memalign(&pointer, 64, max(64, byteCount)) == 0, let pointer else {
      throw FusionRouteError.unavailable(
        "there is no memory for \(what) (\(byteCount / 1_000_000) MB): use a smaller batch or model")
    }
    memset(pointer, 0, max(64, byteCount))
    base = pointer
    self.byteCount = byteCount
  }

  deinit { free(base) }

  var floats: UnsafeMutablePointer<Float> { base.assumingMemoryBound(to: Float.self) }
}

/// A ggml context that holds tensors' descriptions, not their data.
final class TensorContext {
  let pointer: OpaquePointer

  init(tensors: Int, graphs: Int = 0, graphNodes: Int = 0) throws {
    let bytes = (tensors + 8) * ggml_tensor_overhead() + graphs * ggml_graph_overhead_custom(graphNodes, true)
    guard let pointer = ggml_init(ggml_init_params(mem_size: bytes, mem_buffer: nil, no_alloc: true)) else {
      throw FusionRouteError.unavailable("there is no memory for the training graph")
    }
    self.pointer = pointer
  }

  deinit { ggml_free(pointer) }

  /// A tensor over memory that somebody else owns.
  func tensor(_ name: String, type: ggml_type = GGML_TYPE_F32, dimensions: [Int], data: UnsafeMutableRawPointer) throws
    -> Tensor
  {
    let ne = dimensions.map { Int64($0) }
    guard let tensor = ggml_new_tensor(pointer, type, Int32(ne.count), ne) else {
      throw FusionRouteError.internal("ggml could not describe tensor '\(name)'")
    }
    ggml_set_name(tensor, name)
    tensor.pointee.data = data
    return tensor
  }
}

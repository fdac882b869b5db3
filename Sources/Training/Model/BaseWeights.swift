internal import Core
internal import ModelFiles
internal import TrainingKernels

#if canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#else
  internal import Darwin
#endif

/// A model's tensors in memory: as their file stores them, or all as floats.
final class BaseWeights {
  enum Storage {
    /// The file's types; the weights are frozen.
    case asStored
    /// F32, to be trained.
    case floats
  }

  private let context: TensorContext
  private let memory: AlignedMemory
  private(set) var tensors: [String: Tensor] = [:]
  var byteCount: Int { memory.byteCount }

  private static let chunkBytes = 4 << 20
  private static let alignment = 64

  init(_ file: GGUFFile, storage: Storage) throws {
    func type(_ tensor: GGUFTensor) -> TensorType { storage == .floats ? .f32 : tensor.type }
    func bytes(_ tensor: GGUFTensor) -> Int {
      let size = (type(tensor).rowBytes(tensor.rowLength) ?? 0) * tensor.rowCount
      return (size + Self.alignment - 1) / Self.alignment * Self.alignment
    }
    context = try TensorContext(tensors: file.tensors.count)
    memory = try AlignedMemory(byteCount: file.tensors.reduce(0) { $0 + bytes($1) }, what: "the model's weights")
    var place = memory.base
    for tensor in file.tensors {
      let kind = ggml_type(UInt32(type(tensor).rawValue))
      tensors[tensor.name] = try context.tensor(tensor.name, type: kind, dimensions: tensor.dimensions, data: place)
      if storage == .floats, tensor.type != .f32 {
        let values = try file.floats(of: tensor)
        values.withUnsafeBytes {
          place.copyMemory(from: $0.baseAddress ?? UnsafeRawPointer(place), byteCount: $0.count)
        }
      } else {
        try Self.copy(tensor, of: file, to: place)
      }
      place += bytes(tensor)
    }
  }

  private static func copy(_ tensor: GGUFTensor, of file: GGUFFile, to place: UnsafeMutableRawPointer) throws {
    let rowBytes = tensor.byteCount / tensor.rowCount
    let step = max(1, chunkBytes / max(1, rowBytes))
    for first in stride(from: 0, to: tensor.rowCount, by: step) {
      let rows = first..<min(tensor.rowCount, first + step)
      let chunk = try file.bytes(of: tensor, rows: rows)
      chunk.withUnsafeBytes {
        guard let base = $0.baseAddress else { return }
        (place + first * rowBytes).copyMemory(from: base, byteCount: $0.count)
      }
    }
  }

  func callAsFunction(_ name: String) throws -> Tensor {
    guard let tensor = tensors[name] else { throw FusionRouteError.internal("the tensor '\(name)' is missing") }
    return tensor
  }
}

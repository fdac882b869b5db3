internal import Core
internal import TrainingKernels

/// What is trained.
public enum TrainingMode: Sendable, Equatable {
  /// Every weight, in F32.
  case full
  /// Low-rank adapters (Hu et al., arXiv 2106.09685) on a frozen model.
  case lora(LoRAOptions)
  /// Nothing of the model: a routing or reward head alone.
  case frozen
}

public struct LoRAOptions: Sendable, Equatable {
  public var rank: Int
  /// The adapter's contribution is scaled by alpha / rank.
  public var alpha: Float
  /// Matrices of every block that get an adapter: of ``ModelShape/blockMatrices``.
  public var targets: [String]

  public static let maximumRank = 1_024

  public init(rank: Int = 16, alpha: Float? = nil, targets: [String] = ModelShape.blockMatrices) {
    self.rank = rank
    self.alpha = alpha ?? 2 * Float(rank)
    self.targets = targets
  }

  public var scale: Float { alpha / Float(rank) }

  public func validate() throws {
    guard (1...Self.maximumRank).contains(rank) else {
      throw FusionRouteError.usage("the rank must be 1 to \(Self.maximumRank), not \(rank)")
    }
    guard alpha.isFinite, alpha > 0 else {
      throw FusionRouteError.usage("alpha must be a positive number, not \(alpha)")
    }
    guard !targets.isEmpty, Set(targets).count == targets.count,
      targets.allSatisfy(ModelShape.blockMatrices.contains)
    else {
      throw FusionRouteError.usage(
        "an adapter's targets must be some of \(ModelShape.blockMatrices.joined(separator: ", ")), each once")
    }
  }
}

/// A tensor that is trained, with its gradient and the optimiser's moments. All are floats of the same shape.
struct Parameter {
  enum Kind: Sendable {
    case matrix
    /// Norm weights: no weight decay.
    case vector
    /// A routing or reward head: a learning rate of its own, no weight decay.
    case head
  }

  let name: String
  let kind: Kind
  let dimensions: [Int]
  let tensor: Tensor
  let gradient: Tensor
  let values: UnsafeMutablePointer<Float>
  let gradients: UnsafeMutablePointer<Float>
  let moment1: UnsafeMutablePointer<Float>
  let moment2: UnsafeMutablePointer<Float>

  var count: Int { dimensions.reduce(1, *) }
}

/// The parameters of a run and their memory.
final class Trainables {
  static let headName = "head.weight"
  static let headBiasName = "head.bias"

  private let context: TensorContext
  private var blocks: [AlignedMemory] = []
  private(set) var parameters: [Parameter] = []
  private(set) var lora: [String: (a: Tensor, b: Tensor)] = [:]
  private(set) var head: HeadTensors?

  /// A linear head on centred, scaled hidden states: W·((h − mean) / scale) + b. As a map of h that is linear too, but the
  /// hidden states' large common component does not drown what differs between positions.
  struct HeadTensors {
    let weight: Tensor
    let bias: Tensor
    let mean: Tensor
    let means: UnsafeMutablePointer<Float>
    /// A power of two, so that multiplying by it loses nothing.
    var scale: Float = 1
  }

  /// - Parameter headRows: rows of the linear head on the hidden state (experts, or 1 for a reward); 0: none.
  init(shape: ModelShape, weights: BaseWeights, mode: TrainingMode, headRows: Int, seed: UInt64) throws {
    context = try TensorContext(tensors: 4 * shape.tensors.count + 8)
    switch mode {
    case .frozen: break
    case .full:
      for (name, dimensions) in shape.tensors {
        let tensor = try weights(name)
        guard let data = tensor.pointee.data else { continue }
        try add(
          name, dimensions.count == 1 ? .vector : .matrix, dimensions, tensor: tensor,
          values: data.assumingMemoryBound(to: Float.self))
      }
    case .lora(let options):
      try options.validate()
      for (name, dimensions) in shape.tensors where options.targets.contains(where: { name.hasSuffix(".\($0).weight") })
      {
        let a = try fresh("\(name).lora_a", .matrix, [dimensions[0], options.rank])
        let b = try fresh("\(name).lora_b", .matrix, [options.rank, dimensions[1]])
        Self.fill(parameters[parameters.count - 2], bound: 1 / Float(dimensions[0]).squareRoot(), seed: seed)
        lora[name] = (a, b)
      }
    }
    guard headRows > 0 else { return }
    let weight = try fresh(Self.headName, .head, [shape.width, headRows])
    let bias = try fresh(Self.headBiasName, .head, [headRows])
    let means = try floats(shape.width)
    head = HeadTensors(
      weight: weight, bias: bias, mean: try context.tensor("head.mean", dimensions: [shape.width], data: means),
      means: means)
  }

  /// Changes what the head's input is centred and scaled by.
  func centreHead(mean: [Float], scale: Float) {
    head?.means.update(from: mean, count: mean.count)
    head?.scale = scale
  }

  func parameter(_ name: String) -> Parameter? { parameters.first { $0.name == name } }

  private func floats(_ count: Int) throws -> UnsafeMutablePointer<Float> {
    let block = try AlignedMemory(byteCount: count * 4, what: "the parameters' gradients and moments")
    blocks.append(block)
    return block.floats
  }

  private func fresh(_ name: String, _ kind: Parameter.Kind, _ dimensions: [Int]) throws -> Tensor {
    let values = try floats(dimensions.reduce(1, *))
    let tensor = try context.tensor(name, dimensions: dimensions, data: values)
    try add(name, kind, dimensions, tensor: tensor, values: values)
    return tensor
  }

  private func add(
    _ name: String, _ kind: Parameter.Kind, _ dimensions: [Int], tensor: Tensor, values: UnsafeMutablePointer<Float>
  ) throws {
    let count = dimensions.reduce(1, *)
    let gradients = try floats(count)
    ggml_set_param(tensor)
    parameters.append(
      Parameter(
        name: name, kind: kind, dimensions: dimensions, tensor: tensor,
        gradient: try context.tensor("\(name).gradient", dimensions: dimensions, data: gradients), values: values,
        gradients: gradients, moment1: try floats(count), moment2: try floats(count)))
  }

  /// Uniform in ±bound: a function of the seed and the name.
  private static func fill(_ parameter: Parameter, bound: Float, seed: UInt64) {
    var generator = SplitMix64(seed: SplitMix64.mix(seed) ^ stream(parameter.name))
    for i in 0..<parameter.count {
      parameter.values[i] = bound * (Float(generator.next() >> 40) / Float(1 << 23) - 1)
    }
  }

  private static func stream(_ name: String) -> UInt64 {
    name.utf8.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x0000_0100_0000_01B3 }
  }

  func zeroGradients() {
    for parameter in parameters { parameter.gradients.update(repeating: 0, count: parameter.count) }
  }
}

internal import Core
internal import ModelKernels

/// The linear head that picks the expert: w = W·h (+ b), the largest weight wins.
///
/// Stored as a GGUF file with `general.architecture = "fusionroute-head"`, `fusionroute.experts` (names in row order),
/// `routing_head.weight` (F32, ne = [embedding width, experts]), and optionally `routing_head.bias` (F32, [experts]),
/// `fusionroute.complement_scale` (f32, default 1) and `fusionroute.raw` (bool, default false).
public struct RoutingHead: Sendable, Equatable {
  /// Names in row order; unique and not empty.
  public let experts: [String]
  /// [experts][embeddingWidth], row-major.
  public let weight: [Float]
  /// [experts].
  public let bias: [Float]?
  /// c of the fused score c·r + e; finite, not negative.
  public let complementScale: Float
  /// Elements of the router's hidden state.
  public let embeddingWidth: Int
  /// Of a reward's head: prompt and answer follow one another as they are, without a chat template.
  public let isRaw: Bool

  static let architecture = "fusionroute-head"
  static let expertsKey = "fusionroute.experts"
  static let scaleKey = "fusionroute.complement_scale"
  static let rawKey = "fusionroute.raw"
  static let weightName = "routing_head.weight"
  static let biasName = "routing_head.bias"
  /// More experts than any cluster has; the head of a hostile file ends here.
  public static let maximumExperts = 1_024
  public static let maximumWidth = 1 << 20

  /// Throws `.badInput` with the first rule that the values break.
  public init(
    experts: [String], weight: [Float], bias: [Float]? = nil, complementScale: Float = 1, embeddingWidth: Int,
    isRaw: Bool = false
  ) throws {
    self.experts = experts
    self.weight = weight
    self.bias = bias
    self.complementScale = complementScale
    self.embeddingWidth = embeddingWidth
    self.isRaw = isRaw
    try check("the routing head")
  }

  private func check(_ source: String) throws {
    func require(_ condition: Bool, _ message: @autoclosure () -> String) throws {
      guard condition else { throw FusionRouteError.badInput("\(source): \(message())") }
    }
    try Self.checkNames(experts, source)
    try require(
      (1...Self.maximumWidth).contains(embeddingWidth), "the embedding width must be positive, not \(embeddingWidth)")
    try require(
      weight.count == experts.count * embeddingWidth,
      "\(weight.count) weights do not fit \(experts.count) experts of width \(embeddingWidth)")
    try require(
      bias == nil || bias?.count == experts.count,
      "\(bias?.count ?? 0) bias values do not fit \(experts.count) experts")
    try require(
      weight.withUnsafeBufferPointer { fr_all_finite($0.baseAddress, $0.count) } == 1,
      "tensor '\(Self.weightName)' contains NaN or infinite values; train or export the head again")
    try require(
      bias?.withUnsafeBufferPointer { fr_all_finite($0.baseAddress, $0.count) } ?? 1 == 1,
      "tensor '\(Self.biasName)' contains NaN or infinite values; train or export the head again")
    try require(
      complementScale.isFinite && complementScale >= 0,
      "'\(Self.scaleKey)' is \(complementScale) but must be finite and not negative")
  }

  private static func checkNames(_ names: [String], _ source: String) throws {
    guard (1...maximumExperts).contains(names.count) else {
      throw FusionRouteError.badInput(
        "\(source): '\(expertsKey)' names \(names.count) experts; it must name 1 to \(maximumExperts)")
    }
    var seen: Set<String> = []
    for (index, name) in names.enumerated() {
      guard !name.isEmpty else {
        throw FusionRouteError.badInput("\(source): entry \(index) of '\(expertsKey)' is an empty name")
      }
      guard seen.insert(name).inserted else {
        throw FusionRouteError.badInput("\(source): '\(expertsKey)' names the expert '\(name)' twice")
      }
    }
  }

  // MARK: Files

  /// Whether the file says that it is a routing head.
  static func isHead(_ file: GGUFFile) -> Bool { file.architecture == architecture }

  /// Reads and checks a head. Throws `.badInput` naming the file, the field and what was wrong.
  public static func read(_ path: String) throws -> RoutingHead { try read(GGUFFile.read(path)) }

  static func read(_ file: GGUFFile) throws -> RoutingHead {
    let path = file.path
    guard file.architecture == architecture else {
      let found = file.architecture.map { "'\($0)'" } ?? "missing"
      throw FusionRouteError.badInput(
        "\(path) is not a routing head: 'general.architecture' is \(found), expected '\(architecture)'")
    }
    guard case .array(.strings(let experts))? = file[expertsKey] else {
      let found = file[expertsKey].map { "is of type \($0.typeName)" } ?? "is missing"
      throw FusionRouteError.badInput("\(path): '\(expertsKey)' \(found); it must be the array of expert names")
    }
    try checkNames(experts, path)
    if let unknown = file.tensors.first(where: { $0.name != weightName && $0.name != biasName }) {
      throw FusionRouteError.badInput(
        "\(path): unknown tensor '\(unknown.name)'; a routing head holds '\(weightName)' and optionally '\(biasName)'")
    }
    guard let tensor = file.tensor(named: weightName) else {
      throw FusionRouteError.badInput("\(path): tensor '\(weightName)' is missing")
    }
    let width = tensor.dimensions[0]
    try requireF32(tensor, path)
    guard tensor.dimensions.count <= 2, width <= maximumWidth, tensor.rowCount == experts.count else {
      throw FusionRouteError.badInput(
        "\(path): tensor '\(weightName)' has shape \(tensor.dimensions) but must be "
          + "[embedding width, \(experts.count)], a row for each name in '\(expertsKey)'")
    }
    var bias: [Float]?
    if let entry = file.tensor(named: biasName) {
      try requireF32(entry, path)
      guard entry.dimensions == [experts.count] else {
        throw FusionRouteError.badInput(
          "\(path): tensor '\(biasName)' has shape \(entry.dimensions) but must be [\(experts.count)]")
      }
      bias = try file.floats(of: entry)
    }
    let head = RoutingHead(
      unchecked: experts, weight: try file.floats(of: tensor), bias: bias,
      complementScale: try scale(of: file), embeddingWidth: width, isRaw: try isRaw(file))
    try head.check(path)
    return head
  }

  private init(
    unchecked experts: [String], weight: [Float], bias: [Float]?, complementScale: Float, embeddingWidth: Int,
    isRaw: Bool
  ) {
    self.experts = experts
    self.weight = weight
    self.bias = bias
    self.complementScale = complementScale
    self.embeddingWidth = embeddingWidth
    self.isRaw = isRaw
  }

  private static func requireF32(_ tensor: GGUFTensor, _ path: String) throws {
    guard tensor.type == .f32 else {
      throw FusionRouteError.badInput(
        "\(path): tensor '\(tensor.name)' is stored as \(tensor.type.name) but must be f32")
    }
  }

  private static func scale(of file: GGUFFile) throws -> Float {
    guard let value = file[scaleKey] else { return 1 }
    guard case .float32(let scale) = value else {
      throw FusionRouteError.badInput("\(file.path): '\(scaleKey)' is of type \(value.typeName) but must be f32")
    }
    return scale
  }

  private static func isRaw(_ file: GGUFFile) throws -> Bool {
    guard let value = file[rawKey] else { return false }
    guard case .bool(let isRaw) = value else {
      throw FusionRouteError.badInput("\(file.path): '\(rawKey)' is of type \(value.typeName) but must be bool")
    }
    return isRaw
  }

  /// Writes the head, complete or not at all.
  public func write(_ path: String) throws {
    var writer = GGUFWriter()
    try writer.set("general.architecture", .string(Self.architecture))
    try writer.set("general.type", .string("routing-head"))
    try writer.set(Self.expertsKey, .array(.strings(experts)))
    if complementScale != 1 { try writer.set(Self.scaleKey, .float32(complementScale)) }
    if isRaw { try writer.set(Self.rawKey, .bool(true)) }
    try writer.add(
      tensor: Self.weightName, dimensions: [embeddingWidth, experts.count], content: .floats(weight))
    if let bias { try writer.add(tensor: Self.biasName, dimensions: [experts.count], content: .floats(bias)) }
    try writer.write(to: path)
  }

  // MARK: Use

  /// The routing weights w = W·h (+ b), [experts], for `hidden`, [embeddingWidth]: the vector that the output matrix
  /// multiplies. The order of summation is fixed, so equal inputs give equal bits on every machine.
  public func weights(hidden: [Float]) -> [Float] {
    precondition(hidden.count == embeddingWidth, "validate(embeddingWidth:experts:) comes first")
    return [Float](unsafeUninitializedCapacity: experts.count) { out, count in
      weight.withUnsafeBufferPointer { weight in
        hidden.withUnsafeBufferPointer { hidden in
          if let bias {
            bias.withUnsafeBufferPointer {
              fr_head_weights(
                weight.baseAddress, $0.baseAddress, hidden.baseAddress, experts.count, embeddingWidth, out.baseAddress)
            }
          } else {
            fr_head_weights(
              weight.baseAddress, nil, hidden.baseAddress, experts.count, embeddingWidth, out.baseAddress)
          }
        }
      }
      count = experts.count
    }
  }

  /// Checks the head against the router's width and the experts of a cluster. Throws `.badInput`.
  ///
  /// Every name of the head must be an expert of the cluster. Further experts are allowed: they are reached by the mode
  /// `expert:<name>` alone.
  public func validate(embeddingWidth: Int, experts available: Set<String>) throws {
    guard embeddingWidth == self.embeddingWidth else {
      throw FusionRouteError.badInput(
        "the routing head expects hidden states of width \(self.embeddingWidth) but the router's width is "
          + "\(embeddingWidth); use the head that was trained for this router")
    }
    let missing = experts.filter { !available.contains($0) }
    guard missing.isEmpty else {
      throw FusionRouteError.badInput(
        "the routing head selects \(Self.list(missing)) but the cluster has only \(Self.list(available.sorted()))")
    }
  }

  private static func list(_ names: [String]) -> String {
    names.isEmpty ? "no experts" : names.map { "'\($0)'" }.joined(separator: ", ")
  }
}

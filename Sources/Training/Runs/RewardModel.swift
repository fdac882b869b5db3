public import Core
internal import ModelFiles

/// A model with an adapter and a scalar head, as `train reward` leaves them.
public final class RewardModel {
  /// The name that a reward's head carries in its file, where a routing head names experts.
  public static let headName = "reward"

  private let engine: TrainingEngine
  /// Whether it was trained without a chat template, and reads answers so.
  public let isRaw: Bool

  /// - Parameters:
  ///   - model: the model that the reward was trained on, or the whole model of its directory.
  ///   - adapter: nil if every weight was trained.
  public init(model: String, adapter: String?, head: String, options: EngineOptions) throws {
    let head = try RoutingHead.read(head)
    isRaw = head.isRaw
    let file = try adapter.map { try GGUFFile.read($0) }
    let mode: TrainingMode = try file.map { .lora(try LoRAOptions(adapter: $0)) } ?? .frozen
    engine = try TrainingEngine(
      GGUFFile.read(model), mode: mode, headRows: 1, wantsLogits: false, options: options)
    if let file { try engine.loadAdapter(file) }
    guard head.experts == [Self.headName], head.embeddingWidth == engine.shape.width else {
      throw FusionRouteError.badInput("the head is not one that `train reward` wrote for this model")
    }
    try engine.setHead(LinearHead(weight: head.weight, bias: head.bias ?? [0]))
  }

  /// The reward of each sequence of tokens, read at its last token.
  public func scores(_ sequences: [[Token]]) throws -> [Float] {
    guard !sequences.isEmpty else { return [] }
    return try engine.forward(PassBatch(sequences.map { .atEnd(of: $0) })).head
  }
}

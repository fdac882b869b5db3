internal import Core
internal import Evaluation
internal import Foundation
internal import Inference
internal import ModelFiles
internal import Synchronization
internal import Training

/// A reward model of `train reward` on llama.cpp: what answers have in common with earlier ones is in the KV cache, which
/// makes rating many beginnings of one answer cheap.
final class RewardScorer: Sendable {
  /// Longest prompt and answer together, in tokens.
  static let maximumLength = RewardGrader.maximumLength
  /// Answers that are rated at once.
  static let slots = 4

  /// Of the model, the adapter and the head.
  let fingerprint: String
  private let model: Model
  private let decoder: Mutex<BatchingDecoder>
  private let encoder: ExampleEncoder
  private let head: RoutingHead
  private let serial = Atomic<UInt64>(1)

  /// - Parameters:
  ///   - path: the model that the reward was trained on.
  ///   - folder: the directory of `train reward`.
  ///   - threads: to begin with, see `use(threads:)`.
  init(model path: String, folder: String, threads: Int) throws {
    let stage = try Self.stage(folder, baseModel: path)
    guard let headPath = stage.head else {
      throw FusionRouteError.badInput("\(folder) has no head.gguf: give the directory of a finished `train reward`")
    }
    let head = try RoutingHead.read(headPath)
    let adapters = stage.adapter.map { [AdapterFile(path: $0)] } ?? []
    let vocabulary = try TrainSupport.vocabulary(of: stage.model)
    let model = try Model.load(path: stage.model, options: ModelLoadOptions(adapters: adapters))
    guard head.experts == [RewardModel.headName], head.embeddingWidth == model.information.embeddingWidth else {
      throw FusionRouteError.badInput("\(headPath) is not a head that `train reward` wrote for \(stage.model)")
    }
    self.head = head
    encoder = try ExampleEncoder(model: vocabulary, maximumLength: Self.maximumLength)
    self.model = model
    decoder = Mutex(try Self.decoder(model, threads: threads))
    fingerprint = try Self.fingerprint(stage)
  }

  /// Of what ``init(model:folder:threads:)`` takes, without loading it.
  static func fingerprint(model path: String, folder: String) throws -> String {
    try fingerprint(stage(folder, baseModel: path))
  }

  /// With the adapter baked in where `train reward --bake` did so, which is faster than one beside the model.
  private static func stage(_ folder: String, baseModel: String) throws -> TrainStart {
    func date(_ name: String) -> Date? {
      (try? FileManager.default.attributesOfItem(atPath: "\(folder)/\(name)"))?[.modificationDate] as? Date
    }
    // A later run without --bake leaves the model of an earlier one.
    let isBaked = date("model.gguf").map { $0 >= date("adapter.gguf") ?? .distantPast } ?? false
    return try TrainStart(resultsIn: folder, baseModel: baseModel, isFull: isBaked)
  }

  private static func fingerprint(_ stage: TrainStart) throws -> String {
    let adapters = stage.adapter.map { [AdapterFile(path: $0)] } ?? []
    var digests = [try ModelFingerprint.compute(model: stage.model, adapters: adapters, settings: [:])]
    if let head = stage.head { digests.append(try ModelFingerprint.compute(model: head, adapters: [], settings: [:])) }
    return digests.map(\.hex).joined(separator: "+")
  }

  private static func decoder(_ model: Model, threads: Int) throws -> BatchingDecoder {
    try BatchingDecoder(
      model: model,
      configuration: DecoderConfiguration(
        slots: slots, contextPerSequence: maximumLength, threads: threads, hiddenStates: true))
  }

  /// Rates with so many threads from here on: one beside models that compute, more where it has the machine for itself.
  /// Nothing may be under way.
  func use(threads: Int) throws {
    let new = try Self.decoder(model, threads: threads)
    let old = decoder.withLock { decoder in
      defer { decoder = new }
      return decoder
    }
    old.shutdown()
  }

  func stop() { decoder.withLock { $0 }.shutdown() }

  struct Rating: Sendable {
    var reward: Double
    /// Tokens that went through the model for it.
    var evaluated: Int
  }

  func rate(_ messages: [EvaluationTask.Message], answer: String) async throws -> Rating {
    let chat = messages.map { ChatMessage(role: $0.role, content: $0.content) }
    let tokens = try encoder.tokens(chat + [.answer(toRate: answer)])
    let id = serial.wrappingAdd(1, ordering: .relaxed).newValue
    let hidden = Mutex<[Float]?>(nil)
    let decoder = decoder.withLock { $0 }
    let summary = try await withCheckedThrowingContinuation {
      (continuation: CheckedContinuation<DecodeSummary, any Error>) in
      decoder.submit(
        DecodeRequest(
          id: id, sequence: id, tokens: tokens, wanted: [tokens.count - 1], wantsHidden: true,
          deliver: { row in hidden.withLock { $0 = row.hidden } },
          completion: { continuation.resume(with: $0) }))
    }
    decoder.release(sequence: id)
    guard let state = hidden.withLock({ $0 }), state.count == head.embeddingWidth else {
      throw FusionRouteError.internal("the reward model gave no hidden state")
    }
    let sum = zip(head.weight, state).reduce(Double(head.bias?.first ?? 0)) { $0 + Double($1.0) * Double($1.1) }
    return Rating(reward: sum, evaluated: summary.evaluatedTokens)
  }
}

internal import Core
internal import Evaluation
internal import Foundation
internal import Inference
internal import ModelFiles
internal import Synchronization
internal import Training

/// A reward model of `train reward` on llama.cpp: what an answer has in common with one of the last that were rated, as many as
/// there are slots, is in the KV cache, which makes rating many beginnings of one answer cheap.
final class RewardScorer: Sendable {
  /// Longest prompt and answer together, in tokens, if the model's context has room for them.
  static let maximumLength = RewardGrader.maximumLength

  private let folder: String
  private let model: Model
  private let decoder = Mutex<BatchingDecoder?>(nil)
  private let encoder: ExampleEncoder
  private let head: RoutingHead
  private let serial = Atomic<UInt64>(1)

  /// Rates only after ``use(slots:threads:longest:)``.
  ///
  /// - Parameters:
  ///   - path: the model that the reward was trained on.
  ///   - folder: the directory of `train reward`.
  init(model path: String, folder: String) throws {
    let stage = try TrainStart(resultsIn: folder, baseModel: path, for: .computing)
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
    encoder = try ExampleEncoder(model: vocabulary, maximumLength: Self.maximumLength, isRaw: head.isRaw)
    self.model = model
    self.folder = folder
  }

  /// Of the model, the adapter and the head that ``init(model:folder:)`` takes, without loading them.
  static func fingerprint(model path: String, folder: String) throws -> String {
    try fingerprint(TrainStart(resultsIn: folder, baseModel: path, for: .computing))
  }

  private static func fingerprint(_ stage: TrainStart) throws -> String {
    let adapters = stage.adapter.map { [AdapterFile(path: $0)] } ?? []
    var digests = [try ModelFingerprint.compute(model: stage.model, adapters: adapters, settings: [:])]
    if let head = stage.head { digests.append(try ModelFingerprint.compute(model: head, adapters: [], settings: [:])) }
    return digests.map(\.hex).joined(separator: "+")
  }

  /// Nothing may be under way.
  ///
  /// - Parameters:
  ///   - slots: answers of which something is kept, and that are rated at once; memory grows with it.
  ///   - threads: one beside models that compute, more where it has the machine for itself.
  ///   - longest: prompt and answer, in tokens; of longer ones the beginning is cut off.
  func use(slots: Int, threads: Int, longest: Int) throws {
    stop()
    let new = try BatchingDecoder(
      model: model,
      configuration: DecoderConfiguration(
        // As many as the encoder gives of a conversation.
        slots: slots, contextPerSequence: min(longest, encoder.maximumLength - 1), threads: threads,
        hiddenStates: true))
    decoder.withLock { $0 = new }
  }

  func stop() { decoder.withLock { $0.take() }?.shutdown() }

  /// A conversation and its answer as it goes through the model.
  func tokens(_ messages: [EvaluationTask.Message], answer: String) throws -> [Token] {
    try encoder.tokens(
      messages.map { ChatMessage(role: $0.role, content: $0.content) } + [.answer(toRate: answer)])
  }

  struct Rating: Sendable {
    var reward: Double
    /// Tokens that went through the model for it.
    var evaluated: Int
  }

  /// Throws `.badInput` if the reward is no number, by which nothing can be chosen.
  func rate(_ messages: [EvaluationTask.Message], answer: String) async throws -> Rating {
    guard let decoder = decoder.withLock({ $0 }) else {
      throw FusionRouteError.internal("the reward model is not in use")
    }
    let tokens = Array(try tokens(messages, answer: answer).suffix(decoder.contextPerSequence))
    let id = serial.wrappingAdd(1, ordering: .relaxed).newValue
    let hidden = Mutex<[Float]?>(nil)
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
    guard sum.isFinite else {
      throw FusionRouteError.badInput(
        "the reward model of \(folder) rates an answer with \(sum), which is no finite number: its weights are "
          + "damaged, or its training came to nothing; train it again with a lower --learning-rate")
    }
    return Rating(reward: sum, evaluated: summary.evaluatedTokens)
  }
}

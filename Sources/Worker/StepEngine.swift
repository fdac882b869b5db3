internal import Core
internal import Inference

/// What computes rows for a worker's service: a model's decoder, or in a benchmark something that only takes as long.
protocol StepEngine: Sendable {
  /// Queues a request; its callbacks come from the engine's own thread, and never from within a lock of the caller's.
  func submit(_ request: DecodeRequest)
  /// Ends a request early; ids that are unknown or done are ignored.
  func cancel(request id: UInt64)
  /// The caller is done with the sequence.
  func release(sequence: UInt64)
  /// For heartbeats.
  var load: EngineLoad { get }
  func shutdown()
}

/// What heartbeats say of an engine.
struct EngineLoad: Sendable {
  var progress: UInt64
  /// Of the batch under way; 0 while idle.
  var batchBudgetMilliseconds: UInt64
  var queued: Int
  var residentSequences: Int
  var kvTokens: Int
  var evaluatedTokens: UInt64
}

extension BatchingDecoder: StepEngine {
  var load: EngineLoad {
    let statistics = statistics
    return EngineLoad(
      progress: statistics.progress, batchBudgetMilliseconds: statistics.currentBatchBudgetMilliseconds,
      queued: statistics.queued, residentSequences: statistics.residentSequences, kvTokens: statistics.kvTokens,
      evaluatedTokens: statistics.evaluatedTokens)
  }
}

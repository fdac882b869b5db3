internal import Core
internal import Inference
internal import ModelFiles
internal import Synchronization

/// What the router says about one position.
struct RouterOutput: Sendable {
  /// r, [vocabulary].
  let logits: LogitsRow
  /// w = W h, [experts]; empty when the mode does not route.
  let weights: [Float]
  let evaluatedTokens: Int
  let reusedTokens: Int
  let queueNanoseconds: UInt64
  let computeNanoseconds: UInt64
}

/// The router's model and routing head, in the coordinator's own process.
final class RouterHost: Sendable {
  let model: Model
  let head: RoutingHead
  let decoder: BatchingDecoder
  let context: Int
  /// Identity of the model, adapters, head and settings.
  let fingerprint: SHA256Digest
  private let nextRequest = Atomic<UInt64>(1)

  init(model: Model, head: RoutingHead, decoder: BatchingDecoder, context: Int, fingerprint: SHA256Digest) {
    self.model = model
    self.head = head
    self.decoder = decoder
    self.context = context
    self.fingerprint = fingerprint
  }

  /// Logits and routing weights after the last of `tokens`.
  func evaluate(sequence: UInt64, tokens: [Token], routes: Bool) async throws -> RouterOutput {
    let slot = RowSlot()
    let summary = try await submit(sequence: sequence, tokens: tokens, wanted: [tokens.count - 1], hidden: routes) {
      slot.put($0)
    }
    guard let row = slot.take() else { throw FusionRouteError.internal("the router's decoder delivered no row") }
    var weights: [Float] = []
    if routes {
      guard let hidden = row.hidden else {
        throw FusionRouteError.internal("the router's decoder delivered no hidden state")
      }
      weights = head.weights(hidden: hidden)
    }
    return RouterOutput(
      logits: row.logits, weights: weights, evaluatedTokens: summary.evaluatedTokens,
      reusedTokens: summary.reusedTokens, queueNanoseconds: summary.queueNanoseconds,
      computeNanoseconds: summary.computeNanoseconds)
  }

  /// Runs the decoder over `tokens`, handing over the rows of `wanted` positions on its thread.
  func submit(
    sequence: UInt64, tokens: [Token], wanted: [Int], hidden: Bool, deliver: @escaping @Sendable (DecodedRow) -> Void
  ) async throws -> DecodeSummary {
    let id = nextRequest.add(1, ordering: .relaxed).oldValue
    return try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        decoder.submit(
          DecodeRequest(
            id: id, sequence: sequence, tokens: tokens, wanted: wanted, wantsHidden: hidden, deliver: deliver,
            completion: { continuation.resume(with: $0) }))
        // A cancellation that came before the request was known there went by unheard.
        if Task.isCancelled { decoder.cancel(request: id) }
      }
    } onCancel: {
      decoder.cancel(request: id)
    }
  }

  func release(_ sequence: UInt64) { decoder.release(sequence: sequence) }
}

/// Carries one row from the decoder's thread to the task that awaits it.
private final class RowSlot: Sendable {
  private let row = Mutex<DecodedRow?>(nil)

  func put(_ row: DecodedRow) { self.row.withLock { $0 = row } }

  func take() -> DecodedRow? { row.withLock { $0 } }
}

internal import Core
internal import Messaging
internal import Wire

/// One piece of a scoring answer, in the order the worker sent it.
enum ScorePart: Sendable {
  /// Its consumer credits the payload, in bytes.
  case chunk(RowChunk, payload: Int)
  case scores(ScoreReply)
}

extension ExpertPool {
  /// Asks a replica to score tokens. Whole rows come under byte credits: a worker that is ahead of its consumer waits.
  ///
  /// - Parameter timeout: until the first part, and from each to the next.
  func score(
    _ tokens: [Token], first: Int, topK: Int, fullRows: Bool, replica: ReplicaID, timeout: Duration,
    trace: TraceContext?
  ) -> AsyncThrowingStream<ScorePart, any Error> {
    AsyncThrowingStream { continuation in
      let now = MonotonicClock.now
      let started = state.withLock { state -> (UInt64, PeerID)? in
        guard !state.closed, let peer = state.registry.peer(of: replica) else { return nil }
        let request = state.nextRequest
        state.nextRequest += 1
        state.calls[request] = Call(
          kind: .score(continuation, fullRows: fullRows), request: request, replica: replica, tokens: tokens.count,
          now: now, timeout: timeout)
        state.registry.callStarted(replica, now: now)
        return (request, peer)
      }
      guard let (request, peer) = started else {
        continuation.finish(throwing: FusionRouteError.unavailable("the worker has left"))
        return
      }
      continuation.onTermination = { [weak self] reason in
        if case .cancelled = reason { self?.cancel(request) }
      }
      send(
        .score(
          Score(
            request: request, coordinator: incarnation, tokens: tokens, first: first, topK: topK,
            fullRows: fullRows, deadlineMilliseconds: timeout.milliseconds, trace: trace)), to: peer)
      cancelIfGone(request, at: peer)
    }
  }
}

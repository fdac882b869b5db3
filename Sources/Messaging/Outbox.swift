internal import Synchronization

#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// Messages on their way from any thread to the thread that owns the socket.
///
/// Bytes are counted per peer until the socket has taken them, so that one slow peer cannot make the process grow.
final class Outbox: Sendable {
  struct Item: Sendable {
    let peer: PeerID
    let frames: [[UInt8]]
    let bytes: Int
  }

  enum Outcome { case accepted, full, closed }

  private struct State {
    var items: [Item] = []
    var bytes: [PeerID: Int] = [:]
    var isClosed = false
    var flushing = Duration.zero
    var wakePending = false
    /// The I/O thread sends what its own callbacks submit before it sleeps: no need to wake it.
    var ioThread: pthread_t?
  }

  private let state = Mutex(State())
  private let limit: Int
  let wake: WakeSignal

  init(limit: Int) throws {
    self.limit = limit
    wake = try WakeSignal()
  }

  func submit(_ frames: [[UInt8]], to peer: PeerID) -> Outcome {
    let bytes = frames.reduce(0) { $0 + $1.count }
    let (outcome, mustWake): (Outcome, Bool) = state.withLock { state in
      guard !state.isClosed else { return (.closed, false) }
      let waiting = state.bytes[peer, default: 0]
      guard waiting + bytes <= limit else { return (.full, false) }
      state.bytes[peer] = waiting + bytes
      state.items.append(Item(peer: peer, frames: frames, bytes: bytes))
      if state.wakePending { return (.accepted, false) }
      if let thread = state.ioThread, pthread_equal(thread, pthread_self()) != 0 { return (.accepted, false) }
      state.wakePending = true
      return (.accepted, true)
    }
    if mustWake { wake.signal() }
    return outcome
  }

  /// Everything submitted so far, by the I/O thread.
  func drain() -> [Item] {
    state.withLock { state in
      state.wakePending = false
      guard !state.items.isEmpty else { return [] }
      var items: [Item] = []
      swap(&items, &state.items)
      return items
    }
  }

  var isEmpty: Bool { state.withLock { $0.items.isEmpty } }

  /// The socket has taken, or the loop has dropped, so many bytes of the peer's.
  func settle(_ peer: PeerID, bytes: Int) {
    state.withLock { state in
      let left = state.bytes[peer, default: 0] - bytes
      state.bytes[peer] = left > 0 ? left : nil
    }
  }

  func bindToThisThread() { state.withLock { $0.ioThread = pthread_self() } }

  /// Whether the caller runs on the I/O thread.
  var isOnIOThread: Bool {
    state.withLock { state in state.ioThread.map { pthread_equal($0, pthread_self()) != 0 } ?? false }
  }

  var isClosed: Bool { state.withLock { $0.isClosed } }

  /// How long the socket may take over what it still holds when it is closed.
  var flushing: Duration { state.withLock { $0.flushing } }

  /// Refuses further messages and wakes the I/O thread; the first call counts.
  func close(flushing: Duration = .zero) {
    let isFirst = state.withLock { state in
      guard !state.isClosed else { return false }
      state.isClosed = true
      state.flushing = flushing
      return true
    }
    if isFirst { wake.signal() }
  }

  /// Drops everything submitted so far; how many messages that were.
  func clear() -> Int {
    state.withLock { state in
      defer {
        state.items = []
        state.bytes = [:]
      }
      return state.items.count
    }
  }
}

internal import Core
internal import Foundation

/// Hand-over from any thread to the decoder's thread: a lock and a condition, no polling.
final class DecoderMailbox: @unchecked Sendable {
  // Unchecked: every field below the condition is touched only while it is locked.
  enum Message {
    case request(DecodeRequest, submitted: Moment)
    case cancel(UInt64)
    case release(UInt64)
  }

  enum Refusal { case full, closed }

  /// When a request was submitted: by the clock, and by the turns of prefill that had ended.
  struct Moment {
    var nanoseconds: UInt64
    var prefillTurns: UInt64
  }

  private let condition = NSCondition()
  private var messages: [Message] = []
  private var closed = false
  private let monitor: DecoderMonitor
  private let limit: Int

  init(limit: Int, monitor: DecoderMonitor) {
    self.limit = limit
    self.monitor = monitor
  }

  /// Nil when accepted.
  func post(_ request: DecodeRequest) -> Refusal? {
    let now = Moment(
      nanoseconds: monotonicNanoseconds(), prefillTurns: monitor.prefillTurns.load(ordering: .relaxed))
    condition.lock()
    defer { condition.unlock() }
    if closed { return .closed }
    // Counted down by the decoder when the request is completed.
    if monitor.queued.load(ordering: .relaxed) >= limit { return .full }
    monitor.queued.wrappingAdd(1, ordering: .relaxed)
    messages.append(.request(request, submitted: now))
    condition.signal()
    return nil
  }

  func post(_ message: Message) {
    condition.lock()
    defer { condition.unlock() }
    if closed { return }
    messages.append(message)
    condition.signal()
  }

  /// What has come in, in order; nil once closed. Waits for something if `wait`.
  func take(wait: Bool) -> [Message]? {
    condition.lock()
    defer { condition.unlock() }
    while wait, messages.isEmpty, !closed { condition.wait() }
    if closed { return nil }
    let taken = messages
    messages.removeAll(keepingCapacity: true)
    return taken
  }

  /// What has come in, after waiting for it at most so long; nil once closed.
  func take(nanoseconds: UInt64) -> [Message]? {
    condition.lock()
    defer { condition.unlock() }
    if messages.isEmpty, !closed { _ = condition.wait(until: Date(timeIntervalSinceNow: Double(nanoseconds) / 1e9)) }
    if closed { return nil }
    let taken = messages
    messages.removeAll(keepingCapacity: true)
    return taken
  }

  /// No more requests; returns those that were never taken.
  func close() {
    condition.lock()
    closed = true
    condition.signal()
    condition.unlock()
  }

  /// After `close`: what nobody has taken.
  func leftovers() -> [Message] {
    condition.lock()
    defer { condition.unlock() }
    let taken = messages
    messages = []
    return taken
  }
}

func monotonicNanoseconds() -> UInt64 { DispatchTime.now().uptimeNanoseconds }

internal import Synchronization

/// Statistics that the I/O thread writes and anyone reads.
final class Counters: Sendable {
  private let value = Mutex(MessagingStatistics())

  func update(_ change: (inout MessagingStatistics) -> Void) { value.withLock { change(&$0) } }

  func read() -> MessagingStatistics { value.withLock { $0 } }
}

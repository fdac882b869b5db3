internal import Synchronization

/// Bytes of request bodies in memory, over all requests: many large ones at once wait for nobody, they are refused.
final class BodyBudget: Sendable {
  let limit: Int
  private let used = Mutex(0)

  init(limit: Int) { self.limit = limit }

  var bytes: Int { used.withLock { $0 } }

  /// One request's share, given back when it is let go.
  final class Share: Sendable {
    private let budget: BodyBudget
    private let held = Mutex(0)

    fileprivate init(_ budget: BodyBudget) { self.budget = budget }

    deinit { budget.used.withLock { $0 -= held.withLock { $0 } } }

    /// False if there is not so much left.
    func take(_ bytes: Int) -> Bool {
      guard budget.take(bytes) else { return false }
      held.withLock { $0 += bytes }
      return true
    }
  }

  func share() -> Share { Share(self) }

  private func take(_ bytes: Int) -> Bool {
    used.withLock { used in
      guard used + bytes <= limit else { return false }
      used += bytes
      return true
    }
  }
}

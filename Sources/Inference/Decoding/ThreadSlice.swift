internal import CLlamaExtras
internal import Synchronization

/// How long a thread runs before others get their turn.
///
/// A thread that carries a message works for microseconds and is waited for; one that computes works for as long as it
/// may. Where both want the same core, the first should not wait for the end of the second's turn at each of a token's
/// hops.
public enum ThreadSlice {
  private static let shortNanoseconds: UInt64 = 100_000
  private static let isShort = Atomic<Bool>(false)

  /// The calling thread, and all that are started from it, begin at once when they are woken up, and take short turns.
  /// Decoders' threads keep the system's own turns.
  public static func preferShort() {
    isShort.store(true, ordering: .relaxed)
    fr_set_thread_slice(shortNanoseconds)
  }

  /// For a thread that computes.
  static func preferDefault() { fr_set_thread_slice(0) }

  /// Runs `body`, whose new threads compute.
  static func startingComputation<T>(_ body: () -> T) -> T {
    guard isShort.load(ordering: .relaxed) else { return body() }
    fr_set_thread_slice(0)
    defer { fr_set_thread_slice(shortNanoseconds) }
    return body()
  }
}

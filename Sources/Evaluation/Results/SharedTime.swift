/// How the time is shared by what is under way at once: of each moment, all n take an n-th part. So the shares of all add up to
/// the time in which anything was under way, and tokens per share is the speed at which all of them together come.
public struct SharedTime: Sendable {
  private var running = 0
  /// Share of one that has been under way since the beginning.
  private var share = 0.0
  private var last = 0.0

  public init() {}

  /// - Parameter now: in seconds; never before an earlier call's.
  /// - Returns: what ``end(at:since:)`` is to be given.
  public mutating func begin(at now: Double) -> Double {
    advance(to: now)
    running += 1
    return share
  }

  /// - Returns: the share, in seconds, of what began with `start`.
  public mutating func end(at now: Double, since start: Double) -> Double {
    advance(to: now)
    running -= 1
    return share - start
  }

  private mutating func advance(to now: Double) {
    if running > 0 { share += max(0, now - last) / Double(running) }
    last = max(last, now)
  }
}

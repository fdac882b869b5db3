internal import Dispatch

/// Nanoseconds of a clock that never goes back.
enum MonotonicClock {
  static var now: UInt64 { DispatchTime.now().uptimeNanoseconds }
}

extension Duration {
  /// Whole nanoseconds, 0 for negative durations.
  var nanoseconds: UInt64 {
    let (seconds, attoseconds) = components
    guard seconds >= 0, attoseconds >= 0 else { return 0 }
    return UInt64(seconds) &* 1_000_000_000 &+ UInt64(attoseconds / 1_000_000_000)
  }

  /// Whole milliseconds, within what a message may carry.
  var milliseconds: Int { Int(clamping: min(nanoseconds / 1_000_000, 86_400_000)) }
}

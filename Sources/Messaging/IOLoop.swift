internal import CZeroMQ
internal import Synchronization

#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// Holds the I/O thread back until its owner is complete, so that no callback comes before `started`.
final class StartGate: @unchecked Sendable {
  // Unchecked: mutex and condition are made for sharing; `isOpen` is only touched under the mutex.
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private var isOpen = false

  init() {
    mutex.initialize(to: pthread_mutex_t())
    condition.initialize(to: pthread_cond_t())
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(condition, nil)
  }

  deinit {
    pthread_cond_destroy(condition)
    pthread_mutex_destroy(mutex)
    condition.deallocate()
    mutex.deallocate()
  }

  func open() {
    pthread_mutex_lock(mutex)
    isOpen = true
    pthread_cond_broadcast(condition)
    pthread_mutex_unlock(mutex)
  }

  func wait() {
    pthread_mutex_lock(mutex)
    while !isOpen { pthread_cond_wait(condition, mutex) }
    pthread_mutex_unlock(mutex)
  }
}

/// Points in time on the monotonic clock, in nanoseconds.
enum Monotonic {
  static func now() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }

  static func nanoseconds(_ duration: Duration) -> UInt64 { UInt64(duration.milliseconds) * 1_000_000 }
}

/// Something to do at a certain time.
struct Timer {
  private(set) var due: UInt64?

  mutating func set(after duration: Duration) { due = Monotonic.now() + Monotonic.nanoseconds(duration) }

  mutating func cancel() { due = nil }

  /// Whether it is due; if so, it is done.
  mutating func fire(now: UInt64) -> Bool {
    guard let due, due <= now else { return false }
    self.due = nil
    return true
  }

  /// Milliseconds to wait for the first of some timers, rounded up; -1 for none.
  static func wait(_ timers: [Timer]) -> Int {
    guard let first = timers.compactMap(\.due).min() else { return -1 }
    let now = Monotonic.now()
    return first <= now ? 0 : Int((first - now + 999_999) / 1_000_000)
  }
}

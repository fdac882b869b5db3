internal import CZeroMQ
internal import Core

#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// A file descriptor that becomes readable when `signal` is called: an eventfd on Linux, a pipe elsewhere.
final class WakeSignal: Sendable {
  /// What to poll.
  let readEnd: Int32
  private let writeEnd: Int32

  init() throws {
    #if os(Linux)
      readEnd = fr_eventfd()
      writeEnd = readEnd
      guard readEnd >= 0 else { throw Self.failure() }
    #else
      var ends: [Int32] = [-1, -1]
      guard pipe(&ends) == 0 else { throw Self.failure() }
      (readEnd, writeEnd) = (ends[0], ends[1])
      for end in ends {
        _ = fcntl(end, F_SETFL, O_NONBLOCK)
        _ = fcntl(end, F_SETFD, FD_CLOEXEC)
      }
    #endif
  }

  deinit {
    close(readEnd)
    if writeEnd != readEnd { close(writeEnd) }
  }

  /// From any thread. A full pipe is as good as a written byte.
  func signal() {
    var one: UInt64 = 1
    #if os(Linux)
      _ = write(writeEnd, &one, 8)
    #else
      _ = write(writeEnd, &one, 1)
    #endif
  }

  /// By the polling thread, once it is readable.
  func clear() {
    var sink: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
    #if os(Linux)
      _ = read(readEnd, &sink, 8)
    #else
      while read(readEnd, &sink, 32) == 32 {}
    #endif
  }

  private static func failure() -> FusionRouteError {
    .unavailable("cannot make an event descriptor: \(String(cString: strerror(errno))); raise the limit of open files")
  }
}

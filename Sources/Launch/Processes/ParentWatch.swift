internal import Foundation

#if canImport(Darwin)
  internal import Darwin
#else
  internal import Glibc
#endif

/// The child's side of a supervisor's pipe.
public enum ParentWatch {
  /// From now on this process ends at once, with `code`, when its stdin does: when the parent that holds the other end
  /// is gone, however it went.
  ///
  /// A thread of its own waits, so that nothing else the process does can hold the end up.
  public static func exitWhenStdinEnds(code: Int32 = 69) {
    Thread.detachNewThread {
      var byte: UInt8 = 0
      while true {
        let count = read(STDIN_FILENO, &byte, 1)
        if count > 0 || (count < 0 && errno == EINTR) { continue }
        _exit(code)
      }
    }
  }
}

internal import CGGML
internal import Synchronization

#if canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#else
  internal import Darwin
#endif

/// Catches what ggml logs on this thread while it reads a file, so that it becomes part of the error's sentence instead
/// of a line on standard error.
enum GGMLLog {
  private struct Capture {
    var lines: [String]
    let thread: pthread_t
    let previous: ggml_log_callback?
  }

  // Unchecked: `Capture` holds a C function pointer and a thread id, both plain values.
  private struct Box: @unchecked Sendable { var capture: Capture? }

  private static let state = Mutex(Box())
  private static let turn = Mutex(())

  static func capturing<R>(_ body: () -> R) -> (result: R, lines: [String]) {
    turn.withLock { _ in
      var previous: ggml_log_callback?
      var userData: UnsafeMutableRawPointer?
      ggml_log_get(&previous, &userData)
      state.withLock { $0.capture = Capture(lines: [], thread: pthread_self(), previous: previous) }
      // The user data stays as it is: other threads log meanwhile, and their lines are passed on with it.
      ggml_log_set({ level, text, userData in GGMLLog.receive(level, text, userData) }, userData)
      let result = body()
      ggml_log_set(previous, userData)
      let lines = state.withLock { box in
        defer { box.capture = nil }
        return box.capture?.lines ?? []
      }
      return (result, lines)
    }
  }

  private static func receive(
    _ level: ggml_log_level, _ text: UnsafePointer<CChar>?, _ userData: UnsafeMutableRawPointer?
  ) {
    guard let text else { return }
    let forward: ggml_log_callback? = state.withLock { box in
      guard let capture = box.capture else { return nil }
      if pthread_equal(capture.thread, pthread_self()) == 0 { return capture.previous }
      let line = String(cString: text)
      if level == GGML_LOG_LEVEL_ERROR, !line.isEmpty { box.capture?.lines.append(line) }
      return nil
    }
    forward?(level, text, userData)
  }
}

internal import Core
internal import Foundation
internal import Logging
internal import Synchronization

/// Spans in a file that trace viewers open.
///
/// An array without its closing bracket, which viewers take, so that the file is whole at any time. When it has grown to
/// its limit it is renamed to `FILE.1`, in place of the one before, and begun anew.
final class TraceFile: TraceSink {
  /// Bytes of one file; with the one before it, twice as much is kept.
  static let maximumBytes = 256 << 20
  /// Bytes that wait to be written at most; spans that come while it is full are dropped and counted.
  static let maximumWaiting = 8 << 20
  private static let delay = DispatchTimeInterval.milliseconds(250)

  private struct State {
    var events: TraceEvents
    var waiting = ""
    var isScheduled = false
    var dropped = 0
  }

  private let path: String
  private let limit: Int
  private let logger: Logger
  private let state: Mutex<State>
  private let queue = DispatchQueue(label: "fusionroute.trace")
  /// The file and its size so far; nil once it could not be written.
  private let file: Mutex<(handle: FileHandle, size: Int)?>

  /// Begins the file; one that is there already becomes `FILE.1`. Throws `badInput` if it cannot be written.
  init(path: String, experts: [String], limit: Int = TraceFile.maximumBytes, logger: Logger) throws {
    self.path = path
    self.limit = limit
    self.logger = logger
    state = Mutex(State(events: TraceEvents(experts: experts)))
    file = Mutex(nil)
    try file.withLock { $0 = (try Self.begin(path), 0) }
    state.withLock { $0.waiting = $0.events.beginning() }
    flush()
  }

  func record(_ span: TraceSpan) {
    let isFirst = state.withLock { state in
      guard state.waiting.utf8.count < Self.maximumWaiting else {
        state.dropped += 1
        return false
      }
      state.waiting += state.events.lines(span)
      defer { state.isScheduled = true }
      return !state.isScheduled
    }
    // No timer runs while there is nothing to write.
    if isFirst { queue.asyncAfter(deadline: .now() + Self.delay) { [self] in write() } }
  }

  /// Waits until all spans so far are written.
  func flush() { queue.sync { write() } }

  private func write() {
    let text = state.withLock { state in
      defer {
        state.waiting = ""
        state.isScheduled = false
        state.dropped = 0
      }
      return state.waiting
        + (state.dropped > 0 ? TraceEvents.note("\(state.dropped) spans were dropped", at: TraceClock.now) : "")
    }
    guard !text.isEmpty else { return }
    file.withLock { file in
      guard let (handle, size) = file else { return }
      do {
        try handle.write(contentsOf: Data(text.utf8))
        file = (handle, size + text.utf8.count)
        if size + text.utf8.count >= limit {
          try handle.close()
          file = (try Self.begin(path), 0)
          state.withLock { $0.waiting = $0.events.beginning() + $0.waiting }
        }
      } catch {
        file = nil
        logger.error("the trace is not written any further", metadata: ["file": "\(path)", "error": "\(error)"])
      }
    }
  }

  private static func begin(_ path: String) throws -> FileHandle {
    var status = stat()
    if stat(path, &status) == 0, status.st_size > 0 {
      guard rename(path, path + ".1") == 0 else { throw unwritable(path) }
    }
    // Token ids are as good as text: for their owner alone.
    let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard descriptor >= 0 else { throw unwritable(path) }
    return FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
  }

  private static func unwritable(_ path: String) -> FusionRouteError {
    .badInput("cannot write the trace \(path): \(String(cString: strerror(errno)))")
  }
}

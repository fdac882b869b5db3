internal import Core
internal import Foundation
internal import Synchronization

#if canImport(Darwin)
  internal import Darwin
#else
  internal import Glibc
#endif

/// Turns signals into calls on an ordinary thread, for orderly stopping.
///
/// A pipe and a thread of our own: Dispatch's signal sources lose signals on Linux that reach a thread which has not
/// blocked them.
public final class SignalTrap: Sendable {
  /// Ctrl-C, a request to end, and a closed terminal.
  public static let ending: [Int32] = [SIGINT, SIGTERM, SIGHUP]

  public typealias Handler = @Sendable (_ signal: Int32, _ count: Int) -> Void

  private let signals: [Int32]
  private let key: Int

  /// `handler` gets the signal and how many have come so far, 1 at the first; calls do not overlap.
  /// Throws `unavailable` if the process has no descriptors left.
  public init(_ signals: [Int32] = SignalTrap.ending, handler: @escaping Handler) throws {
    self.signals = signals
    key = try Registry.shared.add(signals, handler: handler)
    for number in signals { signal(number, forwardSignal) }
  }

  deinit { cancel() }

  /// Ends the trap and gives the signals their default action back.
  public func cancel() {
    guard Registry.shared.remove(key) else { return }
    for number in signals { signal(number, SIG_DFL) }
  }

  /// Writing to a closed pipe gives an error instead of ending the process.
  public static func ignoreBrokenPipes() { signal(SIGPIPE, SIG_IGN) }
}

/// Where the handler writes. A signal handler may take no lock: it is set before the first handler is installed and
/// never changes afterwards, hence unsafe but sound.
nonisolated(unsafe) private var signalPipe: Int32 = -1

/// Only async-signal-safe calls.
private func forwardSignal(_ number: Int32) {
  let saved = errno
  var byte = UInt8(truncatingIfNeeded: number)
  _ = write(signalPipe, &byte, 1)
  errno = saved
}

/// All traps of the process and the thread that calls their handlers.
private final class Registry: Sendable {
  static let shared = Registry()

  private struct Entry {
    var signals: [Int32]
    var handler: SignalTrap.Handler
    var count = 0
  }

  private struct State {
    var isRunning = false
    var next = 0
    var entries: [Int: Entry] = [:]
  }

  private let state = Mutex(State())

  func add(_ signals: [Int32], handler: @escaping SignalTrap.Handler) throws -> Int {
    try state.withLock { state in
      if !state.isRunning {
        try start()
        state.isRunning = true
      }
      state.next += 1
      state.entries[state.next] = Entry(signals: signals, handler: handler)
      return state.next
    }
  }

  func remove(_ key: Int) -> Bool { state.withLock { $0.entries.removeValue(forKey: key) != nil } }

  private func start() throws {
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else {
      throw FusionRouteError.unavailable("cannot make a pipe for signals: \(String(cString: strerror(errno)))")
    }
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    // The handler must never wait; a full pipe holds thousands of signals already.
    _ = fcntl(ends[1], F_SETFL, O_NONBLOCK)
    signalPipe = ends[1]
    let source = ends[0]
    Thread.detachNewThread { [self] in
      var byte: UInt8 = 0
      while true {
        let count = read(source, &byte, 1)
        if count == 1 { deliver(Int32(byte)) } else if !(count < 0 && errno == EINTR) { return }
      }
    }
  }

  private func deliver(_ number: Int32) {
    let calls = state.withLock { state in
      state.entries.filter { $0.value.signals.contains(number) }.map { key, entry in
        state.entries[key]?.count += 1
        return (entry.handler, entry.count + 1)
      }
    }
    for (handler, count) in calls { handler(number, count) }
  }
}

internal import Core
internal import Dispatch
internal import Foundation
internal import Synchronization

#if canImport(Darwin)
  internal import Darwin
#else
  internal import Glibc
#endif

/// One child process: its own process group, default signals, a pipe on stdin that only this process holds open, and
/// stdout and stderr read line by line.
///
/// `Foundation.Process` would hand on the spawning thread's blocked signals (Dispatch threads block nearly all of them)
/// and leave the child in our process group, where Ctrl-C reaches it before we can stop it in order.
final class ChildProcess: Sendable {
  /// Longest line that is kept whole; the rest of a longer one is cut.
  static let maximumLineBytes = 8192

  let pid: pid_t
  /// Our end of its stdin.
  let lifeline: Int32
  // True once the child is reaped, after which its pid may belong to another process.
  private let isReaped = Mutex(false)

  /// Starts `executable`. `line` gets its output and `ended` its end, each on a thread of its own.
  /// Throws `unavailable` if the process cannot be started.
  init(
    executable: String, arguments: [String], environment: [String: String],
    line: @escaping @Sendable (String) -> Void, ended: @escaping @Sendable (pid_t, ProcessExit) -> Void
  ) throws {
    let input = try Spawn.makePipe()
    let output = try Spawn.makePipe()
    defer {
      close(input.read)
      close(output.write)
    }
    do {
      pid = try Spawn.start(
        executable: executable, arguments: arguments, environment: environment,
        streams: .init(input: input.read, output: output.write, error: output.write))
    } catch {
      close(input.write)
      close(output.read)
      throw error
    }
    lifeline = input.write
    let drained = DispatchSemaphore(value: 0)
    let source = output.read
    Thread.detachNewThread {
      Self.readLines(from: source, line)
      close(source)
      drained.signal()
    }
    Thread.detachNewThread { [self] in
      let exit = reap()
      // Let its last words arrive first; a grandchild may keep the pipe open, so not for ever.
      _ = drained.wait(timeout: .now() + .milliseconds(500))
      ended(pid, exit)
    }
  }

  /// Sends `signal` unless the child has ended already.
  func send(signal: Int32) {
    isReaped.withLock { if !$0 { _ = kill(pid, signal) } }
  }

  private func reap() -> ProcessExit {
    var information = siginfo_t()
    while waitid(P_PID, id_t(pid), &information, WEXITED | WNOWAIT) != 0 && errno == EINTR {}
    return isReaped.withLock { isReaped in
      let exit = Spawn.wait(pid)
      isReaped = true
      close(lifeline)
      return exit
    }
  }

  // MARK: Reading

  private static func readLines(from descriptor: Int32, _ line: (String) -> Void) {
    var buffer = [UInt8](repeating: 0, count: 4096)
    var pending: [UInt8] = []
    func emit() {
      if !pending.isEmpty { line(String(decoding: pending, as: UTF8.self)) }
      pending.removeAll(keepingCapacity: true)
    }
    while true {
      let count = read(descriptor, &buffer, buffer.count)
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else { break }
      for byte in buffer[..<count] {
        if byte == UInt8(ascii: "\n") { emit() } else if pending.count < maximumLineBytes { pending.append(byte) }
      }
    }
    emit()
  }
}

internal import Core
internal import Foundation
internal import Synchronization

#if canImport(Darwin)
  internal import Darwin
#else
  internal import Glibc
#endif

/// A child process that answers lines: one line in, one line out, until its stdin ends.
///
/// It has a process group of its own, so that what it starts ends with it.
public final class LineProcess: Sendable {
  /// Longest line that is taken from it.
  public static let maximumReplyBytes = 4 << 20
  /// What is kept of its stderr.
  static let maximumErrorBytes = 4096
  /// How long it may take to end once its stdin has.
  static let grace = Duration.seconds(2)
  /// The same once its stdout has ended, so that its exit code is its own.
  static let lastWordsGrace = Duration.milliseconds(500)

  /// The exit code of a process that ended by itself; the cause of the error that says so.
  public struct Exited: Error, Equatable, CustomStringConvertible {
    public var code: Int32
    public var description: String { "exit code \(code)" }
  }

  private struct State {
    /// Bytes behind the last line that was taken.
    var unread: [UInt8] = []
    var errors: [UInt8] = []
    var isEnded = false
  }

  private let command: String
  private let pid: pid_t
  private let input: Int32
  private let output: Int32
  private let error: Int32
  // Held for the whole of an exchange: a process answers one line at a time.
  private let state = Mutex(State())
  private let isReaped = Mutex(false)

  /// Starts `command` with `/bin/sh`.
  ///
  /// - Parameter directory: where it runs; nil: here.
  /// - Throws: `unavailable` if it cannot be started.
  public init(command: String, directory: String?) throws {
    self.command = command
    let (input, output, error) = (try Spawn.makePipe(), try Spawn.makePipe(), try Spawn.makePipe())
    defer { for end in [input.read, output.write, error.write] { close(end) } }
    let script = directory == nil ? ["-c", command] : ["-c", "cd -- \"$0\" && eval \"$1\"", directory ?? "", command]
    do {
      pid = try Spawn.start(
        executable: "/bin/sh", arguments: script, environment: ProcessInfo.processInfo.environment,
        streams: .init(input: input.read, output: output.write, error: error.write))
    } catch {
      for end in [input.write, output.read] { close(end) }
      throw error
    }
    for end in [input.write, output.read, error.read] { _ = fcntl(end, F_SETFL, fcntl(end, F_GETFL) | O_NONBLOCK) }
    (self.input, self.output, self.error) = (input.write, output.read, error.read)
  }

  /// Sends `line` and returns what it answers, both without a line feed. Blocks: not for the cooperative pool.
  ///
  /// - Throws: `unavailable` when it ends, takes longer than `timeout` or answers with more than
  ///   ``maximumReplyBytes``; it must not be asked again then.
  public func ask(_ line: String, timeout: Duration) throws -> String {
    try state.withLock { state in
      guard !state.isEnded else { throw failure("has been stopped", &state) }
      let deadline = ContinuousClock.now + timeout
      var unsent = Array(line.utf8)[...]
      unsent.append(UInt8(ascii: "\n"))
      while true {
        if unsent.isEmpty, let end = state.unread.firstIndex(of: UInt8(ascii: "\n")) {
          let reply = String(decoding: state.unread[..<end], as: UTF8.self)
          state.unread.removeFirst(end + 1)
          return reply
        }
        guard state.unread.count <= Self.maximumReplyBytes else {
          throw failure("answered with a line of more than \(Self.maximumReplyBytes) bytes", &state)
        }
        guard ContinuousClock.now < deadline else {
          throw failure("did not answer within \(timeout.components.seconds) s", &state)
        }
        try exchange(&unsent, &state, until: deadline)
      }
    }
  }

  /// Waits for the process to take or give something, and moves what it can.
  private func exchange(
    _ unsent: inout ArraySlice<UInt8>, _ state: inout State, until deadline: ContinuousClock.Instant
  )
    throws
  {
    var ends = [
      pollfd(fd: output, events: Int16(POLLIN), revents: 0), pollfd(fd: error, events: Int16(POLLIN), revents: 0),
    ]
    if !unsent.isEmpty { ends.append(pollfd(fd: input, events: Int16(POLLOUT), revents: 0)) }
    let left = (deadline - ContinuousClock.now).components
    let milliseconds = min(1000, max(1, left.seconds * 1000 + left.attoseconds / 1_000_000_000_000_000))
    guard poll(&ends, nfds_t(ends.count), Int32(milliseconds)) > 0 else { return }
    // What it said before its end is taken before the end is noticed.
    if ends[1].revents != 0 { _ = Self.read(error, into: &state.errors, keeping: Self.maximumErrorBytes) }
    if ends[0].revents != 0, !Self.read(output, into: &state.unread, keeping: nil) {
      throw failure("ended", &state, grace: Self.lastWordsGrace)
    }
    guard ends.count > 2, ends[2].revents != 0 else { return }
    let count = unsent.withUnsafeBytes { write(input, $0.baseAddress, min($0.count, 65_536)) }
    if count > 0 { unsent = unsent.dropFirst(count) }
    if count < 0, errno != EAGAIN, errno != EINTR {
      throw failure("ended without reading", &state, grace: Self.lastWordsGrace)
    }
  }

  /// Reads what is there. False at the end of the stream.
  private static func read(_ descriptor: Int32, into bytes: inout [UInt8], keeping limit: Int?) -> Bool {
    var buffer = [UInt8](repeating: 0, count: 65_536)
    #if canImport(Darwin)
      let count = Darwin.read(descriptor, &buffer, buffer.count)
    #else
      let count = Glibc.read(descriptor, &buffer, buffer.count)
    #endif
    guard count > 0 else { return count < 0 && (errno == EAGAIN || errno == EINTR) }
    bytes += buffer[..<count]
    if let limit, bytes.count > limit { bytes.removeFirst(bytes.count - limit) }
    return true
  }

  /// The sentence about a process that failed; it is ended.
  private func failure(_ what: String, _ state: inout State, grace: Duration = .zero) -> FusionRouteError {
    // Its last words may come a moment after its output's end.
    var last = pollfd(fd: error, events: Int16(POLLIN), revents: 0)
    while !state.isEnded, poll(&last, 1, 100) > 0,
      Self.read(error, into: &state.errors, keeping: Self.maximumErrorBytes)
    {}
    let words = String(decoding: state.errors, as: UTF8.self)
      .split(whereSeparator: \.isNewline).suffix(3).joined(separator: " / ")
    let exit = end(&state, grace: grace)
    let cause: Exited? = if case .code(let code)? = exit, grace > .zero { Exited(code: code) } else { nil }
    return .unavailable("the command `\(command)` \(what)\(words.isEmpty ? "" : "; it said: \(words)")", cause: cause)
  }

  /// Ends it at once, from any thread; an exchange under way throws.
  public func kill() {
    isReaped.withLock { if !$0 { _ = killGroup(SIGKILL) } }
  }

  /// Ends its stdin, lets it finish, and waits for its end.
  public func stop() { state.withLock { _ = end(&$0, grace: Self.grace) } }

  private func killGroup(_ signal: Int32) -> Int32 {
    #if canImport(Darwin)
      Darwin.kill(-pid, signal)
    #else
      Glibc.kill(-pid, signal)
    #endif
  }

  /// - Returns: how it ended; nil if it had been ended before.
  private func end(_ state: inout State, grace: Duration) -> ProcessExit? {
    guard !state.isEnded else { return nil }
    state.isEnded = true
    close(input)
    let deadline = ContinuousClock.now + grace
    var information = siginfo_t()
    while ContinuousClock.now < deadline {
      // Left for `Spawn.wait`: the group is killed before the leader's pid is free again.
      if waitid(P_PID, id_t(pid), &information, WEXITED | WNOWAIT | WNOHANG) == 0, Self.hasEnded(information) { break }
      usleep(5_000)
    }
    let exit = isReaped.withLock { isReaped in
      _ = killGroup(SIGKILL)
      defer { isReaped = true }
      return Spawn.wait(pid)
    }
    close(output)
    close(error)
    return exit
  }

  private static func hasEnded(_ information: siginfo_t) -> Bool { information.si_signo == SIGCHLD }

  deinit { stop() }
}

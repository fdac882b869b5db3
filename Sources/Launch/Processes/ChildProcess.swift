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
    let input = try Self.makePipe()
    let output = try Self.makePipe()
    defer {
      close(input.read)
      close(output.write)
    }
    do {
      pid = try Self.spawn(
        executable: executable, arguments: arguments, environment: environment, input: input.read, output: output.write)
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
      var status: Int32 = 0
      while waitpid(pid, &status, 0) < 0 && errno == EINTR {}
      isReaped = true
      close(lifeline)
      let signal = status & 0x7F
      return signal == 0 ? .code((status >> 8) & 0xFF) : .signal(signal)
    }
  }

  // MARK: Starting

  private static func makePipe() throws -> (read: Int32, write: Int32) {
    var ends: [Int32] = [-1, -1]
    // Close-on-exec from the start: a write end that another child inherited would hide our end from this one.
    #if canImport(Darwin)
      // POSIX_SPAWN_CLOEXEC_DEFAULT below keeps it from our own children.
      let result = pipe(&ends)
      if result == 0 { for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) } }
    #else
      // Glibc's module lacks pipe2; a socket pair closes on exec atomically too.
      let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
      let result = socketpair(AF_UNIX, type, 0, &ends)
    #endif
    guard result == 0 else {
      throw FusionRouteError.unavailable("cannot make a pipe for a worker process: \(String(cString: strerror(errno)))")
    }
    return (ends[0], ends[1])
  }

  private static func spawn(
    executable: String, arguments: [String], environment: [String: String], input: Int32, output: Int32
  ) throws -> pid_t {
    #if canImport(Darwin)
      var attributes: posix_spawnattr_t?
      var actions: posix_spawn_file_actions_t?
      let platformFlags = Int32(POSIX_SPAWN_CLOEXEC_DEFAULT)
    #else
      var attributes = posix_spawnattr_t()
      var actions = posix_spawn_file_actions_t()
      let platformFlags: Int32 = 0
    #endif
    posix_spawnattr_init(&attributes)
    posix_spawn_file_actions_init(&actions)
    defer {
      posix_spawnattr_destroy(&attributes)
      posix_spawn_file_actions_destroy(&actions)
    }
    var none = sigset_t()
    sigemptyset(&none)
    posix_spawnattr_setsigmask(&attributes, &none)
    var defaults = sigset_t()
    sigemptyset(&defaults)
    for signal in [SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGQUIT, SIGCHLD] { sigaddset(&defaults, signal) }
    posix_spawnattr_setsigdefault(&attributes, &defaults)
    posix_spawnattr_setpgroup(&attributes, 0)
    let flags =
      Int32(POSIX_SPAWN_SETPGROUP) | Int32(POSIX_SPAWN_SETSIGMASK) | Int32(POSIX_SPAWN_SETSIGDEF) | platformFlags
    posix_spawnattr_setflags(&attributes, Int16(truncatingIfNeeded: flags))
    posix_spawn_file_actions_adddup2(&actions, input, 0)
    posix_spawn_file_actions_adddup2(&actions, output, 1)
    posix_spawn_file_actions_adddup2(&actions, output, 2)

    var argv = ([executable] + arguments).map { strdup($0) } + [nil]
    var envp = environment.map { strdup("\($0.key)=\($0.value)") } + [nil]
    defer { for pointer in argv + envp { free(pointer) } }
    var pid: pid_t = 0
    let result = posix_spawn(&pid, executable, &actions, &attributes, &argv, &envp)
    guard result == 0 else {
      throw FusionRouteError.unavailable("cannot start \(executable): \(String(cString: strerror(result)))")
    }
    return pid
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

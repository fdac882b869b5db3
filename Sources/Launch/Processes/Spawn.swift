internal import Core
internal import Foundation

#if canImport(Darwin)
  internal import Darwin
#else
  internal import Glibc
#endif

/// Starts processes with default signals, none blocked, in a process group or session of their own. Nothing but the
/// three given descriptors is handed on.
enum Spawn {
  struct Streams {
    var input: Int32
    var output: Int32
    var error: Int32
  }

  /// Throws `unavailable` if the process cannot be started.
  ///
  /// - Parameter newSession: detached from this process's terminal.
  static func start(
    executable: String, arguments: [String], environment: [String: String], streams: Streams, newSession: Bool = false
  ) throws -> pid_t {
    #if canImport(Darwin)
      var attributes: posix_spawnattr_t?
      var actions: posix_spawn_file_actions_t?
      let platformFlags = Int32(POSIX_SPAWN_CLOEXEC_DEFAULT)
      let session = Int32(POSIX_SPAWN_SETSID)
    #else
      var attributes = posix_spawnattr_t()
      var actions = posix_spawn_file_actions_t()
      let platformFlags: Int32 = 0
      // POSIX_SPAWN_SETSID, which Glibc's module lacks.
      let session: Int32 = 0x80
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
      (newSession ? session : Int32(POSIX_SPAWN_SETPGROUP)) | Int32(POSIX_SPAWN_SETSIGMASK)
      | Int32(POSIX_SPAWN_SETSIGDEF) | platformFlags
    posix_spawnattr_setflags(&attributes, Int16(truncatingIfNeeded: flags))
    posix_spawn_file_actions_adddup2(&actions, streams.input, 0)
    posix_spawn_file_actions_adddup2(&actions, streams.output, 1)
    posix_spawn_file_actions_adddup2(&actions, streams.error, 2)

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

  /// Both ends close on exec from the start: a write end that another child inherited would hide ours from this one.
  static func makePipe() throws -> (read: Int32, write: Int32) {
    var ends: [Int32] = [-1, -1]
    #if canImport(Darwin)
      // POSIX_SPAWN_CLOEXEC_DEFAULT above keeps it from our own children.
      let result = pipe(&ends)
      if result == 0 { for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) } }
    #else
      // Glibc's module lacks pipe2; a socket pair closes on exec atomically too.
      let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
      let result = socketpair(AF_UNIX, type, 0, &ends)
    #endif
    guard result == 0 else {
      throw FusionRouteError.unavailable("cannot make a pipe for a process: \(String(cString: strerror(errno)))")
    }
    return (ends[0], ends[1])
  }

  /// Waits for a child's end. It must not be waited for elsewhere.
  static func wait(_ pid: pid_t) -> ProcessExit {
    var status: Int32 = 0
    while waitpid(pid, &status, 0) < 0 && errno == EINTR {}
    let signal = status & 0x7F
    return signal == 0 ? .code((status >> 8) & 0xFF) : .signal(signal)
  }

  /// Absolute path of a program on `$PATH`; nil if there is none.
  static func find(_ name: String, environment: [String: String]) -> String? {
    if name.contains("/") { return access(name, X_OK) == 0 ? name : nil }
    for folder in (environment["PATH"] ?? "/usr/local/bin:/usr/bin:/bin").split(separator: ":") {
      let path = "\(folder)/\(name)"
      if folder.hasPrefix("/"), access(path, X_OK) == 0 { return path }
    }
    return nil
  }
}

internal import Core
internal import Foundation

#if canImport(Darwin)
  internal import Darwin
#else
  internal import Glibc
#endif

/// `fusionroute workers` in the background of a host: started once however often it is asked for, found and stopped
/// by what its lock says.
public struct BackgroundService: Sendable {
  public enum Outcome: Sendable, Equatable {
    case started(pid: Int32)
    /// It ran already, with these settings.
    case running(pid: Int32)
    /// It ran with other numbers of replicas and has changed them.
    case adjusted(pid: Int32)
    /// It ran with other settings and was replaced.
    case replaced(pid: Int32)
  }

  /// What the process says about itself in its lock.
  public struct Note: Sendable, Equatable, Codable {
    /// Anything that tells one way of running from another.
    public var settings: String
    /// Replicas of each expert that were asked for; empty: as the plan says.
    public var replicas: [String: Int]
    /// How often the numbers were changed or were to be.
    public var changes = 0
    /// Why the last change was refused.
    public var error: String?

    public init(settings: String, replicas: [String: Int]) {
      self.settings = settings
      self.replicas = replicas
    }

    /// JSON.
    public var text: String { (try? JSONEncoder().encode(self)).map { String(decoding: $0, as: UTF8.self) } ?? "" }

    init?(_ text: String) {
      guard let note = try? JSONDecoder().decode(Note.self, from: Data(text.utf8)) else { return nil }
      self = note
    }
  }

  /// Asks the process to look at the numbers of replicas that are wanted.
  public static let adjustSignal = SIGUSR1

  /// A log larger than this is put aside when the service starts.
  private static let maximumLog = 16 << 20
  /// How long the start may take until the process says that it runs.
  private static let startLimit = Duration.seconds(60)
  /// How long a process may take to end beyond its own grace before it is killed.
  private static let stopMargin = Duration.seconds(10)

  public let lockPath: String
  public let logPath: String

  public init(state: StateDirectory, cluster: String, host: String?) {
    lockPath = state.file("workers", cluster: cluster, host: host, suffix: "lock")
    logPath = state.file("workers", cluster: cluster, host: host, suffix: "log")
  }

  /// Starts it unless it runs as `note` says, and returns once it has said so. One that differs in its numbers of
  /// replicas changes them; one that differs in its settings is replaced. Blocks.
  ///
  /// - Parameters:
  ///   - arguments: of `executable`; the process must take the lock and announce `note`.
  ///   - grace: what a process with other settings is given to end.
  /// - Throws: what the process said when it ended instead, with its exit code.
  public func start(executable: String, arguments: [String], note: Note, grace: Duration) throws -> Outcome {
    var isReplaced = false
    if let holder = try ServiceLock.holder(path: lockPath) {
      let own = Note(holder.note)
      // It has only begun to start.
      if holder.note.isEmpty { return .running(pid: holder.pid) }
      if let own, own.settings == note.settings {
        if own.replicas == note.replicas { return .running(pid: holder.pid) }
        return try adjust(holder.pid, own, to: note)
      }
      _ = try stop(grace: grace)
      isReplaced = true
    }
    let (pid, offset) = try spawn(executable, arguments)
    let deadline = ContinuousClock.now + Self.startLimit
    while ContinuousClock.now < deadline {
      let holder = try ServiceLock.holder(path: lockPath)
      if let holder, holder.pid == pid, !holder.note.isEmpty {
        return isReplaced ? .replaced(pid: pid) : .started(pid: pid)
      }
      var status: Int32 = 0
      if waitpid(pid, &status, WNOHANG) == pid {
        // Somebody else started it at the same time.
        if let holder, holder.pid != pid { return .running(pid: holder.pid) }
        throw failure(status: status, since: offset)
      }
      usleep(20_000)
    }
    kill(pid, SIGKILL)
    _ = Spawn.wait(pid)
    throw FusionRouteError.unavailable(
      "the workers did not say within \(Self.startLimit) that they run; see \(logPath)")
  }

  /// What the process that holds `lockPath` is asked to change to; nil if nothing was ever asked.
  public static func wanted(lockPath: String) throws -> Note? {
    FileManager.default.contents(atPath: lockPath + ".wanted").flatMap { Note(String(decoding: $0, as: UTF8.self)) }
  }

  private func adjust(_ pid: Int32, _ old: Note, to note: Note) throws -> Outcome {
    var file = try AtomicFile(path: lockPath + ".wanted", isPrivate: true)
    try file.write(Array(note.text.utf8))
    try file.commit()
    guard kill(pid, Self.adjustSignal) == 0 else {
      throw FusionRouteError.unavailable("cannot signal process \(pid): \(String(cString: strerror(errno)))")
    }
    let deadline = ContinuousClock.now + Self.startLimit
    while ContinuousClock.now < deadline {
      guard let holder = try ServiceLock.holder(path: lockPath), holder.pid == pid else {
        throw FusionRouteError.unavailable("the workers ended while their number was changed; see \(logPath)")
      }
      if let now = Note(holder.note), now.changes != old.changes {
        if let error = now.error { throw FusionRouteError.unavailable(error) }
        if now.replicas == note.replicas { return .adjusted(pid: pid) }
      }
      usleep(20_000)
    }
    throw FusionRouteError.unavailable(
      "the workers did not change their number within \(Self.startLimit); see \(logPath)")
  }

  /// Asks it to end, kills it if it has not after `grace` and some seconds, and returns once it is gone. Blocks.
  ///
  /// - Returns: whether it ran.
  public func stop(grace: Duration) throws -> Bool {
    guard let holder = try ServiceLock.holder(path: lockPath) else { return false }
    guard kill(holder.pid, SIGTERM) == 0 || errno == ESRCH else {
      throw FusionRouteError.unavailable(
        "cannot stop process \(holder.pid), which holds \(lockPath): \(String(cString: strerror(errno)))")
    }
    if try isGone(holder.pid, within: grace + Self.stopMargin) { return true }
    kill(holder.pid, SIGKILL)
    guard try isGone(holder.pid, within: Self.stopMargin) else {
      throw FusionRouteError.unavailable("process \(holder.pid) does not end")
    }
    return true
  }

  private func isGone(_ pid: Int32, within limit: Duration) throws -> Bool {
    let deadline = ContinuousClock.now + limit
    while ContinuousClock.now < deadline {
      if try ServiceLock.holder(path: lockPath)?.pid != pid { return true }
      usleep(20_000)
    }
    return false
  }

  /// Its process id and where its part of the log begins.
  private func spawn(_ executable: String, _ arguments: [String]) throws -> (pid_t, Int) {
    let input = open("/dev/null", O_RDONLY | O_CLOEXEC)
    defer { close(input) }
    var status = stat()
    if stat(logPath, &status) == 0, status.st_size > Self.maximumLog { rename(logPath, logPath + ".old") }
    let log = open(logPath, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard log >= 0 else {
      throw FusionRouteError.unavailable("cannot write \(logPath): \(String(cString: strerror(errno)))")
    }
    defer { close(log) }
    let offset = Int(lseek(log, 0, SEEK_END))
    Self.keepDescriptors()
    let pid = try Spawn.start(
      executable: executable, arguments: arguments, environment: ProcessInfo.processInfo.environment,
      streams: .init(input: input, output: log, error: log), newSession: true)
    return (pid, offset)
  }

  /// Nothing that this process was handed goes on to the background: who holds the other end of a pipe would wait for it.
  private static func keepDescriptors() {
    for name in (try? FileManager.default.contentsOfDirectory(atPath: "/dev/fd")) ?? [] {
      guard let descriptor = Int32(name), descriptor > 2 else { continue }
      let flags = fcntl(descriptor, F_GETFD)
      if flags >= 0 { _ = fcntl(descriptor, F_SETFD, flags | FD_CLOEXEC) }
    }
  }

  private func failure(status: Int32, since offset: Int) -> FusionRouteError {
    let text = FileManager.default.contents(atPath: logPath).map {
      String(decoding: $0.dropFirst(offset), as: UTF8.self)
    }
    let lines = (text ?? "").split(whereSeparator: \.isNewline)
    let said =
      lines.last { $0.hasPrefix(ProcessSupervisor.errorPrefix) }
      .map { String($0.dropFirst(ProcessSupervisor.errorPrefix.count)) }
    let code: FusionRouteError.Code =
      switch (status >> 8) & 0xFF {
      case 64: .usage
      case 65: .badInput
      case 70: .internal
      default: .unavailable
      }
    return FusionRouteError(code, said ?? "the workers ended at once; see \(logPath)")
  }
}

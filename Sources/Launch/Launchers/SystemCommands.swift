internal import Core
internal import Foundation
internal import Synchronization

#if canImport(Darwin)
  internal import Darwin
#else
  internal import Glibc
#endif

/// Runs ``HostCommand``s and shell commands as processes of this machine.
public enum SystemCommands {
  /// Bytes of output that are kept; the rest is read and dropped.
  private static let maximumOutput = 1 << 20

  /// Runs one to its end. When its time is up or the task is cancelled it is killed with its group.
  ///
  /// Throws `unavailable` if it is not installed, cannot be started or takes too long. How it exits is left to the caller.
  public static func run(
    _ command: HostCommand, environment: [String: String]? = nil
  ) async throws -> CommandResult {
    let environment = environment ?? ProcessInfo.processInfo.environment
    guard let path = Spawn.find(command.program, environment: environment) else {
      throw FusionRouteError.unavailable(
        "there is no \(command.program) on PATH, which `\(command.line)` needs: install it here")
    }
    let running = Running()
    return try await onThread(running) { try execute(command, path: path, environment: environment, running) }
  }

  /// Runs a shell command to its end: it reads `input`, its errors go where ours go, and what else it says is dropped.
  /// When its time is up or the task is cancelled it is killed with its group.
  ///
  /// Throws `unavailable` if it cannot be started or takes too long. How it exits is left to the caller.
  public static func runShell(_ script: String, input: String, limit: Duration) async throws -> ProcessExit {
    let running = Running()
    return try await onThread(running) {
      // No pipe, into which somebody would have to write as long as it reads. It may open /dev/stdin besides, which is
      // impossible with a socket pair.
      let source = try file(holding: input)
      let sink = open("/dev/null", O_WRONLY | O_CLOEXEC)
      defer {
        try? source.close()
        if sink >= 0 { close(sink) }
      }
      guard sink >= 0 else {
        throw FusionRouteError.unavailable("cannot open /dev/null: \(String(cString: strerror(errno)))")
      }
      running.began(
        try Spawn.start(
          executable: "/bin/sh", arguments: ["-c", script], environment: ProcessInfo.processInfo.environment,
          streams: .init(input: source.fileDescriptor, output: sink, error: STDERR_FILENO)))
      let timer = timer(running, limit)
      defer { timer.cancel() }
      let (exit, end) = running.ended()
      try check(end, of: script, limit)
      return exit
    }
  }

  /// A file without a name that holds `text`, at its beginning.
  private static func file(holding text: String) throws -> FileHandle {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("fusionroute-\(UUID().uuidString)").path
    let descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else {
      throw FusionRouteError.unavailable("cannot write \(path): \(String(cString: strerror(errno)))")
    }
    unlink(path)
    let file = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
    do {
      try file.write(contentsOf: Data(text.utf8))
      try file.seek(toOffset: 0)
    } catch {
      throw FusionRouteError.unavailable("cannot write \(path)", cause: error)
    }
    return file
  }

  /// Runs `body`, which blocks, on a thread of its own; a cancellation kills what it runs.
  private static func onThread<T: Sendable>(
    _ running: Running, _ body: @escaping @Sendable () throws -> T
  ) async throws -> T {
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        Thread.detachNewThread { continuation.resume(with: Result { try body() }) }
      }
    } onCancel: {
      running.kill(.cancelled)
    }
  }

  /// Kills what runs once its time is up, unless it is cancelled before.
  private static func timer(_ running: Running, _ limit: Duration) -> any DispatchSourceTimer {
    let timer = DispatchSource.makeTimerSource(queue: .global())
    timer.schedule(deadline: .now() + .nanoseconds(Int(limit.nanoseconds)))
    timer.setEventHandler { running.kill(.late) }
    timer.resume()
    return timer
  }

  /// Throws if something else than the command itself has ended it.
  private static func check(_ end: Running.End?, of line: String, _ limit: Duration) throws {
    switch end {
    case .cancelled: throw CancellationError()
    case .late: throw FusionRouteError.unavailable("`\(line)` took longer than \(limit) and was stopped")
    case nil: break
    }
  }

  /// The process while it may be killed.
  private final class Running: Sendable {
    enum End: Sendable { case cancelled, late }
    private let state = Mutex<(pid: pid_t?, end: End?)>((nil, nil))

    func began(_ pid: pid_t) {
      state.withLock { state in
        state.pid = pid
        if state.end != nil { _ = Self.signal(pid) }
      }
    }

    /// Waits for its end without reaping it, so that nobody signals a process id that is free again.
    func ended() -> (exit: ProcessExit, end: End?) {
      guard let pid = state.withLock({ $0.pid }) else { return (.code(70), nil) }
      var information = siginfo_t()
      while waitid(P_PID, id_t(pid), &information, WEXITED | WNOWAIT) != 0 && errno == EINTR {}
      return state.withLock { state in
        state.pid = nil
        return (Spawn.wait(pid), state.end)
      }
    }

    func kill(_ end: End) {
      state.withLock { state in
        if state.end == nil { state.end = end }
        if let pid = state.pid { _ = Self.signal(pid) }
      }
    }

    private static func signal(_ pid: pid_t) -> Int32 {
      #if canImport(Darwin)
        Darwin.kill(-pid, SIGKILL)
      #else
        Glibc.kill(-pid, SIGKILL)
      #endif
    }
  }

  private static func execute(
    _ command: HostCommand, path: String, environment: [String: String], _ running: Running
  ) throws -> CommandResult {
    let (input, output, errors) = (try Spawn.makePipe(), try Spawn.makePipe(), try Spawn.makePipe())
    let pid: pid_t
    do {
      defer { for end in [input.read, output.write, errors.write] { close(end) } }
      pid = try Spawn.start(
        executable: path, arguments: command.arguments, environment: environment,
        streams: .init(input: input.read, output: output.write, error: errors.write))
    } catch {
      for end in [input.write, output.read, errors.read] { close(end) }
      throw error
    }
    running.began(pid)
    let timer = timer(running, command.limit)
    defer { timer.cancel() }
    let collected = Mutex<(output: [UInt8], errors: [UInt8])>(([], []))
    let group = DispatchGroup()
    concurrently(group) { write(Array(command.input.utf8), to: input.write) }
    concurrently(group) {
      let bytes = read(output.read)
      collected.withLock { $0.output = bytes }
    }
    concurrently(group) {
      let bytes = read(errors.read)
      collected.withLock { $0.errors = bytes }
    }
    let (exit, end) = running.ended()
    // What a process it left behind still writes is not waited for.
    _ = group.wait(timeout: .now() + .seconds(2))
    try check(end, of: command.line, command.limit)
    let (out, err) = collected.withLock { $0 }
    return CommandResult(
      exit: exit, output: String(decoding: out, as: UTF8.self), errors: String(decoding: err, as: UTF8.self))
  }

  private static func concurrently(_ group: DispatchGroup, _ body: @escaping @Sendable () -> Void) {
    group.enter()
    Thread.detachNewThread {
      body()
      group.leave()
    }
  }

  /// Closes `descriptor`. A reader that goes away is no error: its exit tells.
  private static func write(_ bytes: [UInt8], to descriptor: Int32) {
    defer { close(descriptor) }
    var done = 0
    while done < bytes.count {
      #if canImport(Darwin)
        let count = bytes[done...].withUnsafeBytes { Darwin.write(descriptor, $0.baseAddress, $0.count) }
      #else
        let count = bytes[done...].withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
      #endif
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else { return }
      done += count
    }
  }

  private static func read(_ descriptor: Int32) -> [UInt8] {
    defer { close(descriptor) }
    var result: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 16_384)
    while true {
      #if canImport(Darwin)
        let count = Darwin.read(descriptor, &buffer, buffer.count)
      #else
        let count = Glibc.read(descriptor, &buffer, buffer.count)
      #endif
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else { return result }
      if result.count < maximumOutput { result += buffer[..<min(count, maximumOutput - result.count)] }
    }
  }
}

internal import Core
internal import Foundation
internal import Synchronization

#if canImport(Darwin)
  internal import Darwin
#else
  internal import Glibc
#endif

/// Runs ``HostCommand``s as processes of this machine.
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
    return try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        Thread.detachNewThread {
          continuation.resume(with: Result { try execute(command, path: path, environment: environment, running) })
        }
      }
    } onCancel: {
      running.kill(.cancelled)
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
    let timer = DispatchSource.makeTimerSource(queue: .global())
    timer.schedule(deadline: .now() + .nanoseconds(Int(command.limit.nanoseconds)))
    timer.setEventHandler { running.kill(.late) }
    timer.resume()
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
    switch end {
    case .cancelled: throw CancellationError()
    case .late:
      throw FusionRouteError.unavailable("`\(command.line)` took longer than \(command.limit) and was stopped")
    case nil: break
    }
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

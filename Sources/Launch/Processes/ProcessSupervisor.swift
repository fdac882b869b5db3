internal import Core
internal import Dispatch
internal import Foundation
internal import Synchronization

#if canImport(Darwin)
  internal import Darwin
#else
  internal import Glibc
#endif

/// Keeps a set of child processes running until it is told to stop, and leaves none behind.
///
/// Each child has a pipe on stdin that ends when this process does, however it does; a child started with
/// `--exit-with-stdin` then ends at once (``ParentWatch``).
public final class ProcessSupervisor: Sendable {
  /// One process to keep running.
  public struct Child: Sendable, Hashable {
    /// Short and unique, for messages: `math.0`.
    public var name: String
    public var arguments: [String]
    /// Added to, or put in place of, this process's environment.
    public var environment: [String: String]

    public init(name: String, arguments: [String], environment: [String: String] = [:]) {
      self.name = name
      self.arguments = arguments
      self.environment = environment
    }
  }

  public enum Event: Sendable {
    case started(name: String, pid: Int32)
    /// A line that it wrote to stdout or stderr.
    case line(name: String, text: String)
    /// It ended. `error` is what it last said after `error: `.
    case ended(name: String, pid: Int32, exit: ProcessExit, error: String?)
    case restarting(name: String, after: Duration)
    /// It ended and is not started again.
    case gaveUp(name: String, exit: ProcessExit, reason: String, error: String?)
  }

  /// What a child's line starts with when it says why it ends.
  public static let errorPrefix = "error: "

  private struct Entry {
    /// Tells it from others that had its name: a restart is for the entry that waits for it, and no later one.
    let id: Int
    var child: Child
    var policy: RestartPolicy
    var process: ChildProcess?
    var startedAt = ContinuousClock.now
    var error: String?
    /// It was told to end for good.
    var isLeaving = false
    /// It ended and is not started again.
    var isGivenUp = false
  }

  private struct State {
    var entries: [String: Entry] = [:]
    var nextID = 0
    var isStopping = false
    var waiters: [CheckedContinuation<Void, Never>] = []
  }

  private let executable: String
  private let limits: RestartPolicy.Limits
  private let grace: Duration
  private let handler: @Sendable (Event) -> Void
  private let origin = ContinuousClock.now
  private let state = Mutex(State())
  private let timers = DispatchQueue(label: "fusionroute.supervisor")

  /// - Parameters:
  ///   - executable: absolute path.
  ///   - grace: how long a child may take from SIGTERM to its end before it is killed.
  ///   - handler: called on background threads, never after ``stop()`` has returned except for late lines.
  public init(
    executable: String, limits: RestartPolicy.Limits = .init(), grace: Duration = .seconds(5),
    handler: @escaping @Sendable (Event) -> Void
  ) {
    self.executable = executable
    self.limits = limits
    self.grace = grace
    self.handler = handler
  }

  deinit {
    for entry in state.withLock({ Array($0.entries.values) }) { entry.process?.send(signal: SIGKILL) }
  }

  /// Starts `child` and keeps it running. Throws `unavailable` if it cannot be started or the supervisor is stopping.
  public func start(_ child: Child) throws {
    let id = try state.withLock { state -> Int in
      guard !state.isStopping else { throw FusionRouteError.unavailable("worker processes are being stopped") }
      guard state.entries[child.name] == nil else {
        throw FusionRouteError.internal("a child process named \"\(child.name)\" is supervised already")
      }
      state.nextID += 1
      state.entries[child.name] = Entry(id: state.nextID, child: child, policy: RestartPolicy(limits: limits))
      return state.nextID
    }
    do { try spawn(child.name, id: id) } catch {
      state.withLock { if $0.entries[child.name]?.id == id { $0.entries[child.name] = nil } }
      throw error
    }
  }

  /// Process ids of the children that run now, by name.
  public var running: [String: Int32] {
    state.withLock { $0.entries.compactMapValues { $0.process?.pid } }
  }

  /// Asks one child to end (SIGTERM) and does not start it again; it is killed if it has not ended after the grace time.
  /// Returns at once. Its name is free again when it has ended.
  public func stop(_ name: String) {
    let process = state.withLock { state -> ChildProcess? in
      guard !state.isStopping, let entry = state.entries[name] else { return nil }
      // Between two runs: there is nothing to wait for.
      if entry.process == nil { state.entries[name] = nil } else { state.entries[name]?.isLeaving = true }
      return entry.process
    }
    guard let process else { return }
    process.send(signal: SIGTERM)
    let deadline = DispatchTime.now() + .nanoseconds(Int(grace.nanoseconds))
    timers.asyncAfter(deadline: deadline) { process.send(signal: SIGKILL) }
  }

  /// Names of the children that are kept running, and of those that were given up.
  public var kept: Set<String> { state.withLock { Set($0.entries.filter { !$0.value.isLeaving }.keys) } }

  /// Names of the children that ended and are not started again.
  public var givenUp: Set<String> { state.withLock { Set($0.entries.filter { $0.value.isGivenUp }.keys) } }

  /// Names that cannot be given to another child now.
  public var taken: Set<String> { state.withLock { Set($0.entries.keys) } }

  /// Asks all children to end (SIGTERM), kills those that have not after the grace time, and returns when all have.
  public func stop() async {
    let processes = beginStopping()
    for process in processes { process.send(signal: SIGTERM) }
    let deadline = DispatchTime.now() + .nanoseconds(Int(grace.nanoseconds))
    timers.asyncAfter(deadline: deadline) { for process in processes { process.send(signal: SIGKILL) } }
    await withCheckedContinuation { continuation in
      let isDone = state.withLock { state in
        if state.entries.values.allSatisfy({ $0.process == nil }) { return true }
        state.waiters.append(continuation)
        return false
      }
      if isDone { continuation.resume() }
    }
  }

  /// Kills all children at once, without waiting.
  public func kill() {
    for process in beginStopping() { process.send(signal: SIGKILL) }
  }

  private func beginStopping() -> [ChildProcess] {
    state.withLock { state in
      state.isStopping = true
      return state.entries.values.compactMap(\.process)
    }
  }

  /// Does nothing if the entry is not there any more.
  private func spawn(_ name: String, id: Int) throws {
    // Spawning under the lock, so that a child that ends at once finds its entry, and stop() sees every child.
    let pid = try state.withLock { state -> Int32? in
      guard !state.isStopping, let entry = state.entries[name], entry.id == id else { return nil }
      let child = entry.child
      var environment = ProcessInfo.processInfo.environment
      environment.merge(child.environment) { $1 }
      let process = try ChildProcess(
        executable: executable, arguments: child.arguments, environment: environment,
        line: { [weak self] in self?.received($0, from: name) },
        ended: { [weak self] in self?.ended(name, pid: $0, exit: $1) })
      state.entries[name]?.process = process
      state.entries[name]?.startedAt = .now
      state.entries[name]?.error = nil
      return process.pid
    }
    if let pid { handler(.started(name: name, pid: pid)) }
  }

  private func received(_ line: String, from name: String) {
    if line.hasPrefix(Self.errorPrefix) {
      state.withLock { $0.entries[name]?.error = String(line.dropFirst(Self.errorPrefix.count)) }
    }
    handler(.line(name: name, text: line))
  }

  private func ended(_ name: String, pid: Int32, exit: ProcessExit) {
    let now = ContinuousClock.now
    let (id, error, decision) = state.withLock { state -> (Int, String?, RestartPolicy.Decision?) in
      guard var entry = state.entries[name] else { return (0, nil, nil) }
      let decision =
        state.isStopping || entry.isLeaving
        ? nil : entry.policy.ended(exit, ran: now - entry.startedAt, now: now - origin)
      if case .giveUp = decision { entry.isGivenUp = true }
      state.entries[name] = entry
      return (entry.id, entry.error, decision)
    }
    handler(.ended(name: name, pid: pid, exit: exit, error: error))
    switch decision {
    case .restart(let wait):
      handler(.restarting(name: name, after: wait))
      finish(name)
      timers.asyncAfter(deadline: .now() + .nanoseconds(Int(wait.nanoseconds))) { [weak self] in
        self?.restart(name, id: id)
      }
    case .giveUp(let reason):
      handler(.gaveUp(name: name, exit: exit, reason: reason, error: error))
      finish(name)
    case nil:
      finish(name)
    }
  }

  /// The process is gone and its end reported.
  private func finish(_ name: String) {
    let waiters = state.withLock { state -> [CheckedContinuation<Void, Never>] in
      state.entries[name]?.process = nil
      if state.entries[name]?.isLeaving == true { state.entries[name] = nil }
      guard state.isStopping, state.entries.values.allSatisfy({ $0.process == nil }) else { return [] }
      defer { state.waiters = [] }
      return state.waiters
    }
    for waiter in waiters { waiter.resume() }
  }

  private func restart(_ name: String, id: Int) {
    do { try spawn(name, id: id) } catch {
      let isThere = state.withLock { state in
        guard state.entries[name]?.id == id else { return false }
        state.entries[name]?.error = "\(error)"
        return true
      }
      // Out of processes or memory: the policy decides as if it had ended at once.
      if isThere { ended(name, pid: 0, exit: .code(69)) }
    }
  }
}

extension Duration {
  /// Whole nanoseconds; saturates.
  var nanoseconds: Int64 {
    let (seconds, attoseconds) = components
    let (product, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
    return overflow ? (seconds < 0 ? .min : .max) : product &+ attoseconds / 1_000_000_000
  }
}

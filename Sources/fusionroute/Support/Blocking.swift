internal import Core
internal import Foundation
internal import Launch
internal import Synchronization

/// Runs blocking work on a thread of its own, so that no thread of the cooperative pool waits.
func onThread<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
  try await withCheckedThrowingContinuation { continuation in
    let thread = Thread { continuation.resume(with: Result { try body() }) }
    // Model loaders and the YAML reader recurse; the default of 512 KB is small.
    thread.stackSize = 8 << 20
    thread.start()
  }
}

/// Runs `body` so that the first Ctrl-C, SIGTERM or SIGHUP cancels it and the second ends the process at once.
///
/// Throws `interrupted` if a signal came, whatever `body` made of the cancellation.
///
/// - Parameter keepsReason: what `body` says of its interruption is told, such as from where it can go on, and what
///   failed meanwhile, such as a checkpoint that could not be written.
func withInterruption<T: Sendable>(
  keepsReason: Bool = false, _ body: @escaping @Sendable () async throws -> T
) async throws -> T {
  let interrupted = Mutex(false)
  let task = Task { try await body() }
  let trap = try SignalTrap { _, count in
    // Children notice by their stdin that this process is gone.
    if count > 1 { _exit(FusionRouteError.Code.interrupted.exitCode) }
    interrupted.withLock { $0 = true }
    task.cancel()
  }
  defer { trap.cancel() }
  let result = await task.result
  if interrupted.withLock({ $0 }) { throw interruption(of: result, keepsReason: keepsReason) }
  return try result.get()
}

/// What is said of an interruption that ended with `result`.
func interruption<T>(of result: Result<T, any Error>, keepsReason: Bool) -> FusionRouteError {
  guard keepsReason, case .failure(let error as FusionRouteError) = result else { return .interrupted("interrupted") }
  return error.code == .interrupted ? error : FusionRouteError(.interrupted, "interrupted", cause: error)
}

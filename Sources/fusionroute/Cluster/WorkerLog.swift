internal import Foundation
internal import Launch
internal import Logging
internal import Synchronization

/// What supervised workers say and how they fare, as log lines of this process.
final class WorkerLog: Sendable {
  private let settings: LogSettings
  private let style = Style(.standardError)
  private let ended = Mutex<(@Sendable (Int32) -> Void)?>(nil)
  private let phase: Mutex<Phase>

  /// What the end of a worker means: a failed start, which is reported as the outcome of the start; an accident; or what
  /// was asked for.
  enum Phase { case starting, running, stopping }

  init(_ settings: LogSettings, phase: Phase) {
    self.settings = settings
    self.phase = Mutex(phase)
  }

  func onEnd(_ call: @escaping @Sendable (Int32) -> Void) { ended.withLock { $0 = call } }

  /// When stopping, nobody is told of ends, and workers' goodbyes are not shown.
  func enter(_ phase: Phase) {
    if phase == .stopping { ended.withLock { $0 = nil } }
    self.phase.withLock { $0 = phase }
  }

  func record(_ event: ProcessSupervisor.Event) {
    let phase = phase.withLock { $0 }
    let logger = settings.logger
    switch event {
    case .started(let name, let pid):
      logger.info("worker started", metadata: ["worker": "\(name)", "pid": "\(pid)"])
    case .line(let name, let text):
      // Why a worker ended is said once, by what supervises it.
      guard !text.hasPrefix(ProcessSupervisor.errorPrefix), phase != .stopping || logger.logLevel <= .debug else {
        return
      }
      let line = settings.format.relayed(text, worker: name, style: style)
      try? FileHandle.standardError.write(contentsOf: Data(line.utf8))
    case .ended(let name, let pid, let exit, let error):
      ended.withLock { $0 }?(pid)
      let level: Logger.Level = phase != .running || exit == .code(0) ? .info : .warning
      logger.log(
        level: level, "worker ended",
        metadata: ["worker": "\(name)", "pid": "\(pid)", "exit": "\(exit)", "reason": "\(error ?? "")"])
    case .restarting(let name, let wait):
      logger.info("worker will be started again", metadata: ["worker": "\(name)", "after": "\(wait)"])
    case .gaveUp(let name, _, let reason, let error):
      // While the cluster starts, this is the error that the command ends with.
      logger.log(
        level: phase == .running ? .error : .debug, "worker was given up",
        metadata: ["worker": "\(name)", "reason": "\(reason)", "error": "\(error ?? "")"])
    }
  }
}

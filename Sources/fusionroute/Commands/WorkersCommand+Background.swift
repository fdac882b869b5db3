internal import ArgumentParser
internal import Core
internal import Foundation
internal import Launch
internal import Synchronization

/// `--detach` and `--stop`: what ssh runs on a host.
extension WorkersCommand {
  /// Prints `started PID`, `running PID`, `adjusted PID`, `replaced PID`, `stopped` or `not running`.
  ///
  /// - Parameter grace: what a process that is to end is given.
  func inBackground(grace: Duration) async throws {
    let path = URL(fileURLWithPath: cluster).standardizedFileURL.path
    let service = BackgroundService(state: try StateDirectory(), cluster: path, host: host)
    if stop {
      let ran = try await onThread { try service.stop(grace: grace) }
      print(ran ? "stopped" : "not running")
      return
    }
    let (arguments, note) = (arguments(cluster: path, lock: service.lockPath, counts: counts), note())
    let executable = try Executable.path()
    let outcome = try await onThread {
      try service.start(executable: executable, arguments: arguments, note: note, grace: grace)
    }
    switch outcome {
    case .started(let pid): print("started \(pid)")
    case .running(let pid): print("running \(pid)")
    case .adjusted(let pid): print("adjusted \(pid)")
    case .replaced(let pid): print("replaced \(pid)")
    }
  }

  /// This command again, in the foreground of the background process.
  private func arguments(cluster path: String, lock: String, counts: [ReplicaCount]) -> [String] {
    var arguments = ["workers", "-c", path, "--lock", lock]
    if let host { arguments += ["--host", host] }
    if let keys { arguments += ["--keys", URL(fileURLWithPath: keys).standardizedFileURL.path] }
    if let key { arguments += ["--key", key] }
    for count in counts { arguments += ["--replicas", "\(count.expert)=\(count.count)"] }
    if let level = output.logLevel { arguments += ["--log-level", level.level.rawValue] }
    if let format = output.logFormat { arguments += ["--log-format", format.rawValue] }
    return arguments
  }

  /// What the process says about itself: the options, the cluster file's contents and this program's version in a hash,
  /// and the numbers of replicas, which can be changed.
  private func note() -> BackgroundService.Note {
    let contents = FileManager.default.contents(atPath: cluster) ?? Data()
    let path = URL(fileURLWithPath: cluster).standardizedFileURL.path
    // Whether they are given at all matters: otherwise the plan decides.
    let parts = arguments(cluster: path, lock: "", counts: []) + ["\(counts.isEmpty)", Software.version]
    let text = parts.joined(separator: "\0") + "\0"
    return BackgroundService.Note(
      settings: SHA256Digest(hashing: Array(text.utf8) + Array(contents)).hex,
      replicas: Dictionary(uniqueKeysWithValues: counts.map { ($0.expert, $0.count) }))
  }

  /// Announces that the workers run, and changes their number when it is asked to.
  func adjuster(of workers: HostWorkers, held: ServiceLock, log: LogSettings) throws -> SignalTrap {
    let initial = note()
    let current = Mutex(initial)
    let lock = lock ?? ""
    let trap = try SignalTrap([BackgroundService.adjustSignal]) { _, _ in
      var note = current.withLock { $0 }
      defer { current.withLock { [note] in $0 = note } }
      do {
        guard let wanted = try BackgroundService.wanted(lockPath: lock), wanted.settings == note.settings else {
          return
        }
        try workers.adjust(to: wanted.replicas.map { ReplicaCount(expert: $0.key, count: $0.value) })
        log.logger.notice("replicas changed", metadata: ["replicas": "\(wanted.replicas)"])
        note.error = nil
        note.replicas = wanted.replicas
      } catch {
        log.logger.error("replicas not changed", metadata: ["error": "\(error)"])
        note.error = "\(error)"
      }
      note.changes += 1
      try? held.announce(note.text)
    }
    // Only now may somebody signal: before, that would have ended the process.
    try held.announce(initial.text)
    return trap
  }
}

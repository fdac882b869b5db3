internal import ArgumentParser
internal import Core
internal import Foundation
internal import Launch

struct DownCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "down",
    abstract: "Stop what `up` of a cluster file has started, here and on other hosts.",
    discussion: """
      Asks a running `up` to end in order and then stops the hosts that it has started, from its notes: also after it \
      was killed, and whatever became of the cluster file since. Nothing to stop is no error, unless there is no such \
      file either (65). Ends with 69 if a host could not be stopped; it stays noted, and another `down` tries again.
      """)

  @Option(name: [.short, .long], help: ArgumentHelp("The cluster file that `up` was given.", valueName: "file"))
  var cluster: String

  @Option(help: ArgumentHelp("How long a running `up` may take to end before it is killed.", valueName: "duration"))
  var wait: DurationArgument = .init(.seconds(60))

  @OptionGroup(title: "Output") var output: OutputOptions

  func run() async throws {
    let log = output.bootstrap(default: .info)
    let files = try UpFiles(cluster: URL(fileURLWithPath: cluster).standardizedFileURL.path)
    try await withInterruption { [self] in
      let wasUp = try await endUp(files, log)
      // From now on no other `up` begins.
      let lock = try ServiceLock(path: files.lock)
      defer { withExtendedLifetime(lock) {} }
      let events = FleetLog(logger: log.logger)
      let fleet = try Fleet(
        path: files.state, cluster: URL(fileURLWithPath: cluster).standardizedFileURL.path,
        report: { events.record($0) })
      if !wasUp, await fleet.records.isEmpty {
        // Most likely another file is up than the one that was typed.
        guard FileManager.default.fileExists(atPath: cluster) else {
          throw FusionRouteError.badInput("nothing is up by the name of \(cluster), and there is no such file")
        }
        log.logger.notice("nothing of this cluster is up")
      }
      if let failure = await fleet.stop().first { throw failure }
    }
  }

  /// Whether there was an `up` to end.
  private func endUp(_ files: UpFiles, _ log: LogSettings) async throws -> Bool {
    guard let holder = try ServiceLock.holder(path: files.lock) else { return false }
    log.logger.info("stopping up", metadata: ["pid": "\(holder.pid)"])
    for (signal, limit) in [(SIGTERM, wait.duration), (SIGKILL, .seconds(10))] {
      guard kill(holder.pid, signal) == 0 || errno == ESRCH else {
        throw FusionRouteError.unavailable(
          "cannot stop process \(holder.pid), which has the cluster up: \(String(cString: strerror(errno)))")
      }
      let deadline = ContinuousClock.now + limit
      while ContinuousClock.now < deadline {
        guard try ServiceLock.holder(path: files.lock)?.pid == holder.pid else { return true }
        try await Task.sleep(for: .milliseconds(50))
      }
    }
    throw FusionRouteError.unavailable("process \(holder.pid), which has the cluster up, does not end")
  }
}

internal import ArgumentParser
internal import Core
internal import Foundation
internal import Launch

/// `--replicas EXPERT=COUNT`.
struct ReplicaCount: ExpressibleByArgument, Equatable {
  static let range = 1...1024

  let expert: String
  let count: Int

  init?(argument: String) {
    guard let equals = argument.lastIndex(of: "="), let count = Int(argument[argument.index(after: equals)...]),
      Self.range.contains(count), ClusterFile.isValidName(String(argument[..<equals]))
    else { return nil }
    expert = String(argument[..<equals])
    self.count = count
  }
}

/// `--detach` and `--stop`: what ssh runs on a host.
extension WorkersCommand {
  /// Prints `started PID`, `running PID`, `replaced PID`, `stopped` or `not running`.
  func inBackground(_ file: ClusterFile) async throws {
    let path = URL(fileURLWithPath: cluster).standardizedFileURL.path
    let service = BackgroundService(state: try StateDirectory(), cluster: path, host: host)
    let grace = file.supervision.grace
    if stop {
      let ran = try await onThread { try service.stop(grace: grace) }
      print(ran ? "stopped" : "not running")
      return
    }
    let (arguments, settings) = (arguments(cluster: path, lock: service.lockPath), settings())
    let executable = try Executable.path()
    let outcome = try await onThread {
      try service.start(executable: executable, arguments: arguments, settings: settings, grace: grace)
    }
    switch outcome {
    case .started(let pid): print("started \(pid)")
    case .running(let pid): print("running \(pid)")
    case .replaced(let pid): print("replaced \(pid)")
    }
  }

  /// This command again, in the foreground of the background process.
  private func arguments(cluster path: String, lock: String) -> [String] {
    var arguments = ["workers", "-c", path, "--lock", lock]
    if let host { arguments += ["--host", host] }
    if let keys { arguments += ["--keys", URL(fileURLWithPath: keys).standardizedFileURL.path] }
    if let key { arguments += ["--key", key] }
    for count in counts { arguments += ["--replicas", "\(count.expert)=\(count.count)"] }
    if let level = output.logLevel { arguments += ["--log-level", level.level.rawValue] }
    if let format = output.logFormat { arguments += ["--log-format", format.rawValue] }
    return arguments
  }

  /// What tells one way of running from another: the options, the cluster file's contents and this program's version.
  func settings() -> String {
    let contents = FileManager.default.contents(atPath: cluster) ?? Data()
    let parts = arguments(cluster: URL(fileURLWithPath: cluster).standardizedFileURL.path, lock: "")
    let text = parts.joined(separator: "\0") + "\0" + Software.version
    return SHA256Digest(hashing: Array(text.utf8) + Array(contents)).hex
  }
}

internal import Core
public import Foundation

/// Where this user's commands note what they have started, so that others find and stop it.
public struct StateDirectory: Sendable {
  /// Absolute path; only this user may enter.
  public let path: String

  /// `$FUSIONROUTE_STATE`, else `$XDG_STATE_HOME/fusionroute`, else `~/.local/state/fusionroute`. Made if missing.
  /// Throws `unavailable` if it cannot be made.
  public init(environment: [String: String] = ProcessInfo.processInfo.environment) throws {
    let base: String
    if let own = environment["FUSIONROUTE_STATE"], !own.isEmpty {
      base = URL(fileURLWithPath: own).standardizedFileURL.path
    } else if let xdg = environment["XDG_STATE_HOME"], xdg.hasPrefix("/") {
      base = "\(xdg)/fusionroute"
    } else if let home = environment["HOME"], home.hasPrefix("/") {
      base = "\(home)/.local/state/fusionroute"
    } else {
      base = FileManager.default.homeDirectoryForCurrentUser.appendingPathComponent(".local/state/fusionroute").path
    }
    path = base
    do {
      try FileManager.default.createDirectory(
        atPath: base, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    } catch {
      throw FusionRouteError.unavailable(
        "cannot make the directory \(base) for what is running: set FUSIONROUTE_STATE to a directory you can write to",
        cause: error)
    }
  }

  /// A file for one cluster: `up-9f86d081884c7d65.json`.
  public func file(_ kind: String, cluster: String, host: String? = nil, suffix: String) -> String {
    "\(path)/\(kind)-\(Self.id(ofCluster: cluster))\(host.map { "-\($0)" } ?? "").\(suffix)"
  }

  /// 16 hexadecimal digits that stand for a cluster file: its absolute path's hash.
  public static func id(ofCluster path: String) -> String {
    let absolute = URL(fileURLWithPath: path).standardizedFileURL.resolvingSymlinksInPath().path
    return String(SHA256Digest(hashing: Array(absolute.utf8)).hex.prefix(16))
  }
}

internal import Core
public import Foundation

#if canImport(Darwin)
  internal import Darwin
#else
  internal import Glibc
#endif

/// A short-lived private directory for the sockets of one run, with a path short enough for a socket.
public final class RuntimeDirectory: Sendable {
  /// Absolute path.
  public let path: String

  /// Makes a directory that only this user may enter, under `$XDG_RUNTIME_DIR`, `$TMPDIR` or `/tmp`, and removes those
  /// that runs of this user left behind when they were killed. Throws `unavailable` if none can be made.
  public init(environment: [String: String] = ProcessInfo.processInfo.environment) throws {
    let parents = [environment["XDG_RUNTIME_DIR"], environment["TMPDIR"], "/tmp"].compactMap { $0 }
      .filter { $0.hasPrefix("/") && $0.utf8.count <= Endpoint.maximumPathBytes - 40 }
    for parent in parents {
      Self.removeLeftOvers(in: parent)
      var template = Array("\(parent)/\(Self.prefix)\(getpid())-XXXXXX".utf8CString)
      // mkdtemp makes it with mode 0700 and never follows what is there already.
      guard let made = mkdtemp(&template) else { continue }
      path = String(cString: made)
      return
    }
    throw FusionRouteError.unavailable(
      "cannot make a directory for sockets in \(parents.joined(separator: ", ")): set TMPDIR to a directory with a "
        + "short path that you can write to")
  }

  /// An ipc endpoint in it.
  public func endpoint(_ name: String) -> Endpoint { .ipc(path: "\(path)/\(name)") }

  /// Removes it with all it holds.
  public func remove() { try? FileManager.default.removeItem(atPath: path) }

  deinit { remove() }

  private static let prefix = "fusionroute-"

  private static func removeLeftOvers(in parent: String) {
    guard let names = try? FileManager.default.contentsOfDirectory(atPath: parent) else { return }
    for name in names where name.hasPrefix(prefix) {
      let parts = name.dropFirst(prefix.count).split(separator: "-")
      guard parts.count == 2, let pid = Int32(parts[0]), pid > 0, kill(pid, 0) != 0, errno == ESRCH else { continue }
      var status = stat()
      let path = "\(parent)/\(name)"
      guard lstat(path, &status) == 0, status.st_uid == getuid(), status.st_mode & S_IFMT == S_IFDIR else { continue }
      try? FileManager.default.removeItem(atPath: path)
    }
  }
}

/// Where this program itself is.
public enum Executable {
  /// Absolute path of the running program. Throws `internal` where the system does not tell.
  public static func path() throws -> String {
    if let path = Bundle.main.executablePath, path.hasPrefix("/") { return path }
    throw FusionRouteError.internal("cannot find the path of the running program")
  }
}

internal import Core
internal import Foundation
internal import Launch

/// Held by the one process that writes a result; a second one would write over what the first has done.
enum ResultLock {
  /// Holds `path`, a lock file that is made if missing. Throws `.unavailable` if another process holds it.
  static func take(_ path: String) throws -> ServiceLock {
    do { return try ServiceLock(path: path) } catch let error as FusionRouteError {
      throw FusionRouteError(
        error.code, "\(error.message): have the results written elsewhere, or wait for whoever writes there",
        cause: error.cause)
    }
  }

  /// Holds what is written into a folder, which is made if missing.
  static func take(folder: String, name: String = ".lock") throws -> ServiceLock {
    do { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) } catch {
      throw FusionRouteError.unavailable("cannot create the directory \(folder)", cause: error)
    }
    return try take("\(folder)/\(name)")
  }

  /// Holds a file, and what is kept beside it under its name.
  static func take(file: String) throws -> ServiceLock {
    let parts = file.split(separator: "/", omittingEmptySubsequences: false)
    return try take((parts.dropLast() + [".\(parts.last ?? "").lock"]).joined(separator: "/"))
  }
}

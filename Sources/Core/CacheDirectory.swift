public import Foundation

/// Where fetched models, fingerprints and self-test results are kept between runs.
public enum CacheDirectory {
  /// `$FUSIONROUTE_CACHE`, else `$XDG_CACHE_HOME/fusionroute`, else `~/.cache/fusionroute`. Made if missing.
  public static func url(environment: [String: String] = ProcessInfo.processInfo.environment) throws -> URL {
    let base: URL
    if let own = environment["FUSIONROUTE_CACHE"], !own.isEmpty {
      base = URL(fileURLWithPath: own)
    } else if let xdg = environment["XDG_CACHE_HOME"], xdg.hasPrefix("/") {
      base = URL(fileURLWithPath: xdg).appendingPathComponent("fusionroute")
    } else if let home = environment["HOME"], home.hasPrefix("/") {
      // Foundation's home directory is the password file's, whatever HOME says.
      base = URL(fileURLWithPath: home).appendingPathComponent(".cache/fusionroute")
    } else {
      base = FileManager.default.homeDirectoryForCurrentUser.appendingPathComponent(".cache/fusionroute")
    }
    do {
      try FileManager.default.createDirectory(at: base, withIntermediateDirectories: true)
    } catch {
      throw FusionRouteError.unavailable(
        "cannot create the cache directory \(base.path): set FUSIONROUTE_CACHE to a directory you can write to",
        cause: error)
    }
    return base
  }
}

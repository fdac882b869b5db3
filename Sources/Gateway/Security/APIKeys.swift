internal import Core
internal import Logging
internal import Synchronization

#if canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#else
  internal import Darwin
#endif

/// The keys of a file, read again when the file changes, so that a revoked key is shut out at once.
final class APIKeys: Sendable {
  /// What tells one state of the file from another.
  private struct Stamp: Equatable {
    var device: UInt64
    var inode: UInt64
    var size: Int64
    var seconds: Int
    var nanoseconds: Int

    init?(_ path: String) {
      var status = stat()
      guard stat(path, &status) == 0 else { return nil }
      (device, inode, size) = (UInt64(status.st_dev), UInt64(status.st_ino), Int64(status.st_size))
      #if canImport(Darwin)
        (seconds, nanoseconds) = (status.st_mtimespec.tv_sec, status.st_mtimespec.tv_nsec)
      #else
        (seconds, nanoseconds) = (status.st_mtim.tv_sec, status.st_mtim.tv_nsec)
      #endif
    }
  }

  private struct State {
    var keys: [(digest: SHA256Digest, name: String)]
    var stamp: Stamp?
  }

  private let path: String
  private let logger: Logger
  private let state: Mutex<State>

  /// Throws `badInput` naming the file and line.
  init(path: String, logger: Logger) throws {
    self.path = path
    self.logger = logger
    // The stamp before the file: a change in between is then noticed.
    let stamp = Stamp(path)
    state = Mutex(State(keys: try Self.load(path), stamp: stamp))
  }

  private static func load(_ path: String) throws -> [(digest: SHA256Digest, name: String)] {
    try APIKeyFile.load(path).namesByDigest.map { ($0.key, $0.value) }
  }

  /// The key's name; nil if there is no such key. Takes the same time whichever key it is, and however much of one is
  /// right.
  func name(of key: String) -> String? {
    let digest = SHA256Digest(hashing: key.utf8).bytes
    return current().reduce(nil) { found, entry in
      let difference = entry.digest.withUnsafeBytes { bytes in
        zip(bytes, digest).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) }
      }
      return difference == 0 ? entry.name : found
    }
  }

  /// Whether a key of that name may be used now.
  func has(name: String) -> Bool { current().contains { $0.name == name } }

  /// A file that cannot be read, or has a bad line, changes nothing: whoever edits it must not shut everybody out.
  private func current() -> [(digest: SHA256Digest, name: String)] {
    state.withLock { state in
      let stamp = Stamp(path)
      guard stamp != state.stamp else { return state.keys }
      state.stamp = stamp
      do {
        state.keys = try Self.load(path)
        logger.info("API keys read", metadata: ["file": "\(path)", "keys": "\(state.keys.count)"])
      } catch {
        logger.error("API keys not read, the old ones stay", metadata: ["file": "\(path)", "error": "\(error)"])
      }
      return state.keys
    }
  }
}

internal import Core

#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// One Z85 key in a file.
enum KeyFile {
  /// Largest file read: a key, a newline and room for a comment.
  static let maximumBytes = 1_024
  /// Largest file of the allow-list: a key and the names of experts.
  static let maximumEntryBytes = 1 << 17

  static func exists(_ path: String) -> Bool {
    var status = stat()
    return lstat(path, &status) == 0
  }

  /// 40 characters of the Z85 alphabet (RFC 32).
  static func isKey(_ text: String) -> Bool {
    text.utf8.count == Keys.keyLength && text.utf8.allSatisfy(alphabet.contains)
  }

  private static let alphabet = Set(
    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#".utf8)

  /// The key in a file.
  ///
  /// - Parameter isSecret: refuse a file that others than its owner can read or write.
  /// - Throws: `.badInput` if it is missing, unreadable, no key, or open to others.
  static func load(_ path: String, isSecret: Bool) throws -> String {
    let text = try contents(path, isSecret: isSecret, maximumBytes: maximumBytes)
    let lines = text.split(whereSeparator: \.isNewline).map { $0.filter { $0 != " " && $0 != "\t" } }
    guard lines.count == 1, isKey(lines[0]) else { throw noKey(path) }
    return lines[0]
  }

  /// An entry of the allow-list.
  ///
  /// - Throws: `.badInput` if the file is missing, unreadable, no entry, or if everyone may write it.
  static func loadEntry(_ path: String, name: String) throws -> AllowedKey {
    let text = try contents(path, isSecret: false, maximumBytes: maximumEntryBytes, isEntry: true)
    do { return try AllowedKey(name: name, parsing: text) } catch let error as FusionRouteError {
      throw FusionRouteError.badInput("the allowed key \(path): \(error.message)")
    }
  }

  private static func noKey(_ path: String) -> FusionRouteError {
    .badInput("the key file \(path) does not hold one key of \(Keys.keyLength) Z85 characters")
  }

  private static func contents(
    _ path: String, isSecret: Bool, maximumBytes: Int, isEntry: Bool = false
  ) throws -> String {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else {
      throw FusionRouteError.badInput("cannot read the key file \(path): \(reason())")
    }
    defer { _ = close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
      throw FusionRouteError.badInput("the key file \(path) is not a regular file")
    }
    if isSecret, status.st_mode & 0o077 != 0 {
      throw FusionRouteError.badInput(
        "the secret key \(path) can be read by others than its owner: run `chmod 600 \(path)`, and make a new key if "
          + "someone may have read it")
    }
    if isEntry, status.st_mode & 0o002 != 0 {
      throw FusionRouteError.badInput("the allowed key \(path) can be written by everyone: run `chmod o-w \(path)`")
    }
    var bytes = [UInt8](repeating: 0, count: min(maximumBytes, max(0, Int(clamping: status.st_size)) + 1))
    let count = bytes.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
    guard count >= 0, count < maximumBytes else { throw noKey(path) }
    return String(decoding: bytes.prefix(count), as: UTF8.self)
  }

  /// Writes a key and a line feed so that the file is either not there or whole.
  ///
  /// - Throws: `.badInput` if it exists and `force` is false, `.unavailable` if it cannot be written.
  static func store(_ key: String, to path: String, mode: mode_t, force: Bool) throws {
    try store(text: key + "\n", to: path, mode: mode, force: force)
  }

  /// The same for a whole file's text.
  static func store(text: String, to path: String, mode: mode_t, force: Bool) throws {
    let temporary = "\(path).\(getpid()).tmp"
    _ = unlink(temporary)
    let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)
    guard descriptor >= 0 else { throw unwritable(path) }
    defer { _ = unlink(temporary) }
    let line = Array(text.utf8)
    // fchmod: the umask may have taken bits from a public key.
    let isWritten =
      write(descriptor, line, line.count) == line.count && fchmod(descriptor, mode) == 0
      && fsync(descriptor) == 0
    guard close(descriptor) == 0, isWritten else { throw unwritable(path) }
    // link fails if the target exists, rename replaces it.
    guard (force ? rename(temporary, path) : link(temporary, path)) == 0 else {
      if errno == EEXIST {
        throw FusionRouteError.badInput("\(path) exists already; use --force to replace it")
      }
      throw unwritable(path)
    }
  }

  /// Makes a folder that only its owner can enter, unless it exists.
  static func makeFolder(_ path: String) throws {
    guard mkdir(path, 0o700) != 0, errno != EEXIST else { return }
    throw FusionRouteError.unavailable("cannot make the directory \(path): \(reason())")
  }

  /// False if there was no such file.
  static func remove(_ path: String) throws -> Bool {
    if unlink(path) == 0 { return true }
    if errno == ENOENT { return false }
    throw FusionRouteError.unavailable("cannot remove \(path): \(reason())")
  }

  private static func unwritable(_ path: String) -> FusionRouteError {
    .unavailable("cannot write the key file \(path): \(reason())")
  }

  private static func reason() -> String { String(cString: strerror(errno)) }
}

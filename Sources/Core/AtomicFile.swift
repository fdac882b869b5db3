#if canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#else
  internal import Darwin
#endif

/// A file that appears under its name only when it is complete: written beside it, synced, renamed. Errors are
/// `.unavailable`.
public struct AtomicFile: ~Copyable {
  private let path: String
  private let temporary: String
  private let descriptor: Int32
  public private(set) var written = 0

  /// - Parameter isPrivate: only its owner may read it; otherwise the umask decides.
  public init(path: String, isPrivate: Bool = false) throws {
    self.path = path
    var random = SystemRandomNumberGenerator()
    temporary = "\(path).\(getpid()).\(random.next() as UInt32).partial"
    descriptor = openFile(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, isPrivate ? 0o600 : 0o644)
    guard descriptor >= 0 else { throw Self.error("cannot write", path) }
  }

  public mutating func write(_ bytes: UnsafeRawBufferPointer) throws {
    guard var base = bytes.baseAddress else { return }
    var left = bytes.count
    while left > 0 {
      #if canImport(Darwin)
        let count = Darwin.write(descriptor, base, min(left, 1 << 30))
      #elseif canImport(Musl)
        let count = Musl.write(descriptor, base, min(left, 1 << 30))
      #else
        let count = Glibc.write(descriptor, base, min(left, 1 << 30))
      #endif
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { throw Self.error("cannot write", path) }
      base += count
      left -= count
      written += count
    }
  }

  public mutating func write(_ bytes: [UInt8]) throws {
    try bytes.withUnsafeBytes { try write($0) }
  }

  /// Zero bytes up to the next multiple of `alignment`.
  public mutating func pad(to alignment: Int) throws {
    let rest = written % alignment
    if rest != 0 { try write([UInt8](repeating: 0, count: alignment - rest)) }
  }

  /// Makes the contents durable and gives the file its name.
  public consuming func commit() throws {
    guard fsync(descriptor) == 0 else { throw Self.error("cannot write", path) }
    try Self.replace(path, with: temporary)
  }

  /// Makes the contents of `temporary` durable, a file that something else has written beside `path`, and gives it that
  /// name.
  public static func commit(_ temporary: String, as path: String) throws {
    let descriptor = openFile(temporary, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw error("cannot write", path) }
    defer { close(descriptor) }
    guard fsync(descriptor) == 0 else { throw error("cannot write", path) }
    try replace(path, with: temporary)
  }

  /// The name is durable too.
  private static func replace(_ path: String, with temporary: String) throws {
    guard rename(temporary, path) == 0 else { throw error("cannot replace", path) }
    let directory = openFile(Self.directory(of: path), O_RDONLY | O_CLOEXEC)
    if directory >= 0 {
      // Best effort: some file systems refuse to sync a directory.
      _ = fsync(directory)
      close(directory)
    }
  }

  deinit {
    if descriptor >= 0 { close(descriptor) }
    unlink(temporary)
  }

  static func directory(of path: String) -> String {
    guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }

  private static func error(_ what: String, _ path: String) -> FusionRouteError {
    FusionRouteError.unavailable("\(what) \(path): \(String(cString: strerror(errno)))")
  }
}

/// `open` is variadic in C; this names the forms used here.
func openFile(_ path: String, _ flags: Int32, _ mode: mode_t = 0) -> Int32 { open(path, flags, mode) }

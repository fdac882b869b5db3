#if canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#else
  internal import Darwin
#endif

/// A file of API keys on disk.
public enum APIKeyFile {
  /// Bytes that such a file may have.
  public static let maximumBytes = 2 << 20

  /// Throws `badInput` naming the file, and the line where one is wrong.
  public static func load(_ path: String) throws -> APIKeyList {
    let descriptor = openFile(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else {
      throw FusionRouteError.badInput("cannot read the file of API keys \(path): \(String(cString: strerror(errno)))")
    }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_size <= maximumBytes else {
      throw FusionRouteError.badInput(
        "the file of API keys \(path) is no regular file of at most \(maximumBytes) bytes")
    }
    var bytes = [UInt8](repeating: 0, count: Int(status.st_size))
    var count = 0
    while count < bytes.count {
      let got = bytes.withUnsafeMutableBytes { read(descriptor, $0.baseAddress.map { $0 + count }, $0.count - count) }
      if got < 0, errno == EINTR { continue }
      guard got > 0 else { break }
      count += got
    }
    guard let text = String(validating: bytes.prefix(count), as: UTF8.self) else {
      throw FusionRouteError.badInput("the file of API keys \(path) is not valid UTF-8")
    }
    do { return try APIKeyList(parsing: text) } catch let error as FusionRouteError {
      throw FusionRouteError.badInput("the file of API keys \(path): \(error.message)")
    }
  }

  /// Changes the file, which readers see either as it was or as it becomes; changes of other processes wait. The file
  /// is readable by its owner alone.
  ///
  /// - Parameter create: whether a file that is not there counts as empty.
  public static func update<R>(_ path: String, create: Bool, _ change: (inout APIKeyList) throws -> R) throws -> R {
    // The folder is locked, not the file: the file's inode changes with every change.
    let folder = AtomicFile.directory(of: path)
    let lock = openFile(folder, O_RDONLY | O_CLOEXEC)
    guard lock >= 0 else {
      throw FusionRouteError.badInput("cannot write \(path): \(folder): \(String(cString: strerror(errno)))")
    }
    defer { close(lock) }
    while flock(lock, LOCK_EX) != 0, errno == EINTR {}
    var list = create && access(path, F_OK) != 0 ? APIKeyList() : try load(path)
    let result = try change(&list)
    var file = try AtomicFile(path: path, isPrivate: true)
    try file.write(Array(list.text.utf8))
    try file.commit()
    return result
  }
}

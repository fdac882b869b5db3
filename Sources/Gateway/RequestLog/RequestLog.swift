internal import Core
internal import Dispatch
internal import Logging
internal import Synchronization

#if canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#else
  internal import Darwin
#endif

/// A file to which requests and what came of them are appended, a line of JSON each, for `fusionroute replay`.
///
/// It holds what people asked, so only its owner can read it.
final class RequestLog: Sendable {
  private let path: String
  private let descriptor: Int32
  private let logger: Logger
  private let queue = DispatchQueue(label: "request log")
  private let waiting = Atomic(0)
  private let lost = Atomic(0)

  /// Throws `badInput` if the file cannot be written, or others than its owner can read it.
  init(path: String, logger: Logger) throws {
    self.path = path
    self.logger = logger
    let descriptor = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard descriptor >= 0 else {
      throw FusionRouteError.badInput("cannot write the request log \(path): \(String(cString: strerror(errno)))")
    }
    var status = stat()
    guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_mode & 0o077 == 0 else {
      close(descriptor)
      throw FusionRouteError.badInput(
        "the request log \(path) is no regular file that its owner alone can read: run `chmod 600 \(path)`")
    }
    self.descriptor = descriptor
  }

  deinit { close(descriptor) }

  /// Lines dropped: the disk was slower than requests came, or refused them.
  var lostLines: Int { lost.load(ordering: .relaxed) }

  /// Appends a line, soon; never waits for the disk.
  func write(_ line: [UInt8]) {
    guard waiting.add(1, ordering: .relaxed).newValue <= GatewayLimits.logQueue else {
      waiting.subtract(1, ordering: .relaxed)
      lost.add(1, ordering: .relaxed)
      return
    }
    queue.async { [self] in
      defer { waiting.subtract(1, ordering: .relaxed) }
      if !append(line + [0x0A]) {
        lost.add(1, ordering: .relaxed)
        logger.error(
          "request log not written", metadata: ["file": "\(path)", "error": "\(String(cString: strerror(errno)))"])
      }
    }
  }

  /// Waits for the lines written so far.
  func flush() { queue.sync {} }

  private func append(_ bytes: [UInt8]) -> Bool {
    var rest = bytes[...]
    while !rest.isEmpty {
      #if canImport(Glibc)
        let count = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      #elseif canImport(Musl)
        let count = rest.withUnsafeBytes { Musl.write(descriptor, $0.baseAddress, $0.count) }
      #else
        let count = rest.withUnsafeBytes { Darwin.write(descriptor, $0.baseAddress, $0.count) }
      #endif
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { return false }
      rest = rest.dropFirst(count)
    }
    return true
  }
}

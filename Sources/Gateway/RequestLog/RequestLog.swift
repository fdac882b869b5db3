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
  /// Whether the last line was cut short. Of the queue's alone.
  private let isTorn: Atomic<Bool>
  /// `write(2)`; tests have a full disk.
  private let put: @Sendable (_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer) -> Int

  /// Throws `badInput` if the file cannot be written, or others than its owner can read it.
  init(
    path: String, logger: Logger,
    put: @escaping @Sendable (_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer) -> Int = RequestLog.system
  ) throws {
    self.path = path
    self.logger = logger
    self.put = put
    let descriptor = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard descriptor >= 0 else {
      throw FusionRouteError.badInput("cannot write the request log \(path): \(String(cString: strerror(errno)))")
    }
    var status = stat()
    guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_mode & 0o077 == 0 else {
      close(descriptor)
      throw FusionRouteError.badInput(
        "the request log \(path) is no regular file that its owner alone can read: run `chmod 600 \(path)`")
    }
    // By a process before this one, which a full disk or a crash stopped in the middle.
    var last: UInt8 = 0x0A
    if status.st_size > 0 { _ = pread(descriptor, &last, 1, status.st_size - 1) }
    isTorn = Atomic(last != 0x0A)
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
      // A line that was cut short ends here, and damages none but itself.
      var bytes: [UInt8] = isTorn.load(ordering: .relaxed) ? [0x0A] : []
      bytes += line
      bytes.append(0x0A)
      let written = append(bytes)
      if written < bytes.count {
        let reason = String(cString: strerror(errno))
        lost.add(1, ordering: .relaxed)
        logger.error("request log not written", metadata: ["file": "\(path)", "error": "\(reason)"])
      }
      if written > 0 { isTorn.store(bytes[written - 1] != 0x0A, ordering: .relaxed) }
    }
  }

  /// Waits for the lines written so far.
  func flush() { queue.sync {} }

  /// How many of the bytes were written; fewer than all where the system refused the rest, as `errno` says.
  private func append(_ bytes: [UInt8]) -> Int {
    var rest = bytes[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { put(descriptor, $0) }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { break }
      rest = rest.dropFirst(count)
    }
    return bytes.count - rest.count
  }

  @Sendable static func system(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer) -> Int {
    #if canImport(Glibc)
      return Glibc.write(descriptor, bytes.baseAddress, bytes.count)
    #elseif canImport(Musl)
      return Musl.write(descriptor, bytes.baseAddress, bytes.count)
    #else
      return Darwin.write(descriptor, bytes.baseAddress, bytes.count)
    #endif
  }
}

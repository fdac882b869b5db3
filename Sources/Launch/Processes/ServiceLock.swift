internal import Core
internal import Foundation

#if canImport(Darwin)
  internal import Darwin
#else
  internal import Glibc
#endif

/// A file that one running process at a time holds; the kernel lets go when the process ends, however it ends, and
/// knows who holds it, so that no stale process id is ever signalled.
///
/// Locks of this kind belong to the process: it must not open the file a second time.
public final class ServiceLock: Sendable {
  public struct Holder: Sendable, Equatable {
    public var pid: Int32
    /// What it said about itself with ``announce(_:)``; empty before.
    public var note: String
  }

  /// Bytes of a note at most.
  private static let maximumNote = 4096

  private let descriptor: Int32

  /// Throws `unavailable` if another process holds it or the file cannot be written.
  public init(path: String) throws {
    descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard descriptor >= 0 else {
      throw FusionRouteError.unavailable("cannot write \(path): \(String(cString: strerror(errno)))")
    }
    var lock = Self.whole(F_WRLCK)
    guard fcntl(descriptor, F_SETLK, &lock) == 0 else {
      let busy = errno == EACCES || errno == EAGAIN
      let reason = String(cString: strerror(errno))
      close(descriptor)
      throw FusionRouteError.unavailable(
        busy ? "another process holds \(path) already" : "cannot lock \(path): \(reason)")
    }
    ftruncate(descriptor, 0)
  }

  deinit { close(descriptor) }

  /// Leaves a note for those who find the lock held.
  public func announce(_ note: String) throws {
    let bytes = Array(note.utf8.prefix(Self.maximumNote))
    guard ftruncate(descriptor, 0) == 0, pwrite(descriptor, bytes, bytes.count, 0) == bytes.count else {
      throw FusionRouteError.unavailable("cannot write a lock file: \(String(cString: strerror(errno)))")
    }
  }

  /// Who holds the lock; nil if nobody does. Throws `unavailable` if that cannot be found out, or if it is a process
  /// that cannot be signalled from here.
  public static func holder(path: String) throws -> Holder? {
    let descriptor = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW)
    guard descriptor >= 0 else {
      if errno == ENOENT { return nil }
      throw FusionRouteError.unavailable("cannot read \(path): \(String(cString: strerror(errno)))")
    }
    defer { close(descriptor) }
    var lock = whole(F_WRLCK)
    guard fcntl(descriptor, F_GETLK, &lock) == 0 else {
      throw FusionRouteError.unavailable("cannot ask who holds \(path): \(String(cString: strerror(errno)))")
    }
    guard lock.l_type != Int16(F_UNLCK) else { return nil }
    let pid = try Self.pid(lock.l_pid, path: path)
    var bytes = [UInt8](repeating: 0, count: maximumNote)
    let count = pread(descriptor, &bytes, bytes.count, 0)
    return Holder(pid: pid, note: String(decoding: bytes.prefix(max(0, count)), as: UTF8.self))
  }

  /// A holder's process id as F_GETLK tells it, which is 0 for a process of another container and negative for one of
  /// another machine: to `kill` these would be process groups.
  static func pid(_ told: Int32, path: String) throws -> Int32 {
    guard told > 0 else {
      throw FusionRouteError.unavailable("\(path) is held by a process of another machine or container: run this there")
    }
    return told
  }

  private static func whole(_ type: Int32) -> flock {
    var lock = flock()
    lock.l_type = Int16(type)
    lock.l_whence = Int16(SEEK_SET)
    return lock
  }
}

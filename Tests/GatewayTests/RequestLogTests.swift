import Foundation
import Logging
import TestSupport
import Testing

@testable import Gateway

/// The request log on a disk that has no room for a while.
@Suite struct RequestLogTests {
  private static var logger: Logger {
    var logger = Logger(label: "test")
    logger.logLevel = .critical
    return logger
  }

  @Test("a line that is cut short damages none but itself")
  func cut() throws {
    let scratch = try Scratch("cut")
    let path = scratch.path("requests.jsonl")
    // Bytes that the disk still takes.
    let room = LockedBox(Int.max)
    let log = try RequestLog(path: path, logger: Self.logger) { descriptor, bytes in
      let count = room.withValue { room in
        let count = min(room, bytes.count)
        room -= count
        return count
      }
      guard count > 0 else {
        errno = ENOSPC
        return -1
      }
      return RequestLog.system(descriptor, UnsafeRawBufferPointer(rebasing: bytes.prefix(count)))
    }
    func write(_ line: String, room bytes: Int = .max) {
      room.withValue { $0 = bytes }
      log.write(Array(line.utf8))
      log.flush()
    }
    write("one")
    write("two", room: 2)
    write("three", room: 0)
    // What ends the torn line fits, and no more.
    write("four", room: 1)
    write("five")
    #expect(try String(contentsOfFile: path, encoding: .utf8) == "one\ntw\nfive\n")
    #expect(log.lostLines == 3)
  }

  @Test("nor does one that a process before this has left")
  func left() throws {
    let scratch = try Scratch("left")
    let path = scratch.path("requests.jsonl")
    try Data("one\ntw".utf8).write(to: scratch.url.appendingPathComponent("requests.jsonl"))
    try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: path)
    for line in ["three", "four"] {
      let log = try RequestLog(path: path, logger: Self.logger)
      log.write(Array(line.utf8))
      log.flush()
    }
    #expect(try String(contentsOfFile: path, encoding: .utf8) == "one\ntw\nthree\nfour\n")
  }
}

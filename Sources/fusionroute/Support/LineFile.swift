internal import Core
internal import Foundation

/// A file that grows by a line at a time.
struct LineFile {
  private let path: String
  private let handle: FileHandle
  /// Behind the last whole line.
  private var end: UInt64
  private var failure: FusionRouteError?

  /// Opens a file that is there and ends with a whole line. Throws `unavailable` if it cannot be written.
  init(path: String) throws {
    guard let handle = FileHandle(forWritingAtPath: path) else {
      throw FusionRouteError.unavailable("cannot write \(path)")
    }
    do { end = try handle.seekToEnd() } catch {
      throw FusionRouteError.unavailable("cannot write \(path)", cause: error)
    }
    self.path = path
    self.handle = handle
  }

  /// Throws `unavailable` if the line cannot be written, and the same for all that follow: what a full disk took of it
  /// may still stand there, and another line would be glued to that.
  mutating func add(_ line: String) throws {
    if let failure { throw failure }
    let data = Data((line + "\n").utf8)
    do { try handle.write(contentsOf: data) } catch {
      let failure = FusionRouteError.unavailable("cannot write \(path)", cause: error)
      self.failure = failure
      try? handle.truncate(atOffset: end)
      throw failure
    }
    end += UInt64(data.count)
  }
}

internal import Core
internal import Foundation

/// The log of a run: a JSON object a line, appended as it happens.
final class RunLog {
  private let path: String
  private var handle: FileHandle

  /// Opens the log and drops lines of steps after `step`, which will be done again.
  ///
  /// - Parameter total: of the run's steps. What was evaluated after the last one will be evaluated again, too.
  init(path: String, resumingAfter step: Int, of total: Int) throws {
    self.path = path
    let kept = step > 0 ? Self.lines(path).filter { Self.isKept($0, upTo: step, of: total) } : []
    var file = try AtomicFile(path: path)
    for line in kept { try file.write(Array((line + "\n").utf8)) }
    try file.commit()
    guard let handle = FileHandle(forWritingAtPath: path) else {
      throw FusionRouteError.unavailable("cannot write \(path)")
    }
    handle.seekToEndOfFile()
    self.handle = handle
  }

  deinit { try? handle.close() }

  /// Whether it tells of an evaluation on held-out data after `step`.
  func hasEvaluation(after step: Int) -> Bool {
    Self.entries(path).contains { $0["held_out"] != nil && $0["step"] == .integer(Int64(step)) }
  }

  func append(_ members: [(String, JSONValue)]) throws {
    let object = JSONValue.object(JSONObject(members: members.map { (key: $0.0, value: Self.finite($0.1)) }))
    do {
      try handle.write(contentsOf: Data((object.text + "\n").utf8))
    } catch {
      throw FusionRouteError.unavailable("cannot write \(path)", cause: error)
    }
  }

  /// JSON has no infinities.
  private static func finite(_ value: JSONValue) -> JSONValue {
    if case .number(let number) = value, !number.isFinite { return .null }
    return value
  }

  static func lines(_ path: String) -> [String] {
    guard let data = FileManager.default.contents(atPath: path) else { return [] }
    // Line by line, and repaired: a full disk may have cut off the last line within a character.
    return data.split(separator: UInt8(ascii: "\n")).map { String(decoding: $0, as: UTF8.self) }
  }

  /// The entries of a log; a line that was cut off by a crash is left out.
  static func entries(_ path: String) -> [JSONObject] {
    lines(path).compactMap { line in
      guard case .object(let object)? = try? JSONParser.parse(Array(line.utf8)) else { return nil }
      return object
    }
  }

  private static func isKept(_ line: String, upTo last: Int, of total: Int) -> Bool {
    guard case .object(let object)? = try? JSONParser.parse(Array(line.utf8)), case .integer(let step)? = object["step"]
    else { return false }
    return step <= Int64(last) && (object["held_out"] == nil || step < Int64(total))
  }
}

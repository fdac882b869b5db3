internal import Core
internal import Evaluation
internal import Foundation
internal import Synchronization

/// Graded answers on disk, a line each, as they come.
final class AnswerStore: Sendable {
  private struct State {
    /// By key and then by method: methods that come to the same share their answers.
    var records: [String: [String: AnswerRecord]] = [:]
    /// Nil if the answers are only read.
    var file: LineFile?
  }

  let path: String
  private let state: Mutex<State>

  /// Opens `path`; a last line that a crash cut off is dropped. Throws `.badInput` that names another line that is no answer:
  /// the file is someone else's, or of another version, and stays as it is.
  ///
  /// - Parameter isReadOnly: another process may be writing it.
  init(path: String, isReadOnly: Bool = false) throws {
    self.path = path
    var state = State()
    var isDamaged = false
    if let data = FileManager.default.contents(atPath: path) {
      isDamaged = !data.isEmpty && data.last != UInt8(ascii: "\n")
      let lines = JSONLines.lines(of: String(decoding: data, as: UTF8.self))
      for (index, (number, line)) in lines.enumerated() {
        if let record = AnswerRecord(line: line) {
          state.records[record.key, default: [:]][record.method] = record
        } else if !isDamaged || index < lines.count - 1 {
          throw FusionRouteError.badInput(
            "\(path):\(number) is no graded answer, or one of another version of this program: give another --out, or move the "
              + "file away")
        }
      }
    }
    if !isReadOnly {
      if isDamaged || !FileManager.default.fileExists(atPath: path) {
        var file = try AtomicFile(path: path)
        for record in state.records.values.flatMap(\.values)
          .sorted(by: { ($0.method, $0.task, $0.id, $0.key) < ($1.method, $1.task, $1.id, $1.key) })
        {
          try file.write(Array((record.line + "\n").utf8))
        }
        try file.commit()
      }
      state.file = try LineFile(path: path)
    }
    self.state = Mutex(state)
  }

  /// The method's answer; if another method's has the same key, that one becomes the method's own.
  func record(_ key: String, method: String) throws -> AnswerRecord? {
    let found = state.withLock { $0.records[key] }
    if let own = found?[method] { return own }
    guard var shared = found?.min(by: { $0.key < $1.key })?.value else { return nil }
    shared.method = method
    try add(shared)
    return shared
  }

  /// Replaces the grade of all answers with this key.
  func regrade(_ key: String, _ grade: Grade) throws {
    for var record in state.withLock({ $0.records[key].map { Array($0.values) } ?? [] }) {
      record.grade = grade
      try add(record)
    }
  }

  /// Answers of a method to the prompts with these ids under other keys than those given.
  func count(of method: String, ids: Set<String>, otherThan keys: Set<String>) -> Int {
    state.withLock { state in
      state.records.count { key, records in
        !keys.contains(key) && (records[method].map { ids.contains($0.id) } ?? false)
      }
    }
  }

  /// How many answers of each task there are.
  var counts: [String: Int] {
    state.withLock { state in
      state.records.values.reduce(into: [:]) { counts, records in
        for record in records.values { counts[record.task, default: 0] += 1 }
      }
    }
  }

  /// Any method's answer with this key.
  func shared(_ key: String) -> AnswerRecord? {
    state.withLock { $0.records[key]?.min { $0.key < $1.key }?.value }
  }

  /// Keeps a record; one with its key is replaced.
  func add(_ record: AnswerRecord) throws {
    try state.withLock { state in
      try state.file?.add(record.line)
      state.records[record.key, default: [:]][record.method] = record
    }
  }
}

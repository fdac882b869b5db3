internal import Core
internal import Foundation
internal import Training

/// The pairs that a run learns from, as they were read: for another run that is to learn from the same ones.
enum KeptPairs {
  static let name = "pairs.jsonl"

  /// Copies their lines, in the order of the files.
  static func write(_ pairs: [PreferencePair], to path: String) throws {
    var files: [(path: String, lines: Set<Int>)] = []
    for pair in pairs {
      guard let colon = pair.source.lastIndex(of: ":"), let line = Int(pair.source[pair.source.index(after: colon)...])
      else { continue }
      let file = String(pair.source[..<colon])
      if files.last?.path != file { files.append((file, [])) }
      files[files.count - 1].lines.insert(line)
    }
    var out = try AtomicFile(path: path)
    for file in files {
      guard let data = FileManager.default.contents(atPath: file.path) else {
        throw FusionRouteError.unavailable("\(file.path) cannot be read any more")
      }
      for (index, line) in data.split(separator: 0x0A, omittingEmptySubsequences: false).enumerated()
      where file.lines.contains(index + 1) { try out.write(Array(line) + [0x0A]) }
    }
    try out.commit()
  }
}

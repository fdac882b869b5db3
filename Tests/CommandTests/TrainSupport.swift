import Foundation

/// Data that a toy model learns something from.
enum TrainingLines {
  static let questions = (1...12).map {
    "{\"prompt\": \"say \($0) words\", \"completion\": \"good words \($0)\"}"
  }
  static let pairs = (1...10).map {
    "{\"prompt\": \"say \($0)\", \"chosen\": \"good words \($0)\", \"rejected\": \"old words \($0)\"}"
  }
}

extension ToyModels {
  /// Writes lines beside the models and returns the file's path.
  func write(_ name: String, _ lines: [String]) throws -> String {
    let path = self.path(name)
    try Data((lines.joined(separator: "\n") + "\n").utf8).write(to: URL(fileURLWithPath: path))
    return path
  }

  /// Writes into a directory, which is made.
  func put(_ name: String, _ text: String) throws {
    let url = URL(fileURLWithPath: path(name))
    try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
    try Data(text.utf8).write(to: url)
  }

  func bytes(_ name: String) throws -> Data { try Data(contentsOf: URL(fileURLWithPath: path(name))) }
}

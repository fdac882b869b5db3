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

  func bytes(_ name: String) throws -> Data { try Data(contentsOf: URL(fileURLWithPath: path(name))) }
}

package import Core
package import Foundation

/// Rows of logits from plain llama.cpp calls, one token at a time, in a process of its own that shares no code with the
/// runtime.
package struct PlainOracle {
  /// [position][vocabulary] logits after each of `tokens`.
  package static func rows(model: String, tokens: [Token]) throws -> [[Float]] {
    try rows(arguments: [model], tokens: tokens)
  }

  /// The same, and [position][width]: what the output matrix multiplies.
  package static func rowsAndHidden(model: String, tokens: [Token]) throws -> (rows: [[Float]], hidden: [[Float]]) {
    let file = FileManager.default.temporaryDirectory.appendingPathComponent(
      "fr-hidden-\(UInt64.random(in: 0...(.max)))")
    defer { try? FileManager.default.removeItem(at: file) }
    let rows = try rows(arguments: [model, "--hidden", file.path], tokens: tokens)
    return (rows, try split(Data(contentsOf: file), into: tokens.count))
  }

  private static func rows(arguments: [String], tokens: [Token]) throws -> [[Float]] {
    let text = tokens.map(String.init).joined(separator: " ") + "\n"
    let (status, data, complaint) = try TestProcess.run(
      TestBinaries.url("llama-oracle"), arguments, input: Data(text.utf8))
    guard status == 0 else { throw FusionRouteError.internal("llama-oracle failed with \(status): \(complaint)") }
    return try split(data, into: tokens.count)
  }

  private static func split(_ data: Data, into count: Int) throws -> [[Float]] {
    guard count > 0, !data.isEmpty, data.count % (4 * count) == 0 else {
      throw FusionRouteError.internal("llama-oracle wrote \(data.count) bytes for \(count) positions")
    }
    let width = data.count / 4 / count
    return data.withUnsafeBytes { raw in
      let floats = raw.bindMemory(to: Float.self)
      return (0..<count).map { Array(floats[($0 * width)..<(($0 + 1) * width)]) }
    }
  }
}

/// A child process with its input, run to its end.
package enum TestProcess {
  package static func run(
    _ executable: URL, _ arguments: [String], input: Data = Data(), environment: [String: String] = [:]
  ) throws -> (status: Int32, output: Data, errors: String) {
    // Files, not pipes: neither side can wait for the other.
    let folder = try Scratch("process")
    let paths = ["in", "out", "err"].map { folder.url.appendingPathComponent($0) }
    for path in paths { try (path == paths[0] ? input : Data()).write(to: path) }
    let process = Process()
    process.executableURL = executable
    process.arguments = arguments
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    process.standardInput = try FileHandle(forReadingFrom: paths[0])
    process.standardOutput = try FileHandle(forWritingTo: paths[1])
    process.standardError = try FileHandle(forWritingTo: paths[2])
    try process.run()
    process.waitUntilExit()
    return (
      process.terminationStatus, try Data(contentsOf: paths[1]),
      String(decoding: try Data(contentsOf: paths[2]), as: UTF8.self)
    )
  }
}

/// Where the build put its executables.
package enum TestBinaries {
  package static func url(_ name: String) -> URL {
    let bundle = Bundle.allBundles.first { $0.bundlePath.hasSuffix(".xctest") }?.bundleURL
    let folder = (bundle ?? URL(fileURLWithPath: CommandLine.arguments[0])).deletingLastPathComponent()
    return folder.appendingPathComponent(name)
  }
}

extension TestModels {
  /// Plain llama.cpp's rows of every expert, by its name.
  package func expertRows(_ tokens: [Token]) throws -> [String: [[Float]]] {
    try experts.reduce(into: [:]) { rows, expert in
      rows[expert.name] = try PlainOracle.rows(model: expert.path, tokens: tokens)
    }
  }
}

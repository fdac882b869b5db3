import Core
import Foundation

/// Rows of logits from plain llama.cpp calls, one token at a time, in a process of its own that shares no code with the
/// runtime.
struct PlainOracle {
  /// [position][vocabulary] logits after each of `tokens`.
  static func rows(model: String, tokens: [Token]) throws -> [[Float]] {
    let process = Process()
    process.executableURL = TestBinaries.url("llama-oracle")
    process.arguments = [model]
    let input = Pipe()
    let output = Pipe()
    process.standardInput = input
    process.standardOutput = output
    process.standardError = FileHandle.nullDevice
    try process.run()
    let text = tokens.map(String.init).joined(separator: " ") + "\n"
    try input.fileHandleForWriting.write(contentsOf: Data(text.utf8))
    try input.fileHandleForWriting.close()
    let data = try output.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    guard process.terminationStatus == 0, !tokens.isEmpty, data.count % (4 * tokens.count) == 0 else {
      throw FusionRouteError.internal("llama-oracle failed with \(process.terminationStatus)")
    }
    let width = data.count / 4 / tokens.count
    return data.withUnsafeBytes { raw in
      let floats = raw.bindMemory(to: Float.self)
      return (0..<tokens.count).map { Array(floats[($0 * width)..<(($0 + 1) * width)]) }
    }
  }
}

/// Where the build put its executables.
enum TestBinaries {
  static func url(_ name: String) -> URL {
    let bundle = Bundle.allBundles.first { $0.bundlePath.hasSuffix(".xctest") }?.bundleURL
    let folder = (bundle ?? URL(fileURLWithPath: CommandLine.arguments[0])).deletingLastPathComponent()
    return folder.appendingPathComponent(name)
  }
}

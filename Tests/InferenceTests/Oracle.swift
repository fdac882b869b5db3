import Core
import Foundation
import Testing

@testable import Inference

/// The rows of `llama-oracle`, a C program that shares no code with the runtime and decodes one token at a time.
enum LlamaOracle {
  static func rows(model: String, tokens: [Token], vocabulary: Int, arguments: [String] = []) throws -> [[Float]] {
    let process = Process()
    process.executableURL = try executable()
    process.arguments = [model] + arguments
    let input = Pipe()
    let output = Pipe()
    process.standardInput = input
    process.standardOutput = output
    try process.run()
    // Both ways are small or read at once: tokens are a few kilobytes, and the program reads all of them first.
    try input.fileHandleForWriting.write(contentsOf: Data(tokens.map(String.init).joined(separator: " ").utf8))
    try input.fileHandleForWriting.close()
    let data = ModelProbe.readToEnd(output.fileHandleForReading)
    process.waitUntilExit()
    try #require(process.terminationStatus == 0)
    try #require(data.count == tokens.count * vocabulary * 4)
    return stride(from: 0, to: data.count, by: 4 * vocabulary).map { start in
      [Float](unsafeUninitializedCapacity: vocabulary) { row, count in
        UnsafeMutableRawBufferPointer(row).copyBytes(from: data[start..<(start + 4 * vocabulary)])
        count = vocabulary
      }
    }
  }

  /// Built beside the test bundle.
  private static func executable() throws -> URL {
    var folder = Bundle.main.bundleURL
    for candidate in CommandLine.arguments.prefix(1) {
      folder = URL(fileURLWithPath: candidate).deletingLastPathComponent()
    }
    for base in [folder, Bundle.main.bundleURL, Bundle(for: Marker.self).bundleURL.deletingLastPathComponent()] {
      let url = base.appendingPathComponent("llama-oracle")
      if FileManager.default.isExecutableFile(atPath: url.path) { return url }
    }
    throw FusionRouteError.internal("llama-oracle was not built beside the tests in \(folder.path)")
  }

  private final class Marker {}
}

package import Core
package import Foundation

/// Programs that judge modules from outside: llama.cpp itself and the numpy oracle.
package enum Tools {
  package struct Failure: Error, CustomStringConvertible {
    package let description: String
  }

  /// Runs a program to its end; its standard output.
  package static func run(_ executable: String, _ arguments: [String], input: String = "") throws -> Data {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: executable)
    process.arguments = arguments
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("tool-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    // Files, not pipes: nothing can fill up while the other side waits.
    func handle(_ name: String, _ contents: String) throws -> FileHandle {
      let url = folder.appendingPathComponent(name)
      try Data(contents.utf8).write(to: url)
      return try FileHandle(forUpdating: url)
    }
    process.standardInput = try handle("in", input)
    process.standardOutput = try handle("out", "")
    process.standardError = try handle("err", "")
    try process.run()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else {
      let errors = try String(contentsOf: folder.appendingPathComponent("err"), encoding: .utf8)
      throw Failure(description: "\(executable) ended with \(process.terminationStatus): \(errors)")
    }
    return try Data(contentsOf: folder.appendingPathComponent("out"))
  }

  // MARK: Python

  private static let scripts = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().appendingPathComponent("Oracle").path

  /// The first Python that has numpy.
  private static let interpreter: Result<String, Failure> = {
    let candidates = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":").map { "\($0)/python3" }
    for path in candidates + ["/usr/bin/python3"] where FileManager.default.isExecutableFile(atPath: path) {
      if (try? run(path, ["-c", "import numpy"])) != nil { return .success(path) }
    }
    return .failure(Failure(description: "no python3 with numpy: run Deploy/test, which installs python3-numpy"))
  }()

  /// Runs `script` with the oracle's modules importable; what it prints.
  package static func python(_ script: String, _ arguments: [String], input: String = "") throws -> Data {
    try run(
      try interpreter.get(), ["-c", "import sys; sys.path.insert(0, '\(scripts)')\n" + script] + arguments, input: input
    )
  }

  /// Runs the oracle program itself.
  package static func oracle(_ arguments: [String], input: String = "") throws -> Data {
    try run(try interpreter.get(), ["\(scripts)/oracle.py"] + arguments, input: input)
  }

  /// The oracle's logits after every token, [positions][vocabulary].
  package static func oracleRows(_ model: String, _ tokens: [Token]) throws -> [[Float]] {
    let text = tokens.map(String.init).joined(separator: ",")
    return rows(try oracle(["--logits", model, "--tokens", text]), count: tokens.count)
  }

  // MARK: llama.cpp

  /// Logits after every token, [positions][vocabulary], one llama.cpp call per token.
  package static func llamaRows(_ model: String, lora: String? = nil, _ tokens: [Token]) throws -> [[Float]] {
    let text = tokens.map(String.init).joined(separator: " ")
    let adapter = lora.map { ["--lora", $0] } ?? []
    return rows(try run(try llamaOracle(), [model, "--kv", "f32"] + adapter, input: text), count: tokens.count)
  }

  private static func rows(_ data: Data, count: Int) -> [[Float]] {
    let size = data.count / 4 / count
    return data.withUnsafeBytes { raw in
      (0..<count).map { row in
        (0..<size).map { raw.loadUnaligned(fromByteOffset: (row * size + $0) * 4, as: Float.self) }
      }
    }
  }

  /// Built beside the test bundle.
  private static func llamaOracle() throws -> String {
    let folders =
      CommandLine.arguments.prefix(1).map { URL(fileURLWithPath: $0).deletingLastPathComponent() }
      + [Bundle.main.bundleURL, Bundle(for: Marker.self).bundleURL.deletingLastPathComponent()]
    for folder in folders {
      let path = folder.appendingPathComponent("llama-oracle").path
      if FileManager.default.isExecutableFile(atPath: path) { return path }
    }
    throw Failure(description: "llama-oracle was not built beside the tests")
  }

  private final class Marker {}
}

/// The error that `body` throws, which must be a `FusionRouteError`.
package func failure(_ body: () throws -> Void) throws -> FusionRouteError {
  do {
    try body()
  } catch let error as FusionRouteError { return error }
  throw Tools.Failure(description: "nothing was thrown")
}

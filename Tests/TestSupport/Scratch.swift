import Core
package import Foundation

/// A directory of its own for a test, removed at the end.
package final class Scratch: Sendable {
  package let url: URL

  package init(_ name: String = "test") throws {
    // Short, since socket paths must be.
    url = FileManager.default.temporaryDirectory.appendingPathComponent(
      "fr-\(name)-\(UInt32.random(in: 0...UInt32.max))")
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(at: url) }

  package func path(_ name: String) -> String { url.appendingPathComponent(name).path }

  package func data(_ name: String) throws -> Data { try Data(contentsOf: url.appendingPathComponent(name)) }

  /// What lies in it.
  package var names: [String] { (try? FileManager.default.contentsOfDirectory(atPath: url.path).sorted()) ?? [] }
}

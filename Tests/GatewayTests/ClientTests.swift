import Core
import Foundation
import TestSupport
import Testing

/// Clients of others, unmodified, in environments that `Deploy/test` makes.
@Suite(.serialized) struct ClientTests {
  /// The Python that has OpenAI's package; nil where `Deploy/test` has not installed it.
  static var python: URL? {
    guard let cache = try? CacheDirectory.url() else { return nil }
    let python = cache.appendingPathComponent("python/openai/bin/python")
    return FileManager.default.isExecutableFile(atPath: python.path) ? python : nil
  }

  @Test(
    "OpenAI's Python package: chat, completions, streams, log-probabilities, structured answers, errors, keys",
    .enabled(if: python != nil, "Deploy/test installs the package"))
  func openAI() async throws {
    let python = try #require(Self.python)
    let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .appendingPathComponent("ClientChecks/openai_client.py")
    let scratch = try Scratch("openai")
    let keys = scratch.path("api-keys")
    let key = try APIKeyFile.update(keys, create: true) { try $0.add("ada") }
    try await withGateway(configure: { $0.apiKeys = keys }) { gateway in
      try await withGateway(
        slots: 1,
        coordinator: {
          $0.queueLimit = 0
          $0.clientQueueLimit = 0
        }
      ) { busy in
        let urls = ["http://127.0.0.1:\(gateway.port)", "--key", key, "--busy", "http://127.0.0.1:\(busy.port)"]
        let (status, output, errors) = try await RawConnection.onThread {
          Result { try TestProcess.run(python, [script.path] + urls) }
        }.get()
        #expect(status == 0, "\(String(decoding: output, as: UTF8.self))\(errors)")
      }
    }
  }
}

import Core
import Foundation
import Testing

@testable import Launch

/// The reference article and the table that it is made from.
@Suite struct ClusterReferenceTests {
  @Test func referenceArticleEqualsTheCode() throws {
    let article = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .appendingPathComponent("../../Sources/Launch/Launch.docc/ClusterFile.md").standardizedFileURL
    if ProcessInfo.processInfo.environment["FUSIONROUTE_WRITE_REFERENCE"] != nil {
      try ClusterReference.article().write(to: article, atomically: true, encoding: .utf8)
    }
    let written = try String(contentsOf: article, encoding: .utf8)
    #expect(
      written == ClusterReference.article(),
      "write it anew with FUSIONROUTE_WRITE_REFERENCE=1 swift test --filter referenceArticleEqualsTheCode")
  }

  /// Every default in the table is a value that the reader accepts for that key.
  @Test func everyDefaultCanBeWrittenDown() throws {
    for setting in ClusterSchema.root {
      let lines = (setting.kind.children.isEmpty ? [setting] : setting.kind.children).compactMap { key -> String? in
        if case .value(let text) = key.fallback { return "\(key.key): \(text)" }
        return nil
      }
      for line in lines {
        let text: String
        switch setting.kind {
        case .named: text = "router: { model: a, head: b }\nexperts: { n: { model: c, lora: l, \(line) } }\n"
        case .list: text = ClusterFileTests.least + "\(setting.key):\n  - { name: a, address: localhost, \(line) }\n"
        case .section where setting.key == "router":
          text = "router: { model: a, head: b, lora: l, \(line) }\nexperts: { n: { model: c } }\n"
        case .section: text = ClusterFileTests.least + "\(setting.key): { \(line) }\n"
        default: text = ClusterFileTests.least + "\(line)\n"
        }
        #expect(ClusterFileTests.sentence(text) == nil, "\(text)")
      }
    }
  }
}

import Foundation
import Testing

@testable import Core

/// Where code points count, not what they look like together. U+0600 makes one Character of itself and what follows.
@Suite struct TextTests {
  @Test func nothingEndsAScript() {
    for before in ["", "\u{600}", "a\u{301}", "\u{1F1E6}"] {
      let text = "[\"\(before)</script>\(before)\u{2028}\(before)\u{2029}\"]"
      let escaped = HTML.script(text)
      for scalar: Unicode.Scalar in ["<", "\u{2028}", "\u{2029}"] {
        #expect(!escaped.unicodeScalars.contains(scalar), "\(before)")
      }
      let read = try? JSONParser.parse(Array(escaped.utf8))
      #expect(read == (try? JSONParser.parse(Array(text.utf8))) && read != nil, "\(before)")
    }
  }

  /// The key of each member in an object of a few and in one of many, which has a table.
  @Test(arguments: [0, 40]) func keysAreTheirCodePoints(others: Int) {
    func object(_ members: [(String, JSONValue)]) -> JSONObject {
      let more = (0..<others).map { ("k\($0)", JSONValue.null) }
      return JSONObject(members: (members + more).map { (key: $0.0, value: $0.1) })
    }
    let one = object([("\u{E9}", .integer(1))])
    #expect(one["\u{E9}"] == .integer(1) && one["e\u{301}"] == nil)
    let two = object([("\u{E9}", .integer(1)), ("e\u{301}", .integer(2)), ("\u{E9}", .integer(3))])
    #expect(two["\u{E9}"] == .integer(3) && two["e\u{301}"] == .integer(2))
    #expect(one != object([("e\u{301}", .integer(1))]))
  }

  @Test func exactTexts() {
    #expect(ExactText("e\u{301}") != ExactText("\u{E9}") && ExactText("\u{E9}") == ExactText("\u{E9}"))
    #expect(Set(["e\u{301}", "\u{E9}", "", "e"].map(ExactText.init)).count == 4)
  }

  @Test func sumsAndProductsEndAtTheLargest() {
    #expect(UInt64.saturatingSum(1, 2, 3) == 6 && UInt64.saturatingSum(.max, 1, 5) == .max)
    #expect(UInt64.saturatingProduct(2, 3, 4) == 24 && UInt64.saturatingProduct(1 << 32, 1 << 32) == .max)
    #expect(UInt64.saturatingProduct(1 << 32, 1 << 32, 2, 0) == 0)
  }
}

@Suite struct AtomicFileTests {
  private func scratch() throws -> URL {
    let url = FileManager.default.temporaryDirectory.appendingPathComponent("fr-core-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    return url
  }

  @Test func takesAFileThatSomethingElseWrote() throws {
    let folder = try scratch()
    defer { try? FileManager.default.removeItem(at: folder) }
    let (path, temporary) = (folder.appendingPathComponent("a").path, folder.appendingPathComponent("a.partial").path)
    try Data("old".utf8).write(to: URL(fileURLWithPath: path))
    // Nothing there: the old file stays.
    let error = #expect(throws: FusionRouteError.self) { try AtomicFile.commit(temporary, as: path) }
    #expect(error?.code == .unavailable && error?.message.contains(path) == true)
    #expect(FileManager.default.contents(atPath: path) == Data("old".utf8))
    try Data("new".utf8).write(to: URL(fileURLWithPath: temporary))
    try AtomicFile.commit(temporary, as: path)
    #expect(FileManager.default.contents(atPath: path) == Data("new".utf8))
    #expect(!FileManager.default.fileExists(atPath: temporary))
  }

  @Test func directories() {
    for (path, directory) in [
      ("a", "."), ("/a", "/"), ("a/b", "a"), ("/a/b/c", "/a/b"), ("a/\u{301}b", "a"), ("x\u{600}/b", "x\u{600}"),
    ] {
      #expect(AtomicFile.directory(of: path) == directory, "\(path)")
    }
  }
}

import Core
import Foundation
import Testing

@Suite struct TextFileTests {
  private let folder = FileManager.default.temporaryDirectory.appendingPathComponent("texts-\(UUID().uuidString)")

  private func fault(_ name: String, _ bytes: [UInt8]? = nil, maximum: Int = .max) throws -> String {
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let path = folder.appendingPathComponent(name).path
    if let bytes { try Data(bytes).write(to: URL(fileURLWithPath: path)) }
    let error = #expect(throws: FusionRouteError.self) { _ = try TextFile.read(path, maximumBytes: maximum) }
    #expect(error?.code == .badInput && error?.message.hasPrefix(path) == true, "\(error?.message ?? "")")
    return error?.message ?? ""
  }

  @Test func faultsSayWhatIsWrong() throws {
    defer { try? FileManager.default.removeItem(at: folder) }
    #expect(try fault("missing").contains("does not exist"))
    #expect(try fault("").contains("is a directory"))
    #expect(try fault("packed", [0x1F, 0x8B, 8, 0]).contains("compressed (gzip)"))
    // What `printf a | bzip2` begins with; a text that begins with the first three letters of it is one.
    #expect(try fault("packed.bz2", Array("BZh91AY&SY".utf8) + [0x19, 0x93]).contains("compressed (bzip2)"))
    #expect(try fault("latin", [0x66, 0xFC, 0x72]).contains("UTF-8"))
    #expect(try fault("large", Array("abcd".utf8), maximum: 3).contains("4 bytes"))
  }

  @Test func aByteOrderMarkIsNoText() throws {
    defer { try? FileManager.default.removeItem(at: folder) }
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let path = folder.appendingPathComponent("marked").path
    let cases: [([UInt8], String)] = [
      ([0xEF, 0xBB, 0xBF, 0x61], "a"), ([0x61, 0xEF, 0xBB, 0xBF], "a\u{FEFF}"), ([], ""),
      (Array("BZh4".utf8), "BZh4"),
    ]
    for (bytes, text) in cases {
      try Data(bytes).write(to: URL(fileURLWithPath: path))
      #expect(Array(try TextFile.read(path, maximumBytes: 4).unicodeScalars) == Array(text.unicodeScalars))
    }
  }
}

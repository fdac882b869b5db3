import Core
import Foundation
import Testing

@Suite struct APIKeyTests {
  private func message(_ text: String) -> String? {
    do {
      _ = try APIKeyList(parsing: text)
      return nil
    } catch let error as FusionRouteError {
      return error.code == .badInput ? error.message : "wrong code"
    } catch {
      return "wrong error"
    }
  }

  private static let digest = String(repeating: "0a", count: 32)

  @Test func commentsAndOrderStay() throws {
    let text = "# who may ask\n\nann \(Self.digest) # since May\r\nbob\t\(Self.digest.uppercased())\n"
    var list = try APIKeyList(parsing: text)
    #expect(list.names == ["ann", "bob"] && list.text == text)
    let key = try list.add("cy")
    #expect(list.text.hasPrefix(text) && list.names == ["ann", "bob", "cy"])
    #expect(!list.text.contains(key))
    try list.revoke("ann")
    #expect(list.text.hasPrefix("# who may ask\n\nbob\t"))
    #expect(try APIKeyList(parsing: list.text) == list)
    #expect(try APIKeyList(parsing: "").names.isEmpty)
  }

  @Test func keysAreFoundByTheirHash() throws {
    var list = APIKeyList()
    let keys = try ["a", "b", "c"].map { try list.add($0) }
    let known = try APIKeyList(parsing: list.text).namesByDigest
    #expect(keys.map { known[SHA256Digest(hashing: $0.utf8)] } == ["a", "b", "c"])
    #expect(known[SHA256Digest(hashing: "fr-other".utf8)] == nil)
  }

  /// 32 bytes in base64url, as Foundation reads it.
  @Test func keysHave256Bits() throws {
    var list = APIKeyList()
    var seen: Set<Data> = []
    for index in 0..<200 {
      let key = try list.add("k\(index)")
      #expect(key.hasPrefix("fr-") && key.utf8.count == 46)
      let text = String(key.dropFirst(3)).replacing("-", with: "+").replacing("_", with: "/") + "="
      let bytes = try #require(Data(base64Encoded: text))
      #expect(bytes.count == 32 && bytes.base64EncodedString() == text, "\(key)")
      #expect(seen.insert(bytes).inserted)
    }
    // Every bit is sometimes set and sometimes not.
    let all = seen.reduce(Data(repeating: 255, count: 32)) { Data(zip($0, $1).map { $0 & $1 }) }
    let any = seen.reduce(Data(repeating: 0, count: 32)) { Data(zip($0, $1).map { $0 | $1 }) }
    #expect(all.allSatisfy { $0 == 0 } && any.allSatisfy { $0 == 255 })
  }

  @Test func wrongLinesAreNamed() {
    #expect(message("# fine\nann\n")?.hasPrefix("line 2 is not NAME and 64 hexadecimal digits") == true)
    #expect(message("ann \(Self.digest.dropLast())\n")?.hasPrefix("line 1 ") == true)
    #expect(message("ann \(Self.digest.dropLast())g\n")?.hasPrefix("line 1 ") == true)
    #expect(message("a/b \(Self.digest)\n")?.hasPrefix("line 1 ") == true)
    #expect(message("ann \(Self.digest) more\n")?.hasPrefix("line 1 ") == true)
    #expect(message("ann \(Self.digest)\nann \(Self.digest)\n") == "line 2 has the name \"ann\" a second time")
    #expect(message(String(repeating: "x", count: 65) + " \(Self.digest)\n")?.hasPrefix("line 1 ") == true)
  }

  /// Two writers at once: no change is lost, and whoever reads meanwhile sees a whole file.
  @Test func changesAtOnceAreAllKept() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("core-tests-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let path = folder.appendingPathComponent("keys").path
    #expect(throws: FusionRouteError.self) { try APIKeyFile.update(path, create: false) { _ in } }
    _ = try APIKeyFile.update(path, create: true) { try $0.add("first") }
    DispatchQueue.concurrentPerform(iterations: 40) { index in
      #expect(throws: Never.self) { try APIKeyFile.update(path, create: false) { _ = try $0.add("k\(index)") } }
      #expect(throws: Never.self) { try APIKeyFile.load(path) }
    }
    #expect(Set(try APIKeyFile.load(path).names) == Set(["first"] + (0..<40).map { "k\($0)" }))
    let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
    #expect(mode == 0o600)
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["keys"])
  }
}

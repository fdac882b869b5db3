import Core
import Foundation
import Testing

@testable import Messaging

@Suite struct AllowedKeyTests {
  private static let key = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
  private static let hashKey = "#" + key.dropFirst()

  @Test(
    arguments: [
      (key, AllowedKey.Role.worker, nil), ("\n\n  \(key)  \r\n", .worker, nil),
      (hashKey + "\n", .worker, nil), ("# gpu1\n#\n\(key)\nrole: worker\n", .worker, nil),
      ("\(key)\nrole:coordinator", .coordinator, nil), ("\(key)\r\nexperts: math\r\n", .worker, ["math"]),
      ("\(key)\nexperts: math ,code,a b\n# end\nrole: worker\n", .worker, ["math", "code", "a b"]),
      ("\(key)\nexperts: größe", .worker, ["größe"]),
    ] as [(String, AllowedKey.Role, Set<String>?)])
  func entries(text: String, role: AllowedKey.Role, experts: Set<String>?) throws {
    let entry = try AllowedKey(name: "n", parsing: text)
    #expect(entry.role == role && entry.experts == experts)
    #expect(entry.key == (text.contains(Self.hashKey) ? Self.hashKey : Self.key))
    #expect(try AllowedKey(name: "n", parsing: entry.text) == entry)
  }

  @Test(arguments: [
    ("", "holds no key"), ("# only a comment\n", "holds no key"), ("short\n", "line 1 is not a key"),
    ("role: worker\n\(key)\n", "line 1 is not a key"), ("\(key)\n\(key)\n", "line 2 is not one of"),
    ("\(key)\nrole: admin\n", "line 2 names no role"), ("\(key)\nrole: Worker\n", "line 2 names no role"),
    ("\(key)\nrole:\n", "line 2 names no role"), ("\(key)\nrole: worker\nrole: worker\n", "line 3 is not one of"),
    ("\(key)\nexperts:\n", "line 2 is no list"), ("\(key)\n\nexperts: a,,b\n", "line 3 is no list"),
    ("\(key)\nexperts: a\nexperts: b\n", "line 3 is not one of"), ("\(key)\nexpert: a\n", "line 2 is not one of"),
    ("\(key)\nexperts: a\u{1}\n", "line 2 is no list"), ("\(key) role: worker", "line 1 is not a key"),
  ])
  func refused(text: String, words: String) {
    let error = failure { _ = try AllowedKey(name: "n", parsing: text) }
    #expect(error?.code == .badInput)
    #expect(error?.message.hasPrefix(words) == true, "\(error?.message ?? "accepted")")
  }

  /// Damaged files never allow more than they say: what still parses says what a reader would read.
  @Test func damagedFiles() throws {
    let seed = UInt64.random(in: 0...UInt64.max)
    print("damaged allow-list files: seed \(seed)")
    var random = SplitMix64(seed: seed)
    let original = Array("# x\n\(Self.key)\nrole: coordinator\nexperts: math, code\n".utf8)
    for _ in 0..<5_000 {
      var bytes = original
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8(truncatingIfNeeded: random.next())
      }
      let text = String(decoding: bytes, as: UTF8.self)
      guard let entry = try? AllowedKey(name: "n", parsing: text) else { continue }
      #expect(KeyFile.isKey(entry.key) && text.contains(entry.key), "seed \(seed): \(text)")
      if text.contains("role: coordinator\n") { #expect(!entry.mayServe("math"), "seed \(seed): \(text)") }
      for expert in entry.experts ?? [] { #expect(text.contains(expert), "seed \(seed): \(text)") }
      #expect(try AllowedKey(name: "n", parsing: entry.text) == entry, "seed \(seed): \(text)")
    }
  }

  @Test func whatAKeyMayDo() {
    func entry(_ role: AllowedKey.Role, _ experts: Set<String>?) -> AllowedKey {
      AllowedKey(name: "n", key: Self.key, role: role, experts: experts)
    }
    #expect(entry(.worker, nil).mayServe("math") && entry(.worker, ["math"]).mayServe("math"))
    #expect(!entry(.worker, ["math"]).mayServe("code") && !entry(.worker, []).mayServe("math"))
    #expect(!entry(.coordinator, nil).mayServe("math") && !entry(.init(rawValue: "new"), nil).mayServe("math"))
  }

  @Test func allowAndNarrow() throws {
    let scratch = try Scratch()
    let keys = scratch.path + "/keys"
    try Keys.generate(directory: keys, workers: ["a"])
    try Keys.addWorker("b", directory: keys, experts: ["math"])
    try Keys.allow("c", publicKey: Self.key, role: .coordinator, directory: keys)
    let entries = Keys.entries(directory: keys)
    #expect(entries.map(\.name) == ["a", "b", "c"])
    #expect(entries.map(\.role) == [.worker, .worker, .coordinator])
    #expect(entries.map(\.experts) == [nil, ["math"], nil])
    // The same key under another name would outlive its revocation.
    let twice = failure { try Keys.allow("d", publicKey: Self.key, directory: keys) }
    #expect(twice?.message == "this key is allowed already, as \"c\": revoke that first")
    #expect(failure { try Keys.allow("c", publicKey: Self.key, directory: keys) }?.code == .badInput)
    try Keys.allow("c", publicKey: Self.key, experts: ["law", "code"], directory: keys, force: true)
    #expect(Keys.entries(directory: keys).last?.experts == ["law", "code"])
    for (role, experts) in [
      (AllowedKey.Role(rawValue: "root"), nil), (.coordinator, ["math"]), (.worker, []), (.worker, ["a,b"]),
      (.worker, [""]), (.worker, ["a\nrole: coordinator"]),
    ] as [(AllowedKey.Role, Set<String>?)] {
      let error = failure {
        try Keys.allow("c", publicKey: Self.key, role: role, experts: experts, directory: keys, force: true)
      }
      #expect(error?.code == .badInput)
    }
    #expect(Keys.entries(directory: keys).last?.experts == ["law", "code"])
    // Everyone could write it: nobody is allowed by it.
    let file = keys + "/allowed/c.pub"
    chmod(file, 0o666)
    #expect(Keys.allowed(directory: keys) == ["a", "b"])
    chmod(file, 0o644)
    #expect(Keys.allowed(directory: keys) == ["a", "b", "c"])
  }
}

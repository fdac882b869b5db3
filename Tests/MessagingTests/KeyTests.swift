import Core
import Foundation
import Testing

@testable import Messaging

@Suite struct KeyTests {
  private func mode(_ path: String) throws -> Int {
    try #require(try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int)
  }

  @Test func layout() throws {
    let scratch = try Scratch()
    let keys = scratch.path + "/keys"
    try Keys.generate(directory: keys, workers: ["gpu1", "gpu-2.b"])
    #expect(try mode(keys) == 0o700)
    #expect(try mode(keys + "/coordinator.key") == 0o600)
    #expect(try mode(keys + "/workers/gpu1.key") == 0o600)
    #expect(try mode(keys + "/coordinator.pub") == 0o644)
    let allowed = try String(contentsOfFile: keys + "/allowed/gpu1.pub", encoding: .utf8)
    #expect(allowed == (try String(contentsOfFile: keys + "/workers/gpu1.pub", encoding: .utf8)))
    #expect(allowed.count == 41 && allowed.hasSuffix("\n"))
    #expect(Keys.allowed(directory: keys) == ["gpu-2.b", "gpu1"])
    try Keys.addWorker("gpu3", directory: keys)
    #expect(Keys.allowed(directory: keys) == ["gpu-2.b", "gpu1", "gpu3"])
    try Keys.revoke("gpu1", directory: keys)
    #expect(Keys.allowed(directory: keys) == ["gpu-2.b", "gpu3"])
    #expect(failure { try Keys.revoke("gpu1", directory: keys) }?.code == .badInput)
    let names = try FileManager.default.subpathsOfDirectory(atPath: keys)
    #expect(!names.contains { $0.hasSuffix(".tmp") })
    #expect(try ClientSecurity.load(keysDirectory: keys, worker: "gpu3").name == "gpu3")
  }

  /// Who may do what is in allowed/ alone; the pair in workers/ does not say.
  @Test func narrowedFromTheStart() throws {
    let scratch = try Scratch()
    let keys = scratch.path + "/keys"
    try Keys.generate(directory: keys, workers: ["a", "b"], experts: ["math", "code"])
    #expect(Keys.entries(directory: keys).map(\.name) == ["a", "b"])
    for entry in Keys.entries(directory: keys) {
      #expect(entry.role == .worker && entry.experts == ["math", "code"])
      #expect(entry.mayServe("math") && !entry.mayServe("law"))
      let own = try String(contentsOfFile: "\(keys)/workers/\(entry.name).pub", encoding: .utf8)
      #expect(own == entry.key + "\n")
    }
    for experts in [[], ["a,b"], [""]] as [Set<String>] {
      let error = failure { try Keys.generate(directory: scratch.path + "/other", workers: ["a"], experts: experts) }
      #expect(error?.code == .badInput)
    }
    #expect(!FileManager.default.fileExists(atPath: scratch.path + "/other"))
  }

  @Test func neverOverwrites() throws {
    let scratch = try Scratch()
    let keys = scratch.path + "/keys"
    try Keys.generate(directory: keys, workers: ["a"])
    let secret = try String(contentsOfFile: keys + "/coordinator.key", encoding: .utf8)
    let error = failure { try Keys.generate(directory: keys, workers: ["b"]) }
    #expect(error?.code == .badInput)
    #expect(
      error?.message
        == "\(keys)/coordinator.key exists already; use --force to replace it, which locks out whoever uses the old key"
    )
    #expect(failure { try Keys.addWorker("a", directory: keys) }?.code == .badInput)
    #expect(try String(contentsOfFile: keys + "/coordinator.key", encoding: .utf8) == secret)
    #expect(!FileManager.default.fileExists(atPath: keys + "/workers/b.key"))
    try Keys.generate(directory: keys, workers: ["b"], force: true)
    #expect(try String(contentsOfFile: keys + "/coordinator.key", encoding: .utf8) != secret)
    #expect(try mode(keys + "/coordinator.key") == 0o600)
    #expect(failure { try Keys.addWorker("c", directory: scratch.path + "/none") }?.code == .badInput)
  }

  @Test(arguments: ["", "../evil", "a/b", ".hidden", "a b", "ключ", "a:b", String(repeating: "x", count: 65)])
  func badNames(name: String) throws {
    let scratch = try Scratch()
    let error = failure { try Keys.generate(directory: scratch.path + "/keys", workers: [name]) }
    #expect(error?.code == .badInput)
    #expect(error?.message.hasPrefix("\"\(name)\" cannot name a key") == true)
    #expect(!FileManager.default.fileExists(atPath: scratch.path + "/keys"))
  }

  @Test func openSecrets() throws {
    let scratch = try Scratch()
    let keys = scratch.path + "/keys"
    try Keys.generate(directory: keys, workers: ["a"])
    for (path, bits) in [(keys + "/coordinator.key", 0o640), (keys + "/workers/a.key", 0o604)] {
      try FileManager.default.setAttributes([.posixPermissions: bits], ofItemAtPath: path)
      let error = failure {
        if bits == 0o640 { _ = try ServerSecurity.load(keysDirectory: keys) }
        _ = try ClientSecurity.load(keysDirectory: keys)
      }
      #expect(error?.code == .badInput)
      #expect(
        error?.message
          == "the secret key \(path) can be read by others than its owner: run `chmod 600 \(path)`, and make a new key "
          + "if someone may have read it")
    }
  }

  @Test func brokenFiles() throws {
    let scratch = try Scratch()
    let keys = scratch.path + "/keys"
    #expect(
      failure { _ = try ServerSecurity.load(keysDirectory: keys) }?.message
        == "\(keys) holds no coordinator.pub: make the keys with `fusionroute keys`")
    try Keys.generate(directory: keys, workers: ["a", "b"])
    #expect(failure { _ = try ClientSecurity.load(keysDirectory: keys) }?.message.contains("2 worker keys") == true)
    #expect(failure { _ = try ClientSecurity.load(keysDirectory: keys, worker: "c") }?.code == .badInput)
    // A public key of another pair.
    try FileManager.default.removeItem(atPath: keys + "/workers/a.pub")
    try FileManager.default.copyItem(atPath: keys + "/workers/b.pub", toPath: keys + "/workers/a.pub")
    #expect(
      failure { _ = try ClientSecurity.load(keysDirectory: keys, worker: "a") }?.message.hasSuffix(
        "are not one pair: copy or make them again") == true)
    for content in ["", "short\n", String(repeating: "~", count: 40), String(repeating: "a", count: 2_000), "\0\0"] {
      try Data(content.utf8).write(to: URL(fileURLWithPath: keys + "/coordinator.pub"))
      #expect(failure { _ = try ServerSecurity.load(keysDirectory: keys) }?.code == .badInput)
    }
    // A broken file in the allow-list allows nobody, and hinders nobody else.
    try Data("nonsense".utf8).write(to: URL(fileURLWithPath: keys + "/allowed/a.pub"))
    #expect(Keys.allowed(directory: keys) == ["b"])
    #expect(failure { try Keys.allow("x", publicKey: "nonsense", directory: keys) }?.code == .badInput)
  }
}

import Core
import Foundation
import Testing

@testable import Launch

@Suite struct ClusterFileTests {
  static let directory = URL(fileURLWithPath: "/srv/cluster")

  static func parse(_ text: String) throws -> ClusterFile {
    try ClusterFile.parse(text, source: "cluster.yaml", directory: directory)
  }

  /// The sentence of the error that `text` gives.
  static func sentence(_ text: String) -> String? {
    do {
      _ = try parse(text)
      return nil
    } catch let error as FusionRouteError {
      return error.code == .badInput ? error.message : "wrong code \(error.code.rawValue)"
    } catch {
      return "no FusionRouteError: \(error)"
    }
  }

  static let contract = """
    router:  { model: router.gguf, head: router-head.gguf, threads: 1, context: 4096 }
    experts:
      math:  { model: math.gguf, replicas: 2, threads: 1, gpu_layers: 0, context: 4096 }
      code:  { model: code.gguf, lora: code-adapter.gguf, slots: 4 }
    hosts:
      - { name: gpu1, address: 10.0.0.11, launcher: ssh, memory: 80GiB, threads: 32 }
    listen:  { http: 127.0.0.1:8080, workers: "tcp://10.0.0.10:5570", advertise: "tcp://10.0.0.10:5570" }
    decoding: { top_k: 32, reproducible: true }
    on_expert_loss: fail
    security: { keys: keys/ }
    """

  @Test func readsTheContractsExample() throws {
    let cluster = try Self.parse(Self.contract)
    #expect(
      cluster.router
        == ClusterFile.Router(
          engine: ClusterFile.Engine(
            model: "/srv/cluster/router.gguf", threads: 1, gpuLayers: 0, context: 4096, slots: 4, kv: .auto),
          head: "/srv/cluster/router-head.gguf"))
    #expect(cluster.experts.map(\.name) == ["math", "code"])
    #expect(cluster.experts[0].replicas == 2)
    #expect(cluster.experts[1].engine.lora == "/srv/cluster/code-adapter.gguf")
    #expect(
      cluster.hosts
        == [
          ClusterFile.Host(name: "gpu1", address: "10.0.0.11", launcher: .ssh, memory: 85_899_345_920, threads: 32)
        ])
    #expect(cluster.listen.workers == .tcp(host: "10.0.0.10", port: 5570))
    #expect(cluster.keys == "/srv/cluster/keys")
    #expect(cluster.onExpertLoss == .fail)
  }

  static let least = """
    router:
      model: r.gguf
      head: h.gguf
    experts:
      math:
        model: /models/m.gguf

    """

  @Test func defaultsOfTheTableAreThoseOfTheTypes() throws {
    let parsed = try Self.parse(Self.least)
    var built = ClusterFile(
      source: "cluster.yaml",
      router: ClusterFile.Router(engine: .init(model: "/srv/cluster/r.gguf"), head: "/srv/cluster/h.gguf"),
      experts: [ClusterFile.Expert(name: "math", engine: .init(model: "/models/m.gguf"))])
    built.lines = parsed.lines
    #expect(parsed == built)
  }

  /// Each: what is wrong, the text, what the sentence must contain.
  static let mistakes: [(String, String, [String])] = [
    ("misspelt key", least + "decodng: { top_k: 3 }\n", ["cluster.yaml:7:", "\"decodng\"", "\"decoding\""]),
    (
      "misspelt key below", least.replacing("model: /models", with: "modle: /models"),
      ["cluster.yaml:6:", "\"modle\"", "\"experts.math\"", "\"model\""]
    ),
    ("swapped letters", least + "decoding: { topk: 3 }\n", ["cluster.yaml:7:", "\"topk\"", "\"top_k\""]),
    ("key of another section", least + "audit_rate: 0\n", ["cluster.yaml:7:", "\"audit_rate\"", "\"decoding\""]),
    ("no near key", least + "decoding: { zzzzzz: 3 }\n", ["\"zzzzzz\"", "top_k, reproducible"]),
    (
      "missing key", "router: { model: a }\nexperts: { a: { model: b } }",
      ["cluster.yaml:1:", "\"router\"", "\"head\""]
    ),
    ("missing section", "router: { model: a, head: b }\n", ["the key \"experts\""]),
    ("no expert", "router: { model: a, head: b }\nexperts: {}\n", ["cluster.yaml:2:", "no expert"]),
    ("experts as a list", "router: { model: a, head: b }\nexperts: [math]\n", ["cluster.yaml:2:", "\"experts\""]),
    (
      "text for a number", least + "decoding: { top_k: many }\n",
      ["cluster.yaml:7:", "\"top_k\" is \"many\"", "1 to 65536"]
    ),
    ("number in quotes", least + "decoding: { top_k: \"3\" }\n", ["cluster.yaml:7:", "\"top_k\""]),
    ("number out of range", least + "decoding: { top_k: 0 }\n", ["\"top_k\" is \"0\"", "1 to 65536"]),
    (
      "context beyond the protocol's", least + "    context: 262145\n",
      ["cluster.yaml:7:", "\"context\" is \"262145\"", "16 to 262144"]
    ),
    ("huge number", least + "decoding: { top_k: 99999999999999999999 }\n", ["\"top_k\""]),
    ("flag by another word", least + "decoding: { reproducible: yes }\n", ["\"reproducible\"", "`true` or `false`"]),
    ("NaN", least + "decoding: { audit_rate: nan }\n", ["\"audit_rate\"", "0 to 1"]),
    ("unknown choice", least + "on_expert_loss: retry\n", ["cluster.yaml:7:", "`next_best`"]),
    ("duration without unit", least + "expert_wait: 30\n", ["cluster.yaml:7:", "`30s`"]),
    ("negative duration", least + "expert_wait: -1s\n", ["cluster.yaml:7:", "\"-1s\""]),
    ("list for a word", least + "on_expert_loss: [fail]\n", ["cluster.yaml:7:", "\"on_expert_loss\""]),
    ("empty value", least + "on_expert_loss:\n", ["cluster.yaml:7:", "\"on_expert_loss\""]),
    ("null for a required path", least.replacing("r.gguf", with: "~"), ["cluster.yaml:2:", "\"model\""]),
    (
      "duplicate expert", least + "  math:\n    model: other.gguf\n", ["cluster.yaml:5:", "\"math\"", "more than once"]
    ),
    ("invalid expert name", least.replacing("math", with: "ma th"), ["cluster.yaml:5:", "\"ma th\""]),
    ("colon in an expert's name", least.replacing("math", with: "\"a:b\""), ["cluster.yaml:5:", "\"a:b\""]),
    ("reserved name", least.replacing("math", with: "router"), ["cluster.yaml:5:", "the router itself"]),
    ("scale without adapter", least + "    lora_scale: 2\n", ["cluster.yaml:7:", "\"lora\""]),
    ("bad endpoint", least + "listen: { workers: \"http://x:1\" }\n", ["cluster.yaml:7:", "tcp://HOST:PORT"]),
    (
      "port too large", least + "listen: { workers: \"tcp://localhost:65536\" }\n",
      ["cluster.yaml:7:", "tcp://HOST:PORT"]
    ),
    (
      "open bind without keys", least + "listen: { workers: \"tcp://10.0.0.1:5570\" }\n",
      ["cluster.yaml:7:", "security.keys"]
    ),
    ("wildcard bind without keys", least + "listen: { workers: \"tcp://*:5570\" }\n", ["security.keys"]),
    (
      "remote host, loopback bind",
      least + "hosts: [{ name: a, address: 10.0.0.2 }]\nlisten: { workers: \"tcp://127.0.0.1:5570\" }\n",
      ["cluster.yaml:8:", "\"a\"", "cannot reach"]
    ),
    (
      "remote host, no bind", least + "hosts:\n  - { name: a, address: b.example }\n",
      ["cluster.yaml:8:", "listen.workers"]
    ),
    (
      "remote host, wildcard without advertise",
      least + "hosts: [{ name: a, address: h }]\nlisten: { workers: \"tcp://*:1\" }\nsecurity: { keys: k }\n",
      ["cluster.yaml:8:", "listen.advertise"]
    ),
    (
      "two hosts of one name",
      least + "hosts:\n  - { name: a, address: \"::1\" }\n  - { name: a, address: localhost }\n",
      ["cluster.yaml:9:", "\"a\""]
    ),
    (
      "unknown host", least + "    host: gpu\nhosts: [{ name: gpu1, address: localhost }]\n",
      ["cluster.yaml:7:", "\"gpu1\""]
    ),
    ("hosts as a mapping", least + "hosts: { a: { address: b } }\n", ["cluster.yaml:7:", "list"]),
    ("no YAML", "router: {", ["cluster.yaml:", "YAML"]),
    ("tab", "router:\n\tmodel: a\n", ["cluster.yaml:2:", "YAML"]),
    ("empty", "", ["empty"]),
    ("only a comment", "# nothing\n", ["empty"]),
    ("a word", "hello", ["mapping"]),
    ("two documents", least + "---\nrouter: {}\n", ["cluster.yaml:", "YAML"]),
    ("undefined alias", "router: *a\n", ["cluster.yaml:1:", "YAML"]),
    ("a mapping as key", "{ [a]: b }\n", ["cluster.yaml:1:", "plain word"]),
  ]

  @Test(arguments: mistakes.indices) func mistakesGetOneSentence(_ index: Int) throws {
    let (what, text, parts) = Self.mistakes[index]
    let sentence = try #require(Self.sentence(text), "\(what) was accepted")
    for part in parts { #expect(sentence.contains(part), "\(what): \(sentence)") }
    #expect(!sentence.contains("\n"), "\(what): \(sentence)")
  }

  @Test func wordingIsPinned() {
    #expect(
      Self.sentence(Self.least + "decodng: { top_k: 3 }\n")
        == "cluster.yaml:7: unknown key \"decodng\" in the cluster file: did you mean \"decoding\"?")
    #expect(
      Self.sentence(Self.least + "decoding: { top_k: many }\n")
        == "cluster.yaml:7: \"top_k\" is \"many\" but must be: whole number, 1 to 65536")
  }

  /// Every key of the schema, with any one letter left out, is refused with the key's name and the nearest valid one.
  @Test func everyMisspeltKeyIsNamed() throws {
    func walk(_ settings: [Setting], wrap: (String) -> String, path: String) throws {
      for setting in settings {
        for drop in setting.key.indices {
          var key = setting.key
          key.remove(at: drop)
          if settings.contains(where: { $0.key == key }) || key.isEmpty { continue }
          let sentence = try #require(Self.sentence(wrap("\(key): x")), "\(path).\(key) was accepted")
          #expect(sentence.contains("\"\(key)\"") && sentence.contains("\"\(setting.key)\""), "\(sentence)")
        }
      }
    }
    for setting in ClusterSchema.root {
      switch setting.kind {
      case .section(let below) where setting.key == "router":
        try walk(below, wrap: { "router: { \($0) }\nexperts: { n: { model: c } }" }, path: setting.key)
      case .section(let below): try walk(below, wrap: { Self.least + "\(setting.key): { \($0) }" }, path: setting.key)
      case .named(let below):
        try walk(below, wrap: { "router: { model: a, head: b }\n\(setting.key): { n: { \($0) } }" }, path: setting.key)
      case .list(let below):
        try walk(below, wrap: { Self.least + "\(setting.key):\n  - { \($0) }" }, path: setting.key)
      default: break
      }
    }
    try walk(ClusterSchema.root, wrap: { $0 }, path: "")
  }

  @Test func damagedTextNeverTraps() {
    var generator = SplitMix64(seed: 20_261)
    let bytes = Array(Self.contract.utf8)
    for _ in 0..<2000 {
      var changed = bytes
      for _ in 0..<Int.random(in: 1...4, using: &generator) {
        let at = Int.random(in: changed.indices, using: &generator)
        switch Int.random(in: 0..<3, using: &generator) {
        case 0: changed[at] = UInt8.random(in: 0..<128, using: &generator)
        case 1: changed.remove(at: at)
        default:
          changed.insert(
            UInt8(
              ascii: [" ", "\n", ":", "{", "}", "&", "*", "-", "\"", "!", "|"].randomElement(using: &generator) ?? " "),
            at: at)
        }
      }
      let sentence = Self.sentence(String(decoding: changed, as: UTF8.self))
      #expect(sentence?.hasPrefix("wrong") != true && sentence?.hasPrefix("no F") != true, "\(sentence ?? "")")
    }
  }

  @Test func deepNestingIsRefused() {
    #expect(Self.sentence(String(repeating: "[", count: 100_000))?.contains("YAML") == true)
    #expect(Self.sentence("router: " + String(repeating: "[", count: 900) + String(repeating: "]", count: 900)) != nil)
  }

  @Test func sharedBlocksByAnchor() throws {
    let cluster = try Self.parse(
      "router: { model: r, head: h }\nexperts:\n  a: &a { model: m, threads: 2 }\n  b: *a\n")
    #expect(cluster.experts.map(\.engine.threads) == [2, 2])
  }

  @Test func fileProblems() throws {
    try withScratch { scratch in
      let file = scratch.appendingPathComponent("c.yaml").path
      #expect(throws: FusionRouteError.self) { try ClusterFile.load(path: file) }
      try Data(Array("router:\n  model: ".utf8) + [0xC3, 0x28] + Array("\n".utf8)).write(to: URL(fileURLWithPath: file))
      do {
        _ = try ClusterFile.load(path: file)
        Issue.record("invalid UTF-8 was accepted")
      } catch let error as FusionRouteError {
        #expect(error.message == "\(file):2: this line is not valid UTF-8")
      }
      try Data(repeating: UInt8(ascii: "#"), count: ClusterFile.maximumBytes + 1).write(to: URL(fileURLWithPath: file))
      #expect(throws: FusionRouteError.self) { try ClusterFile.load(path: file) }
      try Self.least.write(toFile: file, atomically: true, encoding: .utf8)
      let cluster = try ClusterFile.load(path: file)
      #expect(cluster.router.engine.model == scratch.appendingPathComponent("r.gguf").path)
      do {
        try cluster.checkFiles(for: [.coordinator])
        Issue.record("a missing model was accepted")
      } catch let error as FusionRouteError {
        #expect(error.message == "\(file):2: the router's model does not exist: \(cluster.router.engine.model)")
      }
      try Data().write(to: scratch.appendingPathComponent("r.gguf"))
      try FileManager.default.createDirectory(
        at: scratch.appendingPathComponent("h.gguf"), withIntermediateDirectories: false)
      do {
        try cluster.checkFiles(for: [.coordinator])
        Issue.record("a directory was accepted as the head")
      } catch let error as FusionRouteError {
        #expect(error.message.contains(":3: the routing head is a directory"))
      }
      try cluster.checkFiles(for: [.workers(of: [])])
    }
  }
}

/// A directory that is removed at the end.
func withScratch(_ body: (URL) throws -> Void) throws {
  let url = FileManager.default.temporaryDirectory.appendingPathComponent("launch-tests-\(UUID().uuidString)")
  try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: url) }
  try body(url)
}

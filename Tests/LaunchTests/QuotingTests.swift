import Core
import Foundation
import Testing
import Yams

@testable import Launch

@Suite struct QuotingTests {
  private static let awkward = [
    "", " ", "a b", "it's", "''", "\"", "$HOME", "`id`", "$(id)", "\\", "\\'", "a\nb", "\t", "~", "~root", "a=b", "=x",
    "*", "?", "[a]", "{a,b}", "#x", "!x", "-n", "--", ";ls", "&", "|", "<", ">", "é", "日本", "\u{7F}", "\u{85}",
    "\u{2028}",
    "x\u{FEFF}y", "yes", "No", "null", "~", "1", "0x1", "1e3", "2026-01-01", ":", "a: b", "- a", "? a", "%a", "@a",
    "\r",
    "a ", " a", "|", ">", "''\n''", "\u{1}", "🙂", "on", "y", ".5", "-", "_", "/", "a/b", "&a", "*a", "{}", "[]", "a #b",
  ]

  private static func random(_ generator: inout SplitMix64) -> String {
    let alphabet = Array("ab01 '\"\\$`~!#&*()[]{}<>|;:,?%@=+-_./^\n\t\ré🙂\u{7F}\u{2029}").map(String.init)
    return (0..<Int.random(in: 0...12, using: &generator)).map { _ in alphabet.randomElement(using: &generator) ?? "" }
      .joined()
  }

  /// A real shell gives every word back as it was.
  @Test func shellsGiveWordsBack() async throws {
    print("quoting seed", 5)
    var generator = SplitMix64(seed: 5)
    let words = Self.awkward + (0..<400).map { _ in Self.random(&generator) }
    for shell in ["sh", "bash", "dash"] where Spawn.find(shell, environment: ["PATH": "/usr/bin:/bin"]) != nil {
      let script = words.map { "printf '%s\\0' " + Quoting.shell($0) }.joined(separator: "\n")
      let result = try await SystemCommands.run(HostCommand(shell, ["-s"], input: script))
      #expect(result.exit == .code(0), "\(shell): \(result.errors)")
      let back = result.output.split(separator: "\0", omittingEmptySubsequences: false).dropLast().map(String.init)
      #expect(back == words, "\(shell)")
      // As ssh does: the whole command line is one argument of a shell.
      let line = try await SystemCommands.run(HostCommand(shell, ["-c", Quoting.shell(["printf", "%s\\0"] + words)]))
      #expect(line.output == words.map { $0 + "\0" }.joined(), "\(shell)")
    }
  }

  /// NUL ends every argument; it cannot be passed and must not cut off the closing quote.
  @Test func nothingFollowsANUL() {
    #expect(Quoting.shell("a\u{0}; id") == "'a; id'")
  }

  /// A YAML reader gives every text back as a string.
  @Test func yamlGivesTextsBack() throws {
    print("quoting seed", 6)
    var generator = SplitMix64(seed: 6)
    for text in Self.awkward + (0..<1000).map({ _ in Self.random(&generator) }) {
      let document = YAMLText.object(["key": .text(text), "list": .list([.text(text), .object(["a": .text(text)])])])
        .document
      let node = try #require(try compose(yaml: document), "\(document)")
      #expect(node["key"]?.string == text, "\(document)")
      #expect(
        node["key"]?.scalar?.style == .plain ? node["key"]?.tag.description == "tag:yaml.org,2002:str" : true,
        "\(document)")
      #expect(node["list"]?[0]?.string == text && node["list"]?[1]?["a"]?.string == text, "\(document)")
    }
  }

  @Test func blocksOfLines() throws {
    for text in [
      "a\n", "a\nb\n", "a: b\n  c: d\n\n\ne\n", "# x\n", "a\n\n", " a\n", "\na\n", "a\n b", "tab\t\n", "é\n",
    ] {
      let document = YAMLText.object(["data": .object(["f": .text(text)]), "after": 1]).document
      let node = try #require(try compose(yaml: document))
      #expect(node["data"]?["f"]?.string == text, "\(document)")
      #expect(node["after"]?.int == 1)
    }
  }

  @Test func optionsOfSbatch() {
    for good in [
      "--exclusive", "--time=1-12:00:00", "--gres=gpu:a100:2", "--nodelist=n[1-3]", "--mail-user=a@b.example",
    ] {
      #expect(Quoting.isBatchOption(good), "\(good)")
    }
    for bad in [
      "", "-p", "exclusive", "--", "--a b", "--a=b c", "--a=", "--a=$(id)", "--a='b'", "--a=b#c", "--a=b\nid",
      "--a=\"b\"",
      "--a=b;c", "---a", "--a`", "--=b",
    ] { #expect(!Quoting.isBatchOption(bad), "\(bad)") }
  }

  @Test func namesOfKubernetes() {
    for good in ["a", "a-b", "0", String(repeating: "a", count: 63)] {
      #expect(KubernetesName.isLabel(good))
      #expect(KubernetesLabels.label(good) == good)
    }
    var seen: Set<String> = []
    for bad in ["", "-", "A", "a_b", "a.b", "a-", "-a", "ä", String(repeating: "a", count: 64), "a b", "a_b_", "a.b."] {
      #expect(!KubernetesName.isLabel(bad), "\(bad)")
      #expect(KubernetesName.isLabel(KubernetesLabels.label(bad)), "\(bad): \(KubernetesLabels.label(bad))")
      #expect(seen.insert(KubernetesLabels.label(bad)).inserted, "\(bad)")
    }
  }

  @Test func pathsForSSH() {
    for good in ["/home/a b/.ssh/id", "/x"] { #expect(Quoting.isSSHPath(good)) }
    for bad in ["", "/a\"b", "/a%h", "/a$b", "/a\nb", "/a\\b", "/a'b", "/a\u{600}%h"] {
      #expect(!Quoting.isSSHPath(bad), "\(bad)")
    }
  }
}

import Coordinator
import Core
import Foundation
import Testing

@testable import fusionroute

@Suite struct StatusViewTests {
  static let json = """
    {"version":"0.1.0","uptime_s":4000.5,"ready":false,"reason":"expert \\"cat\\" has no replica",
     "router":{"model":"/m/router.gguf","context":4096,"slots":3,"queued":1,"resident_sequences":2,"kv_tokens":1234,
      "evaluated_tokens":56789},
     "experts":[
      {"name":"ant","routed":true,"tokens":30,"replicas":[
       {"id":"7","host":"gpu1","pid":42,"state":"serving","slots":4,"context":4096,"sequences":1,"under_way":1,
        "queued":0,"resident_sequences":2,"kv_tokens":500,"evaluated_tokens":9000,"silence_ms":12,
        "batch_invariant":true},
       {"id":"8","host":"e\\u001b[31mvil","pid":43,"state":"draining","slots":4,"context":4096,"sequences":0,
        "under_way":0,"queued":0,"resident_sequences":0,"kv_tokens":0,"evaluated_tokens":1,"silence_ms":5000,
        "batch_invariant":true}]},
      {"name":"cat","routed":true,"tokens":10,"replicas":[]}],
     "requests":{"running":1,"waiting":5,"queue_limit":1024,"finished":1200,"failed":2,"cancelled":1,"refused":0},
     "totals":{"prompt_tokens":3200,"cached_tokens":1000,"generated_tokens":40,"failovers":1,"row_bytes":99,
      "router_queue_us":0,"router_compute_us":500,"wire_us":100,"expert_queue_us":0,"expert_compute_us":300,
      "merge_us":100},
     "tokens_per_second":41.25}
    """

  private func status() throws -> CoordinatorStatus {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try decoder.decode(CoordinatorStatus.self, from: Data(Self.json.utf8))
  }

  private let plain = Style(isTerminal: true, depth: .none, unicode: false, width: 120)

  @Test func table() throws {
    let lines = StatusView(url: "http://h:1", style: plain).lines(try status())
    #expect(lines[0] == "fusionroute 0.1.0 at http://h:1, router.gguf, up 1 h 6 min, not ready")
    #expect(lines[1] == "expert \"cat\" has no replica")
    #expect(lines[2] == "1 running, 5 waiting of 1,024, 1,200 done, 2 failed, 1 cancelled, 0 refused")
    #expect(
      lines[3] == "41.2 tokens/s, 40 generated, 3,200 of prompts, 1,000 of them from the cache, 1 failover")
    let words = lines[5..<10].map { $0.split(separator: " ", omittingEmptySubsequences: true).map(String.init) }
    #expect(
      words[0] == ["model", "replica", "where", "state", "sequences", "queue", "KV", "tokens", "evaluated", "decided"])
    #expect(words[1] == ["router", "2/3", "1", "1,234/12,288", "56,789"])
    #expect(words[2] == ["ant", "7", "gpu1", "(42)", "serving", "1/4", "0", "500/16,384", "9,000", "30", "75", "%"])
    #expect(words[3].joined(separator: " ") == "8 e\u{FFFD}[31mvil (43) draining, silent 5 s 0/4 0 0/16,384 1")
    #expect(words[4] == ["cat", "-", "missing", "10", "25", "%"])
    #expect(
      lines[11] == String(repeating: "R", count: 30) + String(repeating: "E", count: 18)
        + String(repeating: "W", count: 6) + String(repeating: "M", count: 6))
    #expect(lines[12] == "R router 50 %  E expert 30 %  W wire 10 %")
  }

  /// In a narrow window the speeds and shares stay; sums go first, then memory, then places.
  @Test(arguments: [(120, 0), (110, 1), (100, 2), (80, 3)]) func narrow(width: Int, missing: Int) throws {
    var before = try status()
    before.uptimeS -= 2
    let style = Style(isTerminal: true, depth: .none, unicode: false, width: width)
    let lines = StatusView(url: "http://h:1", style: style).lines(try status(), previous: (before, 2))[5..<10]
    #expect(lines.allSatisfy { $0.count <= width }, "\(lines)")
    let head = try #require(lines.first)
    #expect(["model", "replica", "state", "per s", "decided"].allSatisfy { head.contains($0) }, "\(head)")
    #expect(["evaluated", "KV tokens", "where"].map { head.contains($0) } == (0..<3).map { $0 >= missing }, "\(head)")
  }

  /// With an earlier status, speeds and the time since are shown; a restart in between is noticed.
  @Test func sinceAnEarlierStatus() throws {
    var before = try status()
    before.uptimeS -= 2
    before.router.evaluatedTokens -= 100
    before.totals.routerComputeUs = 500
    before.totals.expertComputeUs = 200
    before.totals.wireUs = 100
    before.totals.mergeUs = 100
    let view = StatusView(url: "u", style: plain)
    let lines = view.lines(try status(), previous: (before, 2))
    #expect(lines[6].split(separator: " ").suffix(2) == ["56,789", "50.0"], "\(lines[6])")
    #expect(lines[11] == String(repeating: "E", count: 60))
    before.uptimeS += 10_000
    #expect(view.lines(try status(), previous: (before, 2)) == view.lines(try status()))
  }

  /// However narrow the terminal, no line is longer, with colours or without.
  @Test(arguments: [10, 40, 80, 200]) func widths(_ width: Int) throws {
    for depth in [Style.Depth.none, .indexed] {
      let style = Style(isTerminal: true, depth: depth, unicode: true, width: width)
      var table = TextTable()
      table.add([.init("a"), .number("1"), .init("state", .failure), .init(String(repeating: "x", count: 90))])
      table.add([.init("bbb", .strong), .number("22"), .init("s"), .init("y")])
      for line in table.lines(style) {
        let visible = line.replacing(/\u{1B}\[[0-9;]*m/, with: "")
        #expect(visible.count <= width, "\(visible)")
      }
    }
  }

  @Test(arguments: 0..<50) func columnsFillTheBar(seed: UInt64) {
    print("columns seed \(seed)")
    var generator = SplitMix64(seed: seed)
    let values = (0..<6).map { _ in
      UInt64.random(in: 0...1000, using: &generator) * UInt64.random(in: 0...1, using: &generator)
    }
    let columns = StatusView.columns(values, width: 60)
    guard values.contains(where: { $0 > 0 }) else { return #expect(columns.allSatisfy { $0 == 0 }) }
    #expect(columns.reduce(0, +) == 60)
    let sum = Double(values.reduce(0, +))
    for (value, count) in zip(values, columns) { #expect(abs(Double(value) / sum * 60 - Double(count)) < 1) }
  }

  @Test func framesOverwriteInPlace() {
    let frame = LiveScreen.frame(["one", "two", "three"], height: 2)
    #expect(frame == "\u{1B}[?2026h\u{1B}[Hone\u{1B}[K\r\ntwo\u{1B}[K\u{1B}[J\u{1B}[?2026l")
  }

  @Test func times() {
    #expect(StatusView.time(0) == "0 s" && StatusView.time(61) == "1 min 1 s" && StatusView.time(90_000) == "1 d 1 h")
    #expect(
      StatusView.count(0) == "0" && StatusView.count(1000) == "1,000"
        && StatusView.count(UInt64(1_234_567)) == "1,234,567")
  }
}

import Core
import Foundation
import Logging
import Testing

@testable import fusionroute

@Suite struct TraceFileTests {
  /// What viewers do with an array that lacks its end.
  static func events(_ text: String) throws -> [[String: Any]] {
    var body = text
    while body.last?.isNewline == true || body.last == "," { body.removeLast() }
    return try #require(try JSONSerialization.jsonObject(with: Data((body + "]").utf8)) as? [[String: Any]])
  }

  private func span(
    _ name: String, _ id: Int, parent: Int, _ range: Range<UInt64>, _ attributes: [String: TraceValue] = [:]
  ) -> TraceSpan {
    func hexadecimal(_ value: Int) -> String {
      let text = String(value, radix: 16)
      return String(repeating: "0", count: 16 - text.count) + text
    }
    return TraceSpan(
      name: name, traceID: String(repeating: "a", count: 32), spanID: hexadecimal(id), parentID: hexadecimal(parent),
      start: range.lowerBound, end: range.upperBound, attributes: attributes)
  }

  private func token(_ id: Int, of parent: Int, _ range: Range<UInt64>, expert: String = "ant") -> TraceSpan {
    let part = Int(range.count) / 10_000
    return span(
      "token", id, parent: parent, range,
      [
        "expert": .string(expert), "token": .integer(7), "router_queue_us": .integer(part),
        "router_compute_us": .integer(3 * part), "wire_us": .integer(2 * part), "expert_compute_us": .integer(3 * part),
      ])
  }

  @Test func rowsOfRequestsAndModels() throws {
    var events = TraceEvents(experts: ["ant", "bee"])
    let begin: UInt64 = 1_764_040_001_000_000_123
    var text = events.beginning()
    text += events.lines(token(2, of: 1, begin + 1000..<begin + 101_000))
    text += events.lines(token(3, of: 1, begin + 101_000..<begin + 201_000, expert: "bee"))
    text += events.lines(
      span("request", 1, parent: 99, begin..<begin + 300_000, ["request_id": .string("req-\"1"), "n": .number(0.5)]))
    let all = try Self.events(text)
    let slices = all.filter { $0["ph"] as? String == "X" }
    func place(_ event: [String: Any]) -> [Int] { [event["pid"] as? Int ?? 0, event["tid"] as? Int ?? 0] }
    #expect(slices.filter { place($0) == [1, 1] }.map { $0["name"] as? String } == ["token", "token", "request"])
    #expect(slices.filter { place($0)[0] == 2 }.count == 2 && slices.filter { place($0)[0] == 3 }.count == 1)
    let names = all.filter { $0["ph"] as? String == "M" }
      .compactMap { event in ((event["args"] as? [String: Any])?["name"] as? String).map { (place(event), $0) } }
    for (place, name) in [
      ([1, 0], "requests"), ([2, 0], "router"), ([3, 0], "expert ant"), ([4, 0], "expert bee"), ([1, 1], "req-\"1"),
      ([2, 1], "router 1"),
    ] { #expect(names.contains { $0.0 == place && $0.1 == name }, "\(name)") }
    // To the nanosecond, which a Double of that size would not be.
    #expect(text.contains("\"ts\":1764040001000000.123,\"dur\":300.000"))
    // Behind the router's queue, for as long as it took.
    #expect(text.contains("\"pid\":2,\"tid\":1,\"ts\":1764040001000011.123,\"dur\":30.000"))
    #expect(text.contains("\"pid\":3,\"tid\":1,\"ts\":1764040001000051.123,\"dur\":30.000"))
  }

  /// Slices of one row never overlap halfway, or viewers show nonsense; whatever runs at the same time.
  @Test(arguments: 0..<20) func slicesNest(seed: UInt64) throws {
    print("trace seed \(seed)")
    var generator = SplitMix64(seed: seed)
    var spans: [TraceSpan] = []
    for request in 0..<12 {
      let start = UInt64.random(in: 1_000_000...2_000_000, using: &generator)
      var time = start
      for index in 0..<6 {
        let end = time + UInt64.random(in: 20_000...200_000, using: &generator)
        spans.append(
          token(
            request * 100 + index + 1, of: request * 100 + 50, time..<end,
            expert: Bool.random(using: &generator) ? "ant" : "new"))
        time = end
      }
      spans.append(span("request", request * 100 + 50, parent: 9999, start..<time))
    }
    spans.sort { ($0.end, $1.name) < ($1.end, $0.name) }
    var events = TraceEvents(experts: ["ant"])
    let text = events.beginning() + spans.map { events.lines($0) }.joined()
    var rows: [String: [(Double, Double)]] = [:]
    for event in try Self.events(text) where event["ph"] as? String == "X" {
      let start = try #require(event["ts"] as? Double)
      let length = try #require(event["dur"] as? Double)
      rows["\(event["pid"] ?? "")/\(event["tid"] ?? "")", default: []].append((start, start + length))
    }
    #expect(rows.count > 12)
    for (row, slices) in rows {
      for (a, b) in slices.flatMap({ a in slices.map { (a, $0) } }) where a.0 < b.0 && b.0 < a.1 - 0.002 {
        #expect(b.1 <= a.1 + 0.002, "row \(row): \(a) and \(b)")
      }
    }
  }

  @Test func sizeIsBounded() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("trace-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let path = folder.appendingPathComponent("trace.json").path
    try "old".write(toFile: path, atomically: true, encoding: .utf8)
    let limit = 20_000
    let file = try TraceFile(path: path, experts: ["ant"], limit: limit, logger: Logger(label: "test"))
    #expect(try String(contentsOfFile: path + ".1", encoding: .utf8) == "old")
    for index in 1...400 {
      file.record(token(index, of: 1, UInt64(index) * 100_000..<UInt64(index + 1) * 100_000))
      file.flush()
    }
    #expect(Set(try FileManager.default.contentsOfDirectory(atPath: folder.path)) == ["trace.json", "trace.json.1"])
    var ids: Set<String> = []
    for name in [path, path + ".1"] {
      let text = try String(contentsOfFile: name, encoding: .utf8)
      #expect(text.utf8.count < limit + 2000)
      let names = try Self.events(text).compactMap { ($0["args"] as? [String: Any])?["name"] as? String }
      #expect(names.contains("expert ant") && names.contains("router"))
      for event in try Self.events(text) {
        if let id = (event["args"] as? [String: Any])?["span_id"] { ids.insert("\(id)") }
      }
    }
    #expect(ids.contains("0000000000000190"), "the last span is missing")
    let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
    #expect(mode == 0o600)
    #expect(throws: FusionRouteError.self) {
      try TraceFile(path: folder.path + "/none/trace.json", experts: [], logger: Logger(label: "test"))
    }
  }
}

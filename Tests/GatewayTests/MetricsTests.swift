import Coordinator
import Foundation
import TestSupport
import Testing

@testable import Gateway

/// `/metrics` against its article, which dashboards are made from.
@Suite(.serialized) struct MetricsTests {
  @Test("the article lists every name with its kind and labels, and no other")
  func article() async throws {
    let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().appendingPathComponent("Sources/Gateway/Gateway.docc/Metrics.md")
    let article = try String(contentsOf: file, encoding: .utf8)
    var documented: [String: (kind: String, labels: [String])] = [:]
    for line in article.split(separator: "\n") where line.hasPrefix("| `") {
      let cells = line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
      let labels = cells[2].split(separator: ",").map { $0.trimmingCharacters(in: CharacterSet(charactersIn: " `")) }
      documented[cells[0].trimmingCharacters(in: CharacterSet(charactersIn: "`"))] = (cells[1], labels)
    }
    let scratch = try Scratch("metrics")
    let text = try await withGateway(configure: { $0.journal = scratch.path("journal.db") }) { gateway in
      // So that each family has a sample.
      _ = try await gateway.post("/v1/completions", #"{"prompt":"a","max_tokens":3}"#)
      return try await gateway.get("/metrics").text
    }
    var rendered: [String: (kind: String, labels: Set<String>)] = [:]
    for line in text.split(separator: "\n") {
      let words = line.split(separator: " ")
      if line.hasPrefix("# TYPE ") { rendered[String(words[2])] = (String(words[3]), []) }
      guard !line.hasPrefix("#") else { continue }
      let name = line.prefix { $0 != "{" && $0 != " " }
      let family = ["_bucket", "_sum", "_count"].reduce(String(name)) {
        $0.hasSuffix($1) && rendered[$0] == nil ? String($0.dropLast($1.count)) : $0
      }
      guard let open = line.firstIndex(of: "{"), let close = line.lastIndex(of: "}") else { continue }
      for label in line[line.index(after: open)..<close].split(separator: ",") {
        let label = String(label.prefix { $0 != "=" })
        if label != "le" { rendered[family]?.labels.insert(label) }
      }
    }
    #expect(Set(rendered.keys) == Set(documented.keys))
    for (name, (kind, labels)) in rendered {
      #expect(documented[name]?.kind == kind, "\(name)")
      #expect(Set(documented[name]?.labels ?? []) == labels, "\(name)")
    }
  }

  @Test("counts are those of what was asked, and made-up methods and routes make no series")
  func counts() async throws {
    try await withGateway { gateway in
      // Those that the parser knows; it refuses others.
      for (index, method) in ["PURGE", "LOCK", "MKCOL", "TRACE", "REPORT"].enumerated() {
        _ = try await gateway.send(method, "/tea/\(index)", body: nil)
        _ = try await gateway.get("/v1/models/nothing-\(index)")
      }
      let before = try await gateway.get("/metrics").text
      #expect(before.contains(#"fusionroute_http_requests_total{route="other",method="other",status="404"} 5"#))
      #expect(before.contains(#"{route="/v1/models/{id}",method="GET",status="404"} 5"#))
      #expect(!before.contains("tea") && !before.contains("PURGE") && !before.contains("nothing-"))
      let answer = try await gateway.post("/v1/completions", #"{"prompt":"a b","max_tokens":4,"temperature":0}"#)
      let tokens = try #require(try answer.json("usage", "completion_tokens") as? Int)
      let prompt = try #require(try answer.json("usage", "prompt_tokens") as? Int)
      let after = try await gateway.get("/metrics").text
      #expect(after.contains("fusionroute_generated_tokens_total \(tokens)\n"))
      #expect(after.contains("fusionroute_prompt_tokens_total \(prompt)\n"))
      #expect(after.contains(#"fusionroute_answers_total{outcome="finished"} 1"#))
      #expect(after.contains("fusionroute_first_token_seconds_count 1\n"))
      #expect(after.contains("fusionroute_queue_seconds_count 1\n"))
    }
  }

  /// Two replicas whose numbers do not add up to one that there is.
  private static let boasters = """
    {"version":"0.1.0","uptime_s":1,"ready":true,"reason":"",
     "router":{"model":"r","context":8,"slots":1,"queued":0,"resident_sequences":0,"kv_tokens":0,"evaluated_tokens":0},
     "experts":[
      {"name":"ant","routed":true,"tokens":0,"replicas":[
       {"id":"1","host":"h","pid":1,"state":"serving","slots":4,"context":8,"sequences":0,"under_way":0,
        "queued":\(Int.max),"resident_sequences":0,"kv_tokens":\(Int.max),"evaluated_tokens":\(UInt64.max),
        "silence_ms":0,"batch_invariant":true},
       {"id":"2","host":"h","pid":2,"state":"serving","slots":4,"context":8,"sequences":0,"under_way":0,
        "queued":1,"resident_sequences":0,"kv_tokens":1,"evaluated_tokens":\(UInt64.max),"silence_ms":0,
        "batch_invariant":true}]}],
     "requests":{"running":0,"waiting":0,"queue_limit":1,"finished":0,"failed":0,"cancelled":0,"refused":0},
     "totals":{"prompt_tokens":0,"cached_tokens":0,"generated_tokens":0,"failovers":0,"row_bytes":0,
      "router_queue_us":0,"router_compute_us":0,"wire_us":0,"expert_queue_us":0,"expert_compute_us":0,"merge_us":0},
     "tokens_per_second":0}
    """

  @Test("sums of what workers tell stay at the largest number instead of ending the service")
  func sums() throws {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    let status = try decoder.decode(CoordinatorStatus.self, from: Data(Self.boasters.utf8))
    let text = MetricsRenderer(
      status: status, http: GatewayMetrics.State(), connections: 0, connectionLimit: 1, bodyBytes: 0, answersRunning: 0,
      lostLogLines: 0
    ).render()
    #expect(text.contains("fusionroute_expert_kv_tokens{expert=\"ant\"} \(Int.max)\n"))
    #expect(text.contains("fusionroute_expert_queued{expert=\"ant\"} \(Int.max)\n"))
    #expect(text.contains("fusionroute_expert_slots{expert=\"ant\"} 8\n"))
  }
}

import Coordinator
import Core
import Foundation
import TestSupport
import Testing

/// Prompts that are scored count, wait and end like everything else that a request asks for.
@Suite(.serialized) struct ScoringTests {
  final class Spans: TraceSink {
    private let collected = LockedBox<[TraceSpan]>([])

    var all: [TraceSpan] { collected.withValue { $0 } }

    func record(_ span: TraceSpan) { collected.withValue { $0.append(span) } }
  }

  private static let path = "/v1/completions"

  private static func scoring(_ prompt: String = #""the weather is""#, user: String) -> String {
    #"{"prompt":\#(prompt),"max_tokens":0,"echo":true,"logprobs":1,"user":"\#(user)"}"#
  }

  @Test("an echoed prompt waits in its client's turn and queue, ends at the deadline, and is in the trace")
  func scoring() async throws {
    let spans = Spans()
    try await withGateway(
      context: 2048, slots: 1,
      coordinator: {
        $0.queueLimit = 8
        $0.clientQueueLimit = 1
        $0.traceSink = spans
      }
    ) { gateway in
      let status = { gateway.cluster.coordinator.status().requests }
      let running = try await LifeTests.stream(gateway)
      let waiting = try RawConnection(port: gateway.port)
      waiting.send(ConnectionTests.post(#"{"prompt":"a","max_tokens":1,"user":"first"}"#, path: Self.path))
      try await ConnectionTests.eventually { status().waiting == 1 }
      let refused = try await gateway.post(Self.path, Self.scoring(user: "first"))
      #expect(refused.status == 429, "the client's queue is full: \(refused.text)")
      let late = try await gateway.post(
        Self.path, Self.scoring(user: "second"), headers: ["x-request-timeout": "0.05"])
      #expect(late.status == 504, "\(late.text)")
      #expect(try late.string("error", "code") == "deadline_exceeded")
      #expect(status().running == 1 && status().waiting == 1)
      running.disconnect()
      waiting.disconnect()
      try await ConnectionTests.eventually { status().running == 0 && status().waiting == 0 }

      let trace = "0af7651916cd43dd8448eb211c80319c"
      let scored = try await gateway.post(
        Self.path, Self.scoring(#"["the weather is","a good day"]"#, user: "second"),
        headers: ["traceparent": "00-\(trace)-b7ad6b7169203331-01", "x-request-id": "scored"])
      #expect(scored.status == 200, "\(scored.text)")
      #expect((try scored.json("choices", 1, "logprobs", "token_logprobs") as? [Any])?.isEmpty == false)
      let requests = spans.all.filter { $0.traceID == trace && $0.name == "request" && $0.attributes["tokens"] != nil }
      #expect(requests.count == 2, "one for each prompt: \(spans.all.filter { $0.traceID == trace })")
      for span in requests {
        #expect(span.parentID == "b7ad6b7169203331" && span.attributes["request_id"] == .string("scored"))
      }
    }
  }
}

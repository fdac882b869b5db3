import Foundation
import TestSupport
import Testing

@testable import Gateway

/// `response_format` over HTTP, on random models: whatever they would say, the answer has the form that was asked for.
@Suite(.serialized) struct StructuredOutputTests {
  private static let schema =
    #"{"type":"object","properties":{"level":{"enum":["low","high"]},"count":{"type":"integer","minimum":0,"maximum":99},"#
    + #""tags":{"type":"array","items":{"type":"boolean"},"maxItems":3}},"required":["level","count","tags"]}"#

  private func body(_ format: String, _ more: String) -> String {
    #"{"messages":[{"role":"user","content":"Hello"}],"response_format":\#(format),\#(more)}"#
  }

  private var format: String {
    #"{"type":"json_schema","json_schema":{"name":"x","strict":true,"schema":\#(Self.schema)}}"#
  }

  private func check(_ text: String?) throws {
    let text = try #require(text)
    let object = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any]
    let value = try #require(object, "\(text)")
    #expect(Set(value.keys) == ["level", "count", "tags"])
    #expect(["low", "high"].contains(value["level"] as? String))
    #expect((0...99).contains(try #require(value["count"] as? Int)))
    #expect(try #require(value["tags"] as? [Bool]).count <= 3)
  }

  @Test func answersFollowTheirSchema() async throws {
    try await withGateway { gateway in
      for sampling in [
        #""temperature":0"#, #""temperature":1,"seed":4,"n":3"#, #""temperature":1.5,"top_p":0.9,"seed":2"#,
      ] {
        let answer = try await gateway.post("/v1/chat/completions", body(format, sampling + #","max_tokens":120"#))
        try #require(answer.status == 200, "\(answer.text)")
        let choices = try #require(try answer.json("choices") as? [[String: Any]])
        for choice in choices {
          #expect(choice["finish_reason"] as? String == "stop")
          try check((choice["message"] as? [String: Any])?["content"] as? String)
        }
      }
    }
  }

  @Test func streamsFollowTheirSchema() async throws {
    try await withGateway { gateway in
      let answer = try await gateway.post(
        "/v1/chat/completions", body(format, #""temperature":1,"seed":9,"stream":true,"max_tokens":120"#))
      try #require(answer.status == 200, "\(answer.text)")
      let deltas = try answer.chunks().compactMap {
        (($0["choices"] as? [[String: Any]])?.first?["delta"] as? [String: Any])?["content"] as? String
      }
      try check(deltas.joined())
    }
  }

  @Test func anObjectBegins() async throws {
    try await withGateway { gateway in
      let answer = try await gateway.post(
        "/v1/chat/completions", body(#"{"type":"json_object"}"#, #""temperature":1,"seed":1,"max_tokens":24"#))
      try #require(answer.status == 200, "\(answer.text)")
      #expect(try answer.string("choices", 0, "message", "content")?.hasPrefix("{") == true)
    }
  }
}

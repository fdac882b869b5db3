import Coordinator
import Core
import Foundation
import Fusion
import Inference
import TestSupport
import Testing

/// Answers over HTTP against those of the coordinator itself.
@Suite(.serialized) struct AnswerTests {
  @Test("a chat's text is the coordinator's, streamed and whole")
  func chat() async throws {
    try await withGateway { gateway in
      let router = gateway.cluster.coordinator.router
      let prompt = try router.promptTokens(chat: [ChatMessage(role: "user", content: "the weather is good")])
      for temperature in ["0", "0.9"] {
        var sampling = SamplingParameters(temperature: Float(temperature) ?? 0, seed: 5)
        sampling.topP = 0.95
        let (tokens, summary) = try await gateway.cluster.answer(
          GenerationRequest(prompt: prompt, maximumTokens: 40, sampling: sampling))
        let request = """
          {"model":"fusionroute","messages":[{"role":"user","content":"the weather is good"}],"max_tokens":40,
           "temperature":\(temperature),"seed":5,"top_p":0.95
          """
        let whole = try await gateway.post("/v1/chat/completions", request + "}")
        #expect(whole.status == 200, "\(whole.text)")
        #expect(try whole.string("choices", 0, "message", "content") == summary.text)
        #expect(try whole.string("choices", 0, "finish_reason") == summary.finishReason.rawValue)
        #expect(try whole.json("usage", "completion_tokens") as? Int == tokens.count)
        #expect(try whole.json("usage", "prompt_tokens") as? Int == prompt.count)
        let streamed = try await gateway.post(
          "/v1/chat/completions", request + #", "stream": true, "stream_options": {"include_usage": true}}"#)
        #expect(streamed.status == 200 && streamed.headers["content-type"] == "text/event-stream")
        #expect(streamed.events.last == "[DONE]")
        let chunks = try streamed.chunks()
        let choices = chunks.compactMap { ($0["choices"] as? [[String: Any]])?.first }
        let text = choices.compactMap { ($0["delta"] as? [String: Any])?["content"] as? String }.joined()
        #expect(text == summary.text)
        let ids = choices.flatMap { ($0["fusionroute"] as? [String: Any])?["tokens"] as? [[String: Any]] ?? [] }
          .compactMap { $0["id"] as? Int }
        #expect(ids == tokens.map { Int($0.id) })
        #expect((chunks.last?["usage"] as? [String: Any])?["completion_tokens"] as? Int == tokens.count)
      }
    }
  }

  @Test("models, health, readiness, status and metrics")
  func service() async throws {
    try await withGateway { gateway in
      let models = try await gateway.get("/v1/models")
      let data = try #require(try models.json("data") as? [[String: Any]])
      #expect(
        data.compactMap { $0["id"] as? String } == [
          "fusionroute", "fusionroute:router", "fusionroute:no-complement", "fusionroute:expert:math",
          "fusionroute:expert:code", "fusionroute:expert:instruct",
        ])
      #expect(try await gateway.get("/v1/models/fusionroute:expert:code").string("id") == "fusionroute:expert:code")
      #expect(try await gateway.get("/v1/models/other").status == 404)
      #expect(try await gateway.get("/health").status == 200)
      #expect(try await gateway.get("/ready").status == 200)
      let status = try await gateway.get("/fusionroute/status")
      #expect(try status.json("ready") as? Bool == true)
      #expect((try status.json("experts") as? [Any])?.count == 3)
      let metrics = try await gateway.get("/metrics")
      #expect(metrics.text.contains("\nfusionroute_ready 1\n"))
      #expect(
        metrics.text.contains(#"fusionroute_http_requests_total{route="/v1/models/{id}",method="GET",status="404"} 1"#))
    }
  }
}

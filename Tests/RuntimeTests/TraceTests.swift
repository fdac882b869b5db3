import Coordinator
import Core
import Foundation
import Fusion
import Inference
import ModelFiles
import TestSupport
import Testing

private final class CollectingSink: TraceSink {
  private let collected = LockedBox<[TraceSpan]>([])

  var spans: [TraceSpan] { collected.withValue { $0 } }

  func record(_ span: TraceSpan) { collected.withValue { $0.append(span) } }
}

@Suite(.serialized) struct TraceTests {
  private static func trace(sampled: Bool = true) throws -> TraceContext {
    try #require(
      TraceContext(
        requestID: "req-1", traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0\(sampled ? 1 : 0)"))
  }

  @Test("a sampled request leaves spans of itself, its wait, its prefill and its tokens; another leaves none")
  func spans() async throws {
    let scratch = try Scratch("spans")
    let models = try TestModels.make(in: scratch)
    let sink = CollectingSink()
    try await withCluster(models, scratch: scratch, configure: { $0.traceSink = sink }) { cluster in
      var request = GenerationRequest(prompt: GenerationTests.prompt(12), maximumTokens: 10)
      _ = try await cluster.answer(request)
      request.trace = try Self.trace(sampled: false)
      _ = try await cluster.answer(request)
      #expect(sink.spans.isEmpty)

      let before = UInt64(Date().timeIntervalSince1970 * 1e9)
      request.trace = try Self.trace()
      let tokens = try await cluster.answer(request).tokens
      let spans = sink.spans
      #expect(spans.allSatisfy { $0.traceID == "0af7651916cd43dd8448eb211c80319c" })
      #expect(Set(spans.map(\.spanID)).count == spans.count)
      let root = try #require(spans.last)
      #expect(root.name == "request" && root.parentID == "b7ad6b7169203331")
      #expect(root.attributes["request_id"] == .string("req-1") && root.attributes["mode"] == .string("fusion"))
      #expect(root.attributes["generated_tokens"] == .integer(tokens.count))
      #expect(
        root.start >= before - 1_000_000_000 && root.end <= UInt64(Date().timeIntervalSince1970 * 1e9) + 1_000_000_000)
      let parts = spans.dropLast()
      #expect(parts.map(\.name) == ["queue", "prefill"] + tokens.dropFirst().map { _ in "token" })
      #expect(parts.allSatisfy { $0.parentID == root.spanID })
      for (span, next) in zip(parts, parts.dropFirst()) {
        #expect(span.start <= span.end && span.end <= next.start)
      }
      #expect(parts.allSatisfy { $0.start >= root.start && $0.end <= root.end })
      for (span, token) in zip(parts.dropFirst(), tokens) {
        #expect(span.attributes["token"] == .integer(Int(token.id)))
        #expect(span.attributes["expert"] == token.expert.map { .string($0) })
        #expect(span.attributes["evaluated_by_expert"] == .integer(token.evaluatedByExpert))
      }

      let count = sink.spans.count
      _ = try await cluster.coordinator.score([1, 2, 3], first: 1, mode: .expert("math"), trace: try Self.trace())
      #expect(sink.spans.dropFirst(count).map(\.name) == ["queue", "request"])
      // What fails says so.
      request.deadline = .zero
      _ = try? await cluster.answer(request)
      guard case .string(let sentence)? = sink.spans.last?.attributes["error"] else {
        Issue.record("no error in \(sink.spans.last?.attributes ?? [:])")
        return
      }
      #expect(sentence.contains("deadline"))
    }
  }

  @Test("a request id that breaks the rules is refused before anything is sent")
  func badID() async throws {
    let scratch = try Scratch("badid")
    let models = try TestModels.make(in: scratch)
    try await withCluster(models, scratch: scratch) { cluster in
      var request = GenerationRequest(prompt: [1, 2], maximumTokens: 2)
      request.trace = try Self.trace()
      request.trace?.requestID = "two words"
      await #expect(throws: FusionRouteError.self) { try await cluster.answer(request) }
    }
  }
}

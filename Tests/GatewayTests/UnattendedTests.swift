import Coordinator
import Core
import Foundation
import HTTPTypes
import HummingbirdCore
import Logging
import NIOCore
import TestSupport
import Testing

@testable import Gateway

/// Deadlines, traces and refusals of requests that are written down before they run, and downloads that end early.
@Suite(.serialized) struct UnattendedTests {
  /// A gateway with a journal and one slot, whose requests wait for experts until `body` starts them.
  private static func withoutExperts(
    coordinator: (inout CoordinatorConfiguration) -> Void = { _ in },
    configure: (inout GatewayConfiguration) -> Void = { _ in }, _ body: (TestGateway) async throws -> Void
  ) async throws {
    let scratch = try Scratch("idle")
    let cluster = try InProcessCluster(
      GatewayModels.get(), scratch: scratch, slots: 1,
      configure: {
        $0.expertWait = .seconds(30)
        coordinator(&$0)
      })
    do {
      let gateway = try await TestGateway(cluster) {
        $0.journal = scratch.path("journal.db")
        configure(&$0)
      }
      do { try await body(gateway) } catch {
        try? await gateway.stop()
        throw error
      }
      try await gateway.stop()
      await cluster.stop()
    } catch {
      await cluster.stop()
      throw error
    }
  }

  @Test("a batch's request waits for its turn, whatever deadline is configured for those who wait themselves")
  func batches() async throws {
    try await Self.withoutExperts(configure: { $0.requestDeadline = .milliseconds(200) }) { gateway in
      let status = { gateway.cluster.coordinator.status().requests }
      let running = try RawConnection(port: gateway.port)
      running.send(
        ConnectionTests.post(
          SecurityTests.completion, path: CompletionTests.path, more: "X-Request-Timeout: 600\r\n"))
      try await ConnectionTests.eventually { status().running == 1 }
      let uploaded = try await BatchTests.upload(gateway, BatchTests.line("a", SecurityTests.completion))
      let created = try await BatchTests.create(gateway, file: try #require(try uploaded.string("id")))
      let batch = try #require(try created.string("id"))
      try await ConnectionTests.eventually { status().waiting == 1 }
      // It comes later, so when its time is over the batch's request has waited longer than that.
      let late = try await gateway.post(CompletionTests.path, SecurityTests.completion)
      #expect(try late.status == 504 && late.string("error", "code") == "deadline_exceeded", "\(late.text)")
      try await gateway.cluster.startAll(GatewayModels.get())
      let ended = try await BatchTests.wait(gateway, batch)
      #expect(try ended.json("request_counts", "completed") as? Int == 1, "\(ended.text)")
      #expect(try ended.json("request_counts", "failed") as? Int == 0)
      running.disconnect()
    }
  }

  @Test("with an idempotency key, too, headers set deadline and trace; what ran out of time may come again")
  func idempotency() async throws {
    let spans = ScoringTests.Spans()
    try await Self.withoutExperts(coordinator: { $0.traceSink = spans }) { gateway in
      let trace = "0af7651916cd43dd8448eb211c80319c"
      let headers = [
        "idempotency-key": "k", "traceparent": "00-\(trace)-b7ad6b7169203331-01", "x-request-id": "again",
      ]
      let late = try await gateway.post(
        CompletionTests.path, SecurityTests.completion, headers: headers.merging(["x-request-timeout": "0.2"]) { $1 })
      #expect(try late.status == 504 && late.string("error", "code") == "deadline_exceeded", "\(late.text)")
      try await gateway.cluster.startAll(GatewayModels.get())
      let answer = try await gateway.post(CompletionTests.path, SecurityTests.completion, headers: headers)
      #expect(answer.status == 200 && answer.headers["idempotent-replayed"] == nil, "\(answer.text)")
      // A span ends when its answer has gone out.
      try await ConnectionTests.eventually {
        spans.all.contains {
          $0.name == "request" && $0.attributes["generated_tokens"] != nil && $0.traceID == trace
            && $0.parentID == "b7ad6b7169203331" && $0.attributes["request_id"] == .string("again")
        }
      }
    }
  }

  @Test("while bodies fill the server's memory requests are told when to come again, and accepted ones wait")
  func overloaded() async throws {
    let scratch = try Scratch("full")
    try await withCluster(GatewayModels.get(), scratch: scratch) { cluster in
      var logger = Logger(label: "test")
      logger.logLevel = .critical
      let environment = try GatewayEnvironment(
        configuration: GatewayConfiguration(host: "127.0.0.1", port: 0), coordinator: cluster.coordinator,
        logger: logger)
      let others = environment.bodies.share()
      #expect(others.take(environment.bodies.limit))
      let body = Array(SecurityTests.completion.utf8)
      let request = Request(
        head: HTTPRequest(method: .post, scheme: nil, authority: nil, path: CompletionTests.path),
        body: RequestBody(buffer: ByteBuffer(bytes: body)))
      let refused = await #expect(throws: GatewayError.self) {
        _ = try await RequestBodyText.bytes(request, environment: environment)
      }
      #expect(refused?.code == "overloaded" && refused?.retryAfter == 1 && refused?.closes == true)
      let later = await #expect(throws: UnattendedAnswers.NotNow.self) {
        _ = try await UnattendedAnswers(environment: environment).answer(
          .completion, body: body, client: "x", deadline: nil,
          trace: TraceContext(traceparent: nil, requestID: nil), priority: .interactive)
      }
      #expect(later?.reason.code == "overloaded" && later?.reason.retryAfter == 1)
      withExtendedLifetime(others) {}
    }
  }

  @Test("a file that is deleted while it is read ends the connection: its client would wait for the rest")
  func deletedWhileRead() async throws {
    let scratch = try Scratch("deleted")
    try await BatchTests.withBatches(scratch, configure: { $0.maximumBody = 64 << 20 }) { gateway in
      // More than the system keeps for a client that does not read.
      let size = 32 << 20
      let line = String(repeating: "x", count: 1_023) + "\n"
      let uploaded = try await BatchTests.upload(gateway, String(repeating: line, count: size / 1_024))
      let file = try #require(try uploaded.string("id"), "\(uploaded.text)")
      let reader = try RawConnection(port: gateway.port, receiveBuffer: 4096)
      reader.send("GET /v1/files/\(file)/content HTTP/1.1\r\nHost: localhost\r\n\r\n")
      #expect(await reader.read(until: "\r\n\r\n"))
      #expect(try await gateway.send("DELETE", "/v1/files/\(file)", body: nil).status == 200)
      let text = try #require(await reader.readToEnd(), "the connection stays open")
      #expect(text.hasPrefix("HTTP/1.1 200 ") && text.utf8.count < size)
    }
  }
}
